"""Percentiles and intervals against NumPy, against tables and against chance itself."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmperf_core.judge.batches import Batches
from llmperf_core.judge.intervals import (
    BATCHES,
    batch_means_interval,
    enclosing_ranks,
    least_count,
    level_interval,
    percentile_of,
    supports,
)


@given(arrays(np.int64, st.integers(1, 100), elements=st.integers(0, 10**12)), st.floats(0, 100))
def test_percentiles_are_numpys(values: np.ndarray, percentile: float) -> None:
    """Linear between the nearest ranks, as everybody expects."""
    expected = np.percentile(values, percentile)
    assert percentile_of(np.sort(values), percentile) == pytest.approx(expected, rel=1e-9, abs=1e-3)


@pytest.mark.parametrize(
    ("percentile", "least"), [(50, 6), (90, 36), (95, 72), (99, 368), (99.9, 3688)]
)
def test_the_least_counts_follow_from_the_rule(percentile: float, least: int) -> None:
    """One value fewer, and no interval exists."""
    assert least_count(percentile) == least
    assert supports(least, percentile)
    assert not supports(least - 1, percentile)
    assert enclosing_ranks(least, percentile) is not None
    assert enclosing_ranks(least - 1, percentile) is None
    assert enclosing_ranks(0, percentile) is None


@pytest.mark.parametrize(
    ("count", "ranks"), [(6, (1, 6)), (10, (2, 9)), (25, (8, 18)), (50, (18, 33)), (100, (40, 61))]
)
def test_ranks_of_the_median_are_those_of_the_tables(count: int, ranks: tuple[int, int]) -> None:
    """To the next rank outside; between two ranks, the chance is met and not only kept.

    Source: the sign test's tables, such as Hahn and Meeker (1991), table A.16.
    """
    found = enclosing_ranks(count, 50)
    assert found is not None
    assert (math.floor(found[0]), math.ceil(found[1])) == ranks


@pytest.mark.parametrize("percentile", [50, 90, 99, 99.9])
def test_exact_and_approximate_ranks_meet(percentile: float) -> None:
    """Where the normal approximation takes over, it is within a few ranks of the exact sum."""
    exact = enclosing_ranks(100_000, percentile)
    approximate = enclosing_ranks(100_001, percentile)
    assert exact is not None
    assert approximate is not None
    assert np.abs(np.subtract(exact, approximate)).max() <= 3


def percentile_interval(
    ordered: np.ndarray, percentile: float, worth: int
) -> tuple[float, float] | None:
    """Return the interval of a percentile of sorted values that are worth so many."""
    levels = level_interval(percentile, worth)
    if levels is None:
        return None
    return percentile_of(ordered, levels[0]), percentile_of(ordered, levels[1])


@pytest.mark.parametrize("percentile", [50, 90, 95])
def test_the_interval_covers_the_truth_as_often_as_it_says(percentile: float) -> None:
    """2,000 samples of 80 from a skewed distribution: 95 % of the intervals hold it."""
    rng = np.random.default_rng(20240615)
    truth = -math.log(1 - percentile / 100) * 1e9
    rows = np.sort(rng.exponential(1e9, (2000, 80)).astype(np.int64), axis=1)
    intervals = [percentile_interval(row, percentile, 80) for row in rows]
    held = sum(i is not None and i[0] <= truth <= i[1] for i in intervals)
    assert held / len(rows) == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / len(rows)))


def worth(parts: Sequence[np.ndarray], threshold: float) -> int:
    """Return how many independent values those of some requests are worth at a percentile."""
    batches = Batches()
    batches.add(parts, np.arange(len(parts)) * BATCHES // max(len(parts), 1))
    return batches.worth(threshold)


def test_values_that_resemble_each_other_are_worth_less() -> None:
    """Of requests whose gaps are all alike, each is worth about one value, not a hundred.

    So the interval of the median covers the truth, where that of the naive count almost never does.
    """
    rng = np.random.default_rng(7)
    naive = honest = 0
    for _ in range(200):
        levels = rng.normal(1e6, 1e5, 200).astype(np.int64)
        parts = list(levels[:, None] + rng.integers(0, 100, (200, 100)))
        ordered = np.sort(np.concatenate(parts))
        narrow = percentile_interval(ordered, 50, ordered.size)
        wide = percentile_interval(ordered, 50, worth(parts, percentile_of(ordered, 50)))
        assert narrow is not None
        assert wide is not None
        naive += narrow[0] <= 1e6 + 50 <= narrow[1]
        honest += wide[0] <= 1e6 + 50 <= wide[1]
    assert naive < 60
    assert 183 <= honest <= 198


def test_independent_values_are_worth_about_their_number() -> None:
    """Where nothing resembles, only the price of not having known it is taken away."""
    rng = np.random.default_rng(3)
    found = [worth(list(rng.integers(0, 10**9, (100, 50))), 5e8) for _ in range(200)]
    assert max(found) <= 10_000
    assert 3000 < np.median(found) < 5000


def test_few_requests_say_nothing_of_the_spread_between_requests() -> None:
    """Their gaps may be hundreds, but they are of four requests."""
    gaps = np.arange(100)
    assert worth([gaps] * 4, 50) == 0
    assert worth([gaps, np.empty(0, dtype=np.int64)], 50) == 0
    assert worth([], 50) == 0
    assert level_interval(50, 0) is None
    assert worth([gaps] * 5, 50) == 1000


def test_equal_values_have_no_spread() -> None:
    """A constant is known for certain, as far as one can see."""
    assert worth([np.zeros(10, dtype=np.int64)] * 5, 0) == 100


def test_batch_means() -> None:
    """Mean ± t · s / √k, by hand: 10 batches of mean 10 and standard deviation 1.054."""
    interval = batch_means_interval([9, 11] * (BATCHES // 2))
    assert interval == pytest.approx((10 - 0.754, 10 + 0.754), abs=1e-3)
    with pytest.raises(ValueError, match="at least 5 batches: 4"):
        batch_means_interval([1, 2, 3, 4])
