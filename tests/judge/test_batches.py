"""Values in batches: kept as they are, or in histograms when they are many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.judge import batches as module
from llmperf_core.judge.batches import Batches
from llmperf_core.judge.intervals import BATCHES


def filled(values: np.ndarray, *, chunks: int = 1, keep_all: bool = False) -> Batches:
    """Return batches of single values, in their order, taken in so many chunks."""
    made = Batches(keep_all=keep_all)
    numbers = np.arange(values.size) * BATCHES // max(values.size, 1)
    for part in np.array_split(np.arange(values.size), chunks):
        made.add([values[k : k + 1] for k in part], numbers[part])
    return made


def test_no_values_have_no_distribution() -> None:
    """None, and not 0."""
    empty = Batches()
    empty.add([], np.empty(0, dtype=np.int64))
    assert (empty.count, empty.mean, empty.extremes) == (0, None, None)
    assert (empty.percentile(50), empty.interval(50)) == (None, None)
    assert empty.worth(0) == 0


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300).map(np.array), st.integers(1, 5))
def test_chunks_do_not_matter(values: np.ndarray, chunks: int) -> None:
    """However the values come in, the same is known of them."""
    whole, parts = filled(values), filled(values, chunks=chunks)
    assert (whole.mean, whole.extremes) == (parts.mean, parts.extremes)
    for percentile in (0, 50, 99):
        assert whole.percentile(percentile) == parts.percentile(percentile)
        assert whole.interval(percentile or 90) == parts.interval(percentile or 90)


def test_many_values_go_into_histograms(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are then known to 1 in 1,000, and so are the intervals; count and extremes exactly."""
    values = np.random.default_rng(1).exponential(1e8, 5000).astype(np.int64)
    exact = filled(values, chunks=7)
    monkeypatch.setattr(module, "EXACT_UP_TO", 2000)
    folded, kept = filled(values, chunks=7), filled(values, chunks=7, keep_all=True)
    assert (exact.is_exact, folded.is_exact, kept.is_exact) == (True, False, True)
    assert (folded.count, folded.extremes, folded.mean) == (5000, exact.extremes, exact.mean)
    assert folded.ordered().size == 0
    for percentile in (50, 90, 99):
        assert folded.percentile(percentile) == pytest.approx(
            exact.percentile(percentile), rel=0.002
        )
        found, expected = folded.interval(percentile), exact.interval(percentile)
        assert found is not None
        assert expected is not None
        assert found == pytest.approx(expected, rel=0.03)


def test_histograms_of_values_that_do_not_fit_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than ten hours is counted and has no distribution."""
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    folded = filled(np.full(20, 2**62))
    assert (folded.count, folded.extremes, folded.percentile(50)) == (20, None, None)
    assert folded.interval(50) is None
