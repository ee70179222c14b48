"""The estimate of Kaplan and Meier against published figures and against the truth."""

import numpy as np
import pytest

from llmperf_core.judge.batches import Batches
from llmperf_core.judge.intervals import BATCHES
from llmperf_core.judge.survival import Survival


def batches(values: np.ndarray) -> Batches:
    """Return the values in their order, each of one request."""
    made = Batches(keep_all=True)
    numbers = np.arange(values.size) * BATCHES // max(values.size, 1)
    made.add([values[k : k + 1] for k in range(values.size)], numbers)
    return made


# Weeks of remission of 21 leukaemia patients, of whom 12 were still in it.
# Source: Freireich and others (1963), as in every textbook on survival.
SEEN = np.array([6, 6, 6, 7, 10, 13, 16, 22, 23])
CUT_OFF = np.array([6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35])


def test_the_estimate_is_that_of_the_textbooks() -> None:
    """The share above 6 weeks is 0.857, above 10 0.753, above 23 0.448: the median is 23."""
    found = Survival(batches(SEEN), batches(CUT_OFF))
    above = dict(zip(found._steps.at.tolist(), found._steps.above.round(3).tolist(), strict=True))
    assert above == {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    error = found._steps.above * np.sqrt(found._steps.greenwood)
    assert error.round(3).tolist() == [0.076, 0.087, 0.096, 0.107, 0.114, 0.128, 0.135]
    assert found.percentile(50) == 23
    assert found.percentile(90) is None
    assert found.mean is None


def test_without_censoring_it_is_the_plain_distribution() -> None:
    """Percentiles are order statistics, and the mean is the mean."""
    values = np.random.default_rng(5).permutation(1000) + 1
    found = Survival(batches(values), batches(values[:0]))
    assert [found.percentile(p) for p in (50, 90, 99)] == [500, 900, 990]
    assert found.mean == pytest.approx(500.5)
    interval = found.interval(50)
    assert interval is not None
    assert interval == pytest.approx((500 - 31, 500 + 31), abs=16)


def test_an_interval_that_ends_beyond_what_was_seen_is_none() -> None:
    """Nobody can say how far the tail reaches, where all that is left was cut off."""
    values = np.random.default_rng(6).permutation(400) + 1
    found = Survival(batches(values[values < 201]), batches(np.full(200, 201)))
    assert found.percentile(49) is not None
    assert found.interval(49) is None
    assert found.percentile(51) is None
    assert found.interval(51) is None


def test_few_values_are_worth_no_interval() -> None:
    """Nine patients are a median, and too few batches to say how much they differ."""
    found = Survival(batches(SEEN[:4]), batches(CUT_OFF))
    assert found.percentile(20) is not None
    assert found.interval(20) is None


@pytest.mark.parametrize("percentile", [50, 90])
def test_the_interval_covers_the_truth(percentile: float) -> None:
    """400 samples of 800 exponential values, a sixth of them cut off at random: 95 % hold it.

    Those that were seen whole are too quick: their own percentile lies below the interval.
    """
    rng = np.random.default_rng(8)
    truth = -np.log(1 - percentile / 100) * 1e9
    held = missed = 0
    for _ in range(400):
        values, limits = rng.exponential(1e9, 800), rng.exponential(5e9, 800)
        seen = values <= limits
        found = Survival(
            batches(values[seen].astype(np.int64)), batches(limits[~seen].astype(np.int64))
        )
        interval = found.interval(percentile)
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
        missed += bool(np.percentile(values[seen], percentile) < interval[0])
    assert 0.92 <= held / 400 <= 0.98
    assert missed > 200
