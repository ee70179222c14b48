"""What work costs on a target that is paid by the hour. Pure.

Hours, minutes and dollars of one figure come from one function, so they cannot disagree: the
published study printed minutes that were hours and dollars that were made of them.
"""

import math
from typing import Self

from attrs import evolve, field, frozen
from attrs.validators import ge, gt

from llmperf_core.bringup import Price
from llmperf_core.judge.quantity import Interval, Quantity
from llmperf_core.judge.summary import Summary
from llmperf_core.units import format_usd, h_from_s, min_from_h


@frozen
class Work:
    """An amount of something that a target does at a rate.

    Raises:
        ValueError: the amount is not positive.
    """

    amount: float = field(validator=gt(0))
    unit: str
    """`tok` or `req`: its rate is in that per second."""
    what: str
    """In words."""


MILLION_OUTPUT = Work(1_000_000, "tok", "1M output tokens")
MILLION_IN_AND_OUT = Work(1_000_000, "tok", "1M input + output tokens")
THOUSAND_REQUESTS = Work(1_000, "req", "1,000 requests")
THOUSAND_GOOD_REQUESTS = Work(1_000, "req", "1,000 requests that met the SLO")


@frozen(kw_only=True)
class Cost:
    """What some work takes of a target: hours, and the dollars that they cost."""

    work: Work
    hours: Quantity
    """Paid for: those in which the target had nothing to do are among them."""
    price: Price
    utilisation: float
    """The share of the paid hours in which the target is loaded as it was measured."""

    @property
    def usd(self) -> Quantity:
        """The hours × the price; the interval is that of the hours."""
        return _times(self.hours, self.price.usd_per_h, "USD")

    @property
    def minutes(self) -> Quantity:
        """The hours, in minutes."""
        return _times(self.hours, min_from_h(1), "min")

    def at(self, price: Price) -> Self:
        """Return what it would cost if the price were another one."""
        return evolve(self, price=price)

    def __str__(self) -> str:
        return f"{format_usd(self.usd.value)} per {self.work.what}"


def cost_of(work: Work, rate: Quantity, price: Price, *, utilisation: float = 1.0) -> Cost:
    """Return what work costs on a target that does it at a rate.

    Args:
        work: how much, of what.
        rate: how much of it a second while the target is loaded; 0 makes the cost infinite. Its
            interval gives the cost its own.
        price: of the target.
        utilisation: the share of the paid hours in which it is loaded, above 0 to 1.

    Raises:
        ValueError: the rate is of something else or negative, or the utilisation out of its range.

    Source: the published Llama 2 study's "time to generate 1 M tokens" and "cost to generate 1M
    tokens", as its seven right rows have them.
    """
    if rate.unit != f"{work.unit}/s":
        raise ValueError(f"{work.what} are done in {work.unit}/s, not in {rate.unit}")
    if not rate.value >= 0:
        raise ValueError(f"a rate is not negative: {rate.value:g}")
    if not 0 < utilisation <= 1:
        raise ValueError(f"a utilisation is above 0 and at most 1: {utilisation:g}")
    return Cost(
        work=work,
        hours=Quantity(
            _paid_h(work, rate.value, utilisation),
            "h",
            None if rate.ci95 is None else _paid_h_between(work, rate.ci95, utilisation),
        ),
        price=price,
        utilisation=utilisation,
    )


def _paid_h(work: Work, per_s: float, utilisation: float) -> float:
    return h_from_s(work.amount / per_s) / utilisation if per_s > 0 else math.inf


def _paid_h_between(work: Work, rate: Interval, utilisation: float) -> Interval:
    slow, fast = rate
    return _paid_h(work, fast, utilisation), _paid_h(work, slow, utilisation)


def _times(quantity: Quantity, factor: float, unit: str) -> Quantity:
    ci95 = quantity.ci95
    scaled = None if ci95 is None else (ci95[0] * factor, ci95[1] * factor)
    return Quantity(quantity.value * factor, unit, scaled)


@frozen(kw_only=True)
class Rates:
    """What a target does a second under a load, as far as it is known."""

    output_tokens_per_s: Quantity | None = None
    requests_per_s: Quantity | None = None
    goodput: Quantity | None = None
    """Of these, the ones that met the SLO."""
    input_per_output: float | None = None
    """How many input tokens there are for each output token."""

    @classmethod
    def of(cls, summary: Summary) -> Self:
        """Return those of a stage."""
        return cls(
            output_tokens_per_s=summary.output_tokens_per_s,
            requests_per_s=summary.requests_per_s,
            goodput=summary.goodput,
            input_per_output=input_per_output(summary),
        )

    @property
    def tokens_per_s(self) -> Quantity | None:
        """Input and output tokens. The interval is that of the output: the mix is given."""
        if self.output_tokens_per_s is None or self.input_per_output is None:
            return None
        return _times(self.output_tokens_per_s, 1 + self.input_per_output, "tok/s")

    def costs(self, price: Price, *, utilisation: float = 1.0) -> list[Cost]:
        """Return the costs of what is known: of tokens, of requests, of good requests.

        Args:
            price: of the target.
            utilisation: the share of the paid hours in which it is loaded, above 0 to 1.
        """
        known = (
            (MILLION_OUTPUT, self.output_tokens_per_s),
            (MILLION_IN_AND_OUT, self.tokens_per_s),
            (THOUSAND_REQUESTS, self.requests_per_s),
            (THOUSAND_GOOD_REQUESTS, self.goodput),
        )
        return [
            cost_of(work, rate, price, utilisation=utilisation)
            for work, rate in known
            if rate is not None
        ]


def input_per_output(summary: Summary) -> float | None:
    """Return how many input tokens the requests had for each output token.

    Returns:
        None where the input tokens are not known of each request, or none came out.
    """
    tokens = summary.tokens
    return tokens.input / tokens.output if tokens.input is not None and tokens.output else None


@frozen(kw_only=True)
class Outlay:
    """What a target costs from its bring-up until it is gone, by what it does meanwhile.

    Raises:
        ValueError: a duration is negative.
    """

    price: Price
    loaded_s: float = field(validator=ge(0))
    """In the stages: warm-up, window and drain."""
    bring_up_s: float = field(default=0.0, validator=ge(0))
    """Until it could be asked. Most that offer targets by the hour bill it, too."""
    idle_s: float = field(default=0.0, validator=ge(0))
    """Up, and asked nothing: between stages, and while it is taken down."""

    @property
    def loaded_usd(self) -> float:
        """What measuring cost."""
        return self._usd(self.loaded_s)

    @property
    def bring_up_usd(self) -> float:
        """What bringing it up cost."""
        return self._usd(self.bring_up_s)

    @property
    def idle_usd(self) -> float:
        """What it cost while nothing was asked."""
        return self._usd(self.idle_s)

    @property
    def total_usd(self) -> float:
        """All of it."""
        return self._usd(self.loaded_s + self.bring_up_s + self.idle_s)

    def _usd(self, seconds: float) -> float:
        return h_from_s(seconds) * self.price.usd_per_h

    def __str__(self) -> str:
        return (
            f"{format_usd(self.total_usd)}: {format_usd(self.loaded_usd)} measuring, "
            f"{format_usd(self.bring_up_usd)} bringing up, {format_usd(self.idle_usd)} idle"
        )
