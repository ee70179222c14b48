"""Percentiles, and how far they can be trusted.

A percentile's interval is made of order statistics: whatever the distribution, the number of values
below the true percentile is binomial, so two ranks enclose it with a known probability. That holds
of independent values. Those of a loaded server are not: requests wait in one queue and share one
batch, so an interval of bare ranks holds the median in 61 to 88 of 100 cases and not in 95
(`docs/statistics.md` has the study). So it is told how many independent values they are worth.

Source: Hahn, Meeker, "Statistical Intervals" (1991), section 5.2.
"""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from llmperf_core.judge.metrics import Values
from llmperf_core.judge.quantity import Interval
from llmperf_core.judge.student import two_sided_point

PERCENTILES: tuple[float, ...] = (50, 90, 95, 99, 99.9)
"""Those that a summary has."""
BATCHES = 10
"""Into how many equal parts a window is cut.

Source: Schmeiser, "Batch size effects in the analysis of simulation output" (1982): between 10
and 30. It is the fewest of these, as long batches depend least on each other: in a trial of
250 runs, 20 let the coverage of a slowly drifting server fall to 91 %.
"""
LEAST_BATCHES = 5
"""Fewer say too little of the spread between them."""
MOST_WORTH = 2
"""Values that repel each other, as in a closed loop, are worth more than their number; up to this
many times, for the spread of ten batches may be small by chance."""
_TAIL = 0.025
_CHANCE = 2 * _TAIL
NORMAL_975 = NormalDist().inv_cdf(1 - _TAIL)
"""The 97.5 % point of the normal distribution."""
# Beyond it the normal approximation is off by less than a rank in a thousand, and an exact sum over
# all ranks starts to cost milliseconds.
_EXACT_UP_TO = 100_000


def supports(count: int, percentile: float) -> bool:
    """Return whether so many values can enclose the percentile between two of them.

    They can if both "all lie below it" and "all lie above it" have a chance of 2.5 % at most.
    """
    p = percentile / 100
    return count > 0 and max(p, 1 - p) ** count <= _TAIL


def least_count(percentile: float) -> int:
    """Return the smallest count that `supports` the percentile, such as 72 for p95."""
    p = percentile / 100
    return math.ceil(math.log(_TAIL) / math.log(max(p, 1 - p)))


def percentile_of(ordered: Values, percentile: float) -> float:
    """Return a percentile of sorted values, linear between the two nearest ranks.

    Args:
        ordered: shape (n,), n ≥ 1, non-decreasing.
        percentile: 0 to 100.

    Source: Hyndman, Fan, "Sample quantiles in statistical packages" (1996), definition 7.
    """
    rank = (ordered.size - 1) * percentile / 100
    below = math.floor(rank)
    above = min(below + 1, ordered.size - 1)
    low, high = int(ordered[below]), int(ordered[above])
    return low + (high - low) * (rank - below)


@lru_cache(maxsize=1024)
def enclosing_ranks(count: int, percentile: float) -> tuple[float, float] | None:
    """Return two ranks, counted from 1, that enclose the percentile in 95 % of samples.

    Returns:
        (lower, upper), each beyond it with a chance of 2.5 %; between two ranks where none has
        just that chance. None for too small a count.

    Source: Hettmansperger, Sheather, "Confidence intervals based on interpolated order statistics"
    (1986), with the interpolation linear.
    """
    if not supports(count, percentile):
        return None
    p = percentile / 100
    if count > _EXACT_UP_TO:
        reach = NORMAL_975 * math.sqrt(count * p * (1 - p))
        return count * p - reach + 0.5, count * p + reach + 0.5
    # The value of rank r is above the percentile if at most r − 1 values are below it.
    at_most = binomial_cdf(count, p)
    lower, upper = np.interp((_TAIL, 1 - _TAIL), at_most, np.arange(count + 1)) + 1
    return float(lower), float(upper)


def binomial_cdf(count: int, p: float) -> npt.NDArray[np.float64]:
    """Return the chance of at most k successes for k = 0 … count.

    In logarithms, as the coefficients of a few thousand trials do not fit a float.
    """
    k = np.arange(count + 1)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(k[1:]))))
    log_ways = log_factorial[count] - log_factorial - log_factorial[::-1]
    return np.cumsum(np.exp(log_ways + k * math.log(p) + (count - k) * math.log1p(-p)))


def level_interval(percentile: float, worth: int) -> Interval | None:
    """Return the two percentiles of a sample that enclose that of the distribution in 95 %.

    Args:
        percentile: between 0 and 100.
        worth: how many independent values the sample is worth.

    Returns:
        From 0 to 100; None if the sample is worth too little.
    """
    ranks = enclosing_ranks(worth, percentile)
    if ranks is None:
        return None
    low, high = (100 * (rank - 1) / max(worth - 1, 1) for rank in ranks)
    return max(low, 0.0), min(high, 100.0)


def independent_values(below: npt.ArrayLike, sizes: npt.ArrayLike) -> int:
    """Return how many independent values those of some batches are worth at a percentile.

    Neighbouring requests resemble each other, and so do the gaps of one request. What counts is how
    much the share of values below the percentile differs from batch to batch: a million gaps with a
    common cause are not a million observations.

    Args:
        below: shape (k,): in each batch of consecutive requests, the values up to the percentile.
        sizes: shape (k,): in each batch, the values.

    Returns:
        From 0, if there are fewer batches than `LEAST_BATCHES`, to twice the number of values.
        Such that an interval made of the normal distribution with it is as wide as one made of
        Student's, as the spread is itself known of a few batches only.

    Source: Woodruff, "Confidence intervals for medians and other position measures" (1952), with
    the ratio estimator's variance over batches (Cochran, "Sampling Techniques", section 6.3).
    """
    size = np.asarray(sizes, dtype=np.float64)
    batches = int(np.count_nonzero(size))
    if batches < LEAST_BATCHES:
        return 0
    inside = np.asarray(below, dtype=np.float64)
    total = float(size.sum())
    share = float(inside.sum()) / total
    spread = float(np.square(inside - share * size).sum())
    variance = spread * batches / (batches - 1) / total**2
    most = int(MOST_WORTH * total)
    if variance == 0:
        return most
    narrower = (NORMAL_975 / two_sided_point(_CHANCE, batches - 1)) ** 2
    return min(most, int(share * (1 - share) / variance * narrower))


def batch_means_interval(values_per_batch: npt.ArrayLike) -> Interval:
    """Return the 95 % interval of a mean from the means of equal, consecutive batches.

    Neighbouring requests depend on each other, long batches hardly do, so their spread is honest
    where that of single requests is too small.

    Args:
        values_per_batch: shape (k,), k ≥ `LEAST_BATCHES`, in the unit of the interval.

    Raises:
        ValueError: fewer than `LEAST_BATCHES`.

    Source: Law, Kelton, "Simulation Modeling and Analysis", section 9.5.3.
    """
    values = np.asarray(values_per_batch, dtype=np.float64)
    if values.size < LEAST_BATCHES:
        raise ValueError(f"an interval needs at least {LEAST_BATCHES} batches: {values.size}")
    mean = float(values.mean())
    reach = (
        two_sided_point(_CHANCE, values.size - 1)
        * float(values.std(ddof=1))
        / math.sqrt(values.size)
    )
    return mean - reach, mean + reach
