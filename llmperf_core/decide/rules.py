"""The three rules of the published study, each as text and as code."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from attrs import evolve, frozen

from llmperf_core.decide.candidate import Candidate
from llmperf_core.decide.cost import (
    MILLION_OUTPUT,
    THOUSAND_GOOD_REQUESTS,
    THOUSAND_REQUESTS,
    Work,
    cost_of,
)
from llmperf_core.decide.needs import Needs, RuleName
from llmperf_core.judge.estimate import Estimate
from llmperf_core.judge.metrics import Direction
from llmperf_core.judge.quantity import Quantity

USUAL_LATENCIES = ("time_per_token.p50", "tpot.p50", "e2e.p50")
"""What the latency rule takes where it is not told: the first that is known of all."""
_RATES: Mapping[str, tuple[Work, str]] = {
    "goodput": (THOUSAND_GOOD_REQUESTS, "requests that met the SLO"),
    "output_tokens_per_s": (MILLION_OUTPUT, "output tokens"),
    "requests_per_s": (THOUSAND_REQUESTS, "requests"),
}
"""By the figure: the work whose cost is ranked, and what is done per second."""

Score: TypeAlias = Callable[[Candidate, Estimate], Estimate]
"""Makes the ranked value of what was measured."""


def _as_measured(_candidate: Candidate, measured: Estimate) -> Estimate:
    return measured


@frozen(kw_only=True, eq=False)
class Rule:
    """How candidates are ranked."""

    name: RuleName
    title: str
    text: str
    """The rule in words."""
    figure: str
    """What is measured, by its name."""
    unit: str
    """Of what is ranked."""
    direction: Direction
    """Which values of it are better."""
    score: Score = _as_measured
    needs_price: bool = False

    def lacks(self, candidate: Candidate) -> str | None:
        """Return what a candidate lacks to be ranked by it; None if nothing."""
        measured = candidate.estimates(self.figure)
        if not measured:
            return f"its {self.figure} is not known"
        if not all(one.value > 0 for one in measured):
            return f"its {self.figure} is 0"
        if self.needs_price and candidate.price is None:
            return "its price is not known"
        if self.needs_price and candidate.price and not candidate.price.usd_per_h:
            return "it costs nothing, so what it saves cannot be said"
        return None


def rules_for(needs: Needs, candidates: Sequence[Candidate]) -> list[Rule]:
    """Return the rules that are asked for, each with a figure that these candidates have."""
    return [_RULES[name](needs, candidates) for name in needs.rules]


def _cost(needs: Needs, candidates: Sequence[Candidate]) -> Rule:
    figure = _rate_of(needs, candidates)
    work, done = _RATES[figure]

    def usd(candidate: Candidate, rate: Estimate) -> Estimate:
        if candidate.price is None:
            raise ValueError(f"{candidate} has no price")
        per_s = Quantity(rate.value, f"{work.unit}/s")
        cost = cost_of(work, per_s, candidate.price, utilisation=needs.utilisation)
        # A price is known: the cost is as uncertain as the rate.
        return evolve(rate, value=cost.usd.value)

    loaded = "" if needs.utilisation == 1 else f" ÷ {needs.utilisation:g} of the hour loaded"
    return Rule(
        name="cost",
        title="most cost-effective",
        text=f"the lowest cost of {work.what}: USD/h ÷ ({done} per second × 3,600) × "
        f"{work.amount:,.0f}{loaded}",
        figure=figure,
        unit=f"USD per {work.what}",
        direction="lower",
        score=usd,
        needs_price=True,
    )


def _throughput(needs: Needs, candidates: Sequence[Candidate]) -> Rule:
    figure = _rate_of(needs, candidates)
    work, done = _RATES[figure]
    return Rule(
        name="throughput",
        title="best throughput",
        text=f"the most {done} per second, whatever it costs",
        figure=figure,
        unit=f"{work.unit}/s",
        direction="higher",
    )


def _latency(needs: Needs, candidates: Sequence[Candidate]) -> Rule:
    usual = (name for name in USUAL_LATENCIES if all(map(_knows(name), candidates)))
    name = needs.latency or next(usual, USUAL_LATENCIES[0])
    known = next((c.figure(name) for c in candidates if c.figure(name)), None)
    direction = "lower" if known is None else known.direction
    return Rule(
        name="latency",
        title="best latency",
        text=f"the {'lowest' if direction == 'lower' else 'highest'} {name}",
        figure=name,
        unit="ms" if known is None else known.unit,
        direction=direction,
    )


_RULES: Mapping[RuleName, Callable[[Needs, Sequence[Candidate]], Rule]] = {
    "cost": _cost,
    "throughput": _throughput,
    "latency": _latency,
}


def _rate_of(needs: Needs, candidates: Sequence[Candidate]) -> str:
    """Return the rate to rank by: of good requests under an SLO, of tokens, else of requests."""
    if needs.slo is not None:
        return "goodput"
    counted = all(map(_knows("output_tokens_per_s"), candidates))
    asked = all(map(_knows("requests_per_s"), candidates))
    return "requests_per_s" if asked and not counted else "output_tokens_per_s"


def _knows(name: str) -> Callable[[Candidate], bool]:
    return lambda candidate: candidate.figure(name) is not None
