"""What work costs: in units, at a utilisation, at another price, and as it was published."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmperf_core.bringup import Price
from llmperf_core.decide import (
    MILLION_IN_AND_OUT,
    MILLION_OUTPUT,
    THOUSAND_GOOD_REQUESTS,
    THOUSAND_REQUESTS,
    Outlay,
    Rates,
    Work,
    cost_of,
)
from llmperf_core.judge import Quantity
from llmperf_core.units import S_PER_H, format_usd

PRICE = Price(usd_per_h=7.09, as_of="2023-09-26", source="the study's page")
RATES = st.floats(min_value=1e-3, max_value=1e6)
PRICES = st.floats(min_value=1e-3, max_value=1e4)
SHARES = st.floats(min_value=0.01, max_value=1)


def price(usd_per_h: float) -> Price:
    """Return a price."""
    return Price(usd_per_h=usd_per_h, as_of="2026-11-25", source="a test")


@given(RATES, PRICES, SHARES)
def test_what_is_paid_in_an_hour_buys_what_is_done_in_it(
    per_s: float, usd_per_h: float, utilisation: float
) -> None:
    """USD/h ÷ (what is done in an hour) × amount, and hours × USD/h: two ways to the same."""
    cost = cost_of(
        MILLION_OUTPUT, Quantity(per_s, "tok/s"), price(usd_per_h), utilisation=utilisation
    )
    in_an_hour = per_s * S_PER_H * utilisation
    assert cost.usd.value == pytest.approx(usd_per_h / in_an_hour * 1_000_000)
    assert cost.hours.value * in_an_hour == pytest.approx(1_000_000)
    assert cost.minutes.value == pytest.approx(60 * cost.hours.value)
    assert cost.usd.value == pytest.approx(cost.hours.value * usd_per_h)
    assert (cost.usd.unit, cost.hours.unit, cost.minutes.unit) == ("USD", "h", "min")


@given(RATES, PRICES, st.floats(min_value=0.1, max_value=10))
def test_units_may_be_changed(per_s: float, usd_per_h: float, factor: float) -> None:
    """Twice the rate halves the cost, twice the price doubles it, twice the work doubles both."""
    one = cost_of(MILLION_OUTPUT, Quantity(per_s, "tok/s"), price(usd_per_h))
    faster = cost_of(MILLION_OUTPUT, Quantity(per_s * factor, "tok/s"), price(usd_per_h))
    more = Work(1_000_000 * factor, "tok", "more tokens")
    assert faster.usd.value == pytest.approx(one.usd.value / factor)
    assert one.at(price(usd_per_h * factor)).usd.value == pytest.approx(one.usd.value * factor)
    assert one.at(price(usd_per_h * factor)).hours == one.hours
    assert cost_of(more, Quantity(per_s, "tok/s"), one.price).usd.value == pytest.approx(
        one.usd.value * factor
    )


@given(RATES, st.floats(min_value=0, max_value=0.99), PRICES)
def test_the_interval_of_a_rate_is_that_of_the_cost(
    per_s: float, reach: float, usd_per_h: float
) -> None:
    """The fast end is the cheap one, and the value lies between the two."""
    ends = (per_s * (1 - reach), per_s * (1 + reach))
    cost = cost_of(MILLION_OUTPUT, Quantity(per_s, "tok/s", ends), price(usd_per_h))
    assert cost.usd.ci95 is not None
    low, high = cost.usd.ci95
    assert low <= cost.usd.value * (1 + 1e-9)
    assert high >= cost.usd.value * (1 - 1e-9)
    assert low == pytest.approx(usd_per_h * 1_000_000 / (ends[1] * S_PER_H))
    assert high == pytest.approx(usd_per_h * 1_000_000 / (ends[0] * S_PER_H))


def test_a_rate_that_may_be_nothing_may_cost_anything() -> None:
    """An interval that reaches 0 has no upper end of the cost; a rate of 0 has no cost at all."""
    cost = cost_of(THOUSAND_REQUESTS, Quantity(1.0, "req/s", (0.0, 2.0)), PRICE)
    assert cost.usd.ci95 is not None
    assert cost.usd.ci95[0] == pytest.approx(7.09 * 1000 / 7200)
    assert cost.usd.ci95[1] == math.inf
    assert cost_of(THOUSAND_REQUESTS, Quantity(0.0, "req/s"), PRICE).usd.value == math.inf


@pytest.mark.parametrize(
    ("tokens_per_s", "usd_per_h", "minutes", "usd"),
    [
        (120.0941633, 1.515, 138.78, 3.50),
        (71.70560104, 1.515, 232.43, 5.87),
        (33.33372399, 7.09, 499.99, 59.08),
        (449.9423027, 7.09, 37.04, 4.38),
        (61.45733054, 7.09, 271.19, 32.05),
        (47.15736567, 7.09, 353.43, 41.76),
        (24.5142928, 37.688, 679.88, 427.05),
        # Published as 18.72 min and 2.21 USD, and as 16.61 min and 10.43 USD.
        (295.6378071, 7.09, 56.38, 6.66),
        (321.5369158, 37.688, 51.83, 32.56),
    ],
)
def test_the_published_figures(
    tokens_per_s: float, usd_per_h: float, minutes: float, usd: float
) -> None:
    """The seven rows of the published study that are right, to the cent; and the two that are not.

    Source: "Llama 2 on Amazon SageMaker a Benchmark", its three tables.
    """
    cost = cost_of(MILLION_OUTPUT, Quantity(tokens_per_s, "tok/s"), price(usd_per_h))
    assert round(cost.minutes.value, 2) == minutes
    assert round(cost.usd.value, 2) == usd


@pytest.mark.parametrize(
    ("work", "rate", "utilisation", "says"),
    [
        (MILLION_OUTPUT, Quantity(1.0, "req/s"), 1.0, "are done in tok/s, not in req/s"),
        (THOUSAND_REQUESTS, Quantity(1.0, "tok/s"), 1.0, "are done in req/s, not in tok/s"),
        (THOUSAND_REQUESTS, Quantity(-1.0, "req/s"), 1.0, "not negative"),
        (THOUSAND_REQUESTS, Quantity(math.nan, "req/s"), 1.0, "not negative"),
        (THOUSAND_REQUESTS, Quantity(1.0, "req/s"), 0.0, "above 0 and at most 1"),
        (THOUSAND_REQUESTS, Quantity(1.0, "req/s"), 1.01, "above 0 and at most 1"),
    ],
)
def test_units_that_do_not_fit_are_refused(
    work: Work, rate: Quantity, utilisation: float, says: str
) -> None:
    """Tokens are not requests, and neither are negative."""
    with pytest.raises(ValueError, match=says):
        cost_of(work, rate, PRICE, utilisation=utilisation)


def test_a_stage_has_the_costs_that_are_known_of_it() -> None:
    """Of output, of both, of requests and of good ones; what is not known has none."""
    rates = Rates(
        output_tokens_per_s=Quantity(100.0, "tok/s", (90.0, 110.0)),
        requests_per_s=Quantity(2.0, "req/s"),
        goodput=Quantity(1.0, "req/s"),
        input_per_output=3.0,
    )
    costs = {cost.work: cost.usd.value for cost in rates.costs(PRICE)}
    assert costs[MILLION_OUTPUT] == pytest.approx(4 * costs[MILLION_IN_AND_OUT])
    assert costs[THOUSAND_GOOD_REQUESTS] == pytest.approx(2 * costs[THOUSAND_REQUESTS])
    assert rates.tokens_per_s == Quantity(400.0, "tok/s", (360.0, 440.0))
    half = {cost.work: cost.usd.value for cost in rates.costs(PRICE, utilisation=0.5)}
    assert half == {work: pytest.approx(2 * usd) for work, usd in costs.items()}
    assert Rates().costs(PRICE) == []
    assert Rates(output_tokens_per_s=Quantity(1.0, "tok/s")).tokens_per_s is None


def test_a_cost_says_its_amount() -> None:
    """In words, to the cent."""
    cost = cost_of(MILLION_OUTPUT, Quantity(295.6378071, "tok/s"), PRICE)
    assert str(cost) == "6.66 USD per 1M output tokens"


@given(*[st.floats(min_value=0, max_value=1e6)] * 3, PRICES)
def test_the_parts_of_an_outlay_are_the_whole(
    loaded_s: float, bring_up_s: float, idle_s: float, usd_per_h: float
) -> None:
    """Measuring, bringing up and idling, each apart, are what was paid."""
    outlay = Outlay(price=price(usd_per_h), loaded_s=loaded_s, bring_up_s=bring_up_s, idle_s=idle_s)
    parts = (outlay.loaded_usd, outlay.bring_up_usd, outlay.idle_usd)
    assert sum(parts) == pytest.approx(outlay.total_usd)
    assume(outlay.total_usd > 0)
    hours = (loaded_s + bring_up_s + idle_s) / S_PER_H
    assert outlay.total_usd / hours == pytest.approx(usd_per_h)


def test_an_outlay_in_words() -> None:
    """The 90 s of the study in the 20 minutes of an endpoint: 7 % of the bill."""
    outlay = Outlay(price=price(40), loaded_s=90, bring_up_s=900, idle_s=210)
    assert str(outlay) == "13.33 USD: 1.00 USD measuring, 10.00 USD bringing up, 2.33 USD idle"


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (0, "0.00 USD"),
        (3.504, "3.50 USD"),
        (0.999, "1.00 USD"),
        (0.99, "0.99 USD"),
        (0.01234, "0.012 USD"),
        (0.0996, "0.10 USD"),
        (0.0000123, "0.000012 USD"),
        (25449.3, "25,449.30 USD"),
        (-2.5, "-2.50 USD"),
    ],
)
def test_money_is_shown_to_the_cent(usd: float | None, shown: str) -> None:
    """And smaller sums with two digits that say something."""
    assert format_usd(usd) == shown
