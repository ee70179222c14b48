"""When a stage may stop, on requests whose truth is known."""

from typing import Any

import numpy as np
import pytest
from attrs import evolve

from llmperf_core.judge import Precision, Quantity
from llmperf_core.judge.precision import Watch
from llmperf_core.timeline import Completed, Failed, Timeline, TokenCount, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S

WINDOW = Window(open_at_ns=0, close_at_ns=10 * NS_PER_S)


def requests(count: int, spread_ms: float) -> list[Timeline]:
    """Return requests that start over 10 s, with an E2E around 100 ms and a single token."""
    e2e_ms = np.random.default_rng(1).normal(100, spread_ms, count)
    return [
        Timeline(
            index=k,
            due_at_ns=None,
            sent_at_ns=(sent := k * 10 * NS_PER_S // count),
            token_at_ns=[sent + 50 * NS_PER_MS],
            ended_at_ns=sent + round(e2e * NS_PER_MS),
            outcome=Completed(),
            tokens=TokenCount(output=10 + k % 3),
        )
        for k, e2e in enumerate(e2e_ms)
    ]


def watched(precision: Precision, timelines: list[Timeline]) -> bool:
    """Return whether these requests are enough."""
    watch = Watch(precision)
    for timeline in timelines:
        watch.note(timeline)
    return watch.is_enough(WINDOW)


@pytest.mark.parametrize(("spread_ms", "enough"), [(1, True), (60, False)])
def test_what_is_known_well_is_enough(spread_ms: float, enough: bool) -> None:  # noqa: FBT001
    """A median of 400 values with a spread of 1 % is known to 5 %; with one of 60 %, it is not."""
    assert watched(Precision("e2e", 50), requests(400, spread_ms)) is enough


@pytest.mark.parametrize("rate", ["requests_per_s", "output_tokens_per_s"])
def test_rates_can_be_watched(rate: str) -> None:
    """Requests at even distances are a rate that is soon known."""
    assert watched(Precision(rate, None), requests(400, 1))
    bursts = [t for k, t in enumerate(requests(800, 1)) if k // 100 % 2]
    assert not watched(Precision(rate, None), bursts)


def test_few_requests_are_never_enough() -> None:
    """99 completed ones are not, whatever their spread, and failed ones do not count."""
    made = requests(150, 1)
    failed = [evolve(t, outcome=Failed("refused")) for t in made[99:]]
    assert not watched(Precision("e2e", 50), [*made[:99], *failed])
    assert watched(Precision("e2e", 50), made)


def test_what_the_answers_do_not_have_is_never_known() -> None:
    """Answers of a single event have no time per output token."""
    assert not watched(Precision("service_e2e", 50), requests(400, 1))


def test_a_value_without_an_interval_meets_nothing() -> None:
    """Nor does one of 0, of which nothing is a share."""
    precision = Precision("e2e", 50)
    for quantity in (None, Quantity(5, "ms"), Quantity(0, "ms", (0, 0))):
        assert not precision.is_met_by(quantity)
    assert precision.is_met_by(Quantity(100, "ms", (95, 105)))
    assert not precision.is_met_by(Quantity(100, "ms", (94, 105)))


def test_a_precision_says_what_it_asks_for() -> None:
    """In the words that the result repeats."""
    assert Precision("ttft", 90, relative=0.1).label == "ttft p90 ± 10 %"
    assert Precision("requests_per_s", None).label == "requests_per_s ± 5 %"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metric": "itl"}, "must be one of ttft, tpot, e2e"),
        ({"metric": "ttft", "percentile": None}, "for metrics and not for rates: ttft"),
        ({"metric": "requests_per_s"}, "for metrics and not for rates"),
        ({"relative": 0}, "relative"),
        ({"percentile": 100}, "percentile"),
    ],
    ids=str,
)
def test_what_cannot_be_watched_is_refused(given: dict[str, Any], message: str) -> None:
    """A metric of tokens, a rate with a percentile, a width of nothing."""
    with pytest.raises(ValueError, match=message):
        Precision(**given)
