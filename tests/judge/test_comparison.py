"""Better, worse, the same, or cannot be told: how often that is right."""

import math

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.judge import (
    Change,
    Estimates,
    Outcome,
    changes,
    estimate,
    figures_in_both,
    overall,
)
from llmperf_core.judge.comparison import smallest_detectable
from llmperf_core.judge.estimate import Estimate, Figure
from tests.judge.queue_model import Model

PAIRS = 20
SERVER = Model()
SLOWER = evolve(SERVER, step_ms=1.05 * SERVER.step_ms)
TTFT = Figure(metric="ttft", statistic="p50", unit="ms", direction="lower")
RATE = Figure(metric="requests_per_s", statistic="rate", unit="req/s", direction="higher")


def measured(model: Model, seed: int) -> Estimates:
    """Return the figures of a minute of the model."""
    return estimate(*model.run(seed))


def compared(a: Estimates, b: Estimates) -> list[Change]:
    """Return the changes of all figures."""
    return changes([(figure, a[figure], b[figure]) for figure in figures_in_both(a, b)])


def test_the_same_server_is_seldom_called_different() -> None:
    """Of 20 pairs of runs of one server, one at most has a figure called better or worse."""
    alarms = 0
    for seed in range(PAIRS):
        found = compared(measured(SERVER, seed), measured(SERVER, 1000 + seed))
        alarms += any(change.outcome in {"better", "worse"} for change in found)
    assert alarms <= 1


def test_a_5_percent_slower_decode_is_found_as_was_said_beforehand() -> None:
    """The baseline alone says that 5 % can be seen, and then it is seen, in 18 of 20 pairs."""
    found = 0
    for seed in range(PAIRS):
        baseline = measured(SERVER, seed)
        tests = sum(one.spread is not None for one in baseline.values())
        said = [
            smallest_detectable(one, tests=tests)
            for figure, one in baseline.items()
            if (figure.metric, figure.statistic) == ("itl", "p50")
        ]
        assert said[0] is not None
        assert said[0] < 0.05
        after = compared(baseline, measured(SLOWER, 2000 + seed))
        found += any(change.outcome == "worse" for change in after)
        assert not any(change.outcome == "better" for change in after)
    assert found >= 18


@pytest.mark.parametrize(
    ("figure", "value", "spread", "outcome"),
    [
        (TTFT, 110.0, 0.001, "worse"),
        (TTFT, 90.0, 0.001, "better"),
        (RATE, 110.0, 0.001, "better"),
        (RATE, 90.0, 0.001, "worse"),
        (TTFT, 101.0, 0.001, "same"),
        (TTFT, 101.0, 0.1, "cannot tell"),
        (TTFT, 130.0, 0.2, "cannot tell"),
        (TTFT, 100.0, 0.0, "same"),
        (TTFT, 110.0, 0.0, "worse"),
        (TTFT, 110.0, None, "cannot tell"),
    ],
)
def test_an_outcome_is_what_the_interval_says(
    figure: Figure, value: float, spread: float | None, outcome: str
) -> None:
    """Direction, margin and noise decide together."""
    (change,) = changes([(figure, Estimate(100, spread, 19), Estimate(value, spread, 19))])
    assert change.outcome == outcome
    assert change.effect == pytest.approx(value / 100 - 1)


def test_a_certain_change_within_the_margin_is_the_same() -> None:
    """A margin of 10 % lets 5 % pass, however certain; without a margin 0.1 % does not pass."""
    pair = (TTFT, Estimate(100, 1e-5, 19), Estimate(105, 1e-5, 19))
    assert changes([pair], margin=0.10)[0].outcome == "same"
    assert changes([pair], margin=0.05)[0].outcome == "worse"
    nearly = (TTFT, Estimate(100, 1e-5, 19), Estimate(100.1, 1e-5, 19))
    assert changes([nearly], margin=0)[0].outcome == "worse"


def test_many_figures_make_each_less_alarming() -> None:
    """What is worse by itself is not if it is one of a hundred that are alike."""
    odd = (TTFT, Estimate(100, 0.02, 19), Estimate(107, 0.02, 19))
    alike = (RATE, Estimate(100, 0.02, 19), Estimate(100, 0.02, 19))
    assert changes([odd])[0].outcome == "worse"
    assert changes([odd, *[alike] * 99])[0].outcome == "cannot tell"


def test_a_baseline_of_zero_has_no_effect() -> None:
    """Nothing is a share of nothing."""
    (change,) = changes([(TTFT, Estimate(0), Estimate(5, 0.1, 19))])
    assert (change.effect, change.ci95, change.p) == (None, None, None)
    assert change.outcome == "cannot tell"


def test_wild_noise_is_no_overflow() -> None:
    """An interval may be endless."""
    (change,) = changes([(TTFT, Estimate(1, 900, 1), Estimate(1, 900, 1))])
    assert change.ci95 is not None
    assert math.isinf(change.ci95[1])


@pytest.mark.parametrize(
    ("outcomes", "together"),
    [
        (["same", "worse", "better"], "worse"),
        (["same", "better", "cannot tell"], "better"),
        (["same", "cannot tell"], "cannot tell"),
        (["same", "same"], "same"),
        ([], "cannot tell"),
    ],
)
def test_several_outcomes_are_one(outcomes: list[Outcome], together: Outcome) -> None:
    """The worst that is proved; the same only if all are."""
    assert overall(outcomes) == together


spreads = st.floats(0, 0.5)
values = st.floats(0.1, 1e4)


@given(a=values, b=values, spread=spreads, margin=st.floats(0, 0.5))
def test_swapping_the_sides_turns_the_outcome_round(
    a: float, b: float, spread: float, margin: float
) -> None:
    """Whoever is better makes the other one worse, by the same factor."""
    one, other = Estimate(a, spread, 9), Estimate(b, spread, 9)
    (there,) = changes([(TTFT, one, other)], margin=margin)
    (back,) = changes([(TTFT, other, one)], margin=margin)
    turned = {"better": "worse", "worse": "better"}
    assert back.outcome == turned.get(there.outcome, there.outcome)
    assert there.effect is not None
    assert back.effect is not None
    assert (1 + there.effect) * (1 + back.effect) == pytest.approx(1)


@given(spread=st.floats(1e-6, 0.5), tests=st.integers(1, 100), margin=st.floats(0, 0.3))
def test_a_change_that_is_detectable_would_be_found(
    spread: float, tests: int, margin: float
) -> None:
    """A candidate that strays one way as often as not is beyond the smallest detectable change."""
    baseline = Estimate(100, spread, 19)
    least = smallest_detectable(baseline, tests=tests, margin=margin)
    assert least is not None
    pair = (TTFT, baseline, Estimate(100 * (1 + least), spread, 19))
    alike = (TTFT, baseline, baseline)
    assert changes([pair, *[alike] * (tests - 1)], margin=margin)[0].outcome == "worse"


def test_nothing_is_detectable_without_noise_known() -> None:
    """An aggregate says nothing of its noise."""
    assert smallest_detectable(Estimate(100), tests=1) is None
