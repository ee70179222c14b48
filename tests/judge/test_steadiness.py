"""Where a series settles and whether it stays there, on series whose truth is known."""

import numpy as np
import pytest
from attrs import evolve

from llmperf_core.judge.steadiness import drift_of, steady, warmup_requests
from llmperf_core.timeline import Censored, Completed, Timeline, Window
from llmperf_core.units import NS_PER_S


def noise(rng: np.random.Generator, count: int = 1000, *, memory: float = 0.0) -> np.ndarray:
    """Return a stationary series around 100 whose neighbours are correlated by `memory`."""
    steps = rng.normal(0, 10 * np.sqrt(1 - memory**2), count)
    series = np.empty(count)
    level = rng.normal(0, 10)
    for k in range(count):
        level = memory * level + steps[k]
        series[k] = 100 + level
    return series


@pytest.mark.parametrize("memory", [0, 0.8])
def test_nothing_is_cut_where_nothing_warms_up(memory: float) -> None:
    """Of 200 stationary series, correlated or not, few lose anything, and the loss is small."""
    rng = np.random.default_rng(1)
    cuts = [warmup_requests(noise(rng, memory=memory)) for _ in range(200)]
    assert np.mean(np.array(cuts) > 0) < 0.1
    assert np.mean(cuts) < 20


@pytest.mark.parametrize("length", [50, 200])
def test_a_slow_start_is_cut_off(length: int) -> None:
    """A start that is twice as slow is left out whole, and of the rest no more than as much."""
    series = noise(np.random.default_rng(2), memory=0.5)
    series[:length] *= 2
    assert length <= warmup_requests(series) <= 2 * length + 40


def test_a_quick_start_is_cut_off_too() -> None:
    """An empty server answers the first requests too quickly."""
    series = noise(np.random.default_rng(3))
    series[:100] -= 50
    assert 100 <= warmup_requests(series) <= 240


def test_what_never_settles_is_not_cut() -> None:
    """A trend to the end has no warm-up: there is nothing steady to cut it off from."""
    assert warmup_requests(noise(np.random.default_rng(4)) + np.arange(1000) / 5) == 0


def test_short_and_constant_series_are_left_alone() -> None:
    """Fewer than a hundred requests show nothing; equal ones have no start."""
    slow = np.array([1000.0] * 20 + [100.0] * 79)
    assert warmup_requests(slow) == 0
    assert warmup_requests(np.full(500, 7.0)) == 0


def test_the_chance_is_that_of_the_tables() -> None:
    """Ten batches in rising order: 2 of 10! orders are as extreme.

    Source: Kendall, "Rank Correlation Methods" (1948), appendix table 1: S = 27 or more of ten
    values has a chance of 0.0083.
    """
    drift = drift_of(np.arange(1.0, 1001.0))
    assert drift is not None
    assert drift.chance == pytest.approx(2 / 3_628_800)
    assert drift.change == pytest.approx(500 / 500.5)
    swapped = np.repeat([10.0, 2, 3, 4, 5, 6, 7, 8, 9, 1], 20)  # S = 45 − 2 · 17
    falling = np.repeat([1.0, 2, 3, 4, 5, 6, 7, 10, 9, 8][::-1], 20)  # S = −(45 − 2 · 3) = −39
    nine = np.repeat([4.0, 3, 2, 1, 5, 6, 7, 10, 9, 8], 20)  # S = 45 − 2 · 9 = 27
    chances = [found.chance for found in map(drift_of, (swapped, falling, nine)) if found]
    assert chances[0] > 0.3
    assert chances[1] < 0.001
    assert chances[2] / 2 == pytest.approx(0.0083, abs=1e-4)


def test_there_is_no_drift_of_little_or_of_nothing() -> None:
    """Fewer than a hundred requests, or a mean of 0."""
    assert drift_of(np.arange(99.0)) is None
    assert drift_of(np.zeros(200)) is None
    assert drift_of(np.empty(0)) is None


def test_stationary_series_are_rarely_said_to_drift() -> None:
    """About one of a hundred has a chance below 1 %."""
    rng = np.random.default_rng(5)
    found = [drift_of(noise(rng, memory=0.8)) for _ in range(500)]
    assert sum(drift is not None and drift.chance < 0.01 for drift in found) <= 15


PLANNED = Window(open_at_ns=10 * NS_PER_S, close_at_ns=20 * NS_PER_S)


def requests(e2e_ms: np.ndarray) -> list[Timeline]:
    """Return requests that start evenly over 0 to 20 s, with these E2E."""
    return [
        Timeline(
            index=k,
            due_at_ns=None,
            sent_at_ns=(sent := k * 20 * NS_PER_S // e2e_ms.size),
            ended_at_ns=sent + round(e2e * 1e6),
            outcome=Completed(),
        )
        for k, e2e in enumerate(e2e_ms)
    ]


def test_the_window_is_cut_by_time() -> None:
    """A server that is slow until 11 s makes the window open a second later, or somewhat more."""
    e2e_ms = noise(np.random.default_rng(6), 2000)
    e2e_ms[:1100] *= 3
    found = steady(requests(e2e_ms)[::-1], PLANNED)
    assert 11 * NS_PER_S <= found.window.open_at_ns <= 12.2 * NS_PER_S
    assert found.window.close_at_ns == PLANNED.close_at_ns
    assert found.drift is not None
    assert abs(found.drift.change) < 0.05
    inside = [t for t in requests(e2e_ms) if (t.sent_at_ns or 0) in found.window]
    assert np.bincount(found.batch_of(inside)).tolist() == pytest.approx(
        [len(inside) / 10] * 10, abs=1
    )


def test_a_load_that_changes_has_no_warmup() -> None:
    """What looks like one there is what was asked for."""
    e2e_ms = noise(np.random.default_rng(6), 2000)
    e2e_ms[:1100] *= 3
    found = steady(requests(e2e_ms), PLANNED, constant=False)
    assert (found.window, found.drift) == (PLANNED, None)


def test_only_completed_requests_tell_of_a_warmup() -> None:
    """Requests that were given up at the start say nothing of how long it took."""
    made = requests(noise(np.random.default_rng(7), 2000))
    made[1000:1100] = [
        evolve(t, outcome=Censored(), ended_at_ns=t.ended_at_ns + 9 * NS_PER_S)
        for t in made[1000:1100]
    ]
    assert steady(made, PLANNED).window == PLANNED


def test_no_request_leaves_the_window_as_it_is() -> None:
    """There is nothing to cut, and no batch to be in."""
    found = steady([], PLANNED)
    assert (found.window, found.drift, found.edges.size) == (PLANNED, None, 0)
    assert found.batch_of([]).size == 0
