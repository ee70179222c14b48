"""Percentiles of exact values, and how far they can be trusted.

A percentile's interval is made of order statistics: whatever the distribution, the number of values
below the true percentile is binomial, so two ranks enclose it with a known probability.

Source: Hahn, Meeker, "Statistical Intervals" (1991), section 5.2.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from llmperf_core.judge.metrics import Values
from llmperf_core.judge.quantity import Interval

PERCENTILES: tuple[float, ...] = (50, 90, 95, 99, 99.9)
"""Those that a summary has."""
BATCHES = 20
"""Into how many equal parts a window is cut.

Source: Schmeiser, "Batch size effects in the analysis of simulation output" (1982): between 10
and 30; more gain little and leave batches too short to be independent.
"""
_TAIL = 0.025
_Z = NormalDist().inv_cdf(1 - _TAIL)
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
def enclosing_ranks(count: int, percentile: float) -> tuple[int, int] | None:
    """Return two ranks, counted from 1, that enclose the percentile in 95 % of samples or more.

    Returns:
        (lower, upper), each beyond it with a chance of 2.5 % at most; None for too small a count.
    """
    if not supports(count, percentile):
        return None
    p = percentile / 100
    if count > _EXACT_UP_TO:
        reach = _Z * math.sqrt(count * p * (1 - p))
        return math.floor(count * p - reach), math.ceil(count * p + reach) + 1
    at_most = _binomial_cdf(count, p)
    lower = int(np.searchsorted(at_most, _TAIL, side="right"))
    upper = int(np.searchsorted(at_most, 1 - _TAIL, side="left")) + 1
    return lower, upper


def _binomial_cdf(count: int, p: float) -> npt.NDArray[np.float64]:
    """Return the chance of at most k successes for k = 0 … count.

    In logarithms, as the coefficients of a few thousand trials do not fit a float.
    """
    k = np.arange(count + 1)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(k[1:]))))
    log_ways = log_factorial[count] - log_factorial - log_factorial[::-1]
    return np.cumsum(np.exp(log_ways + k * math.log(p) + (count - k) * math.log1p(-p)))


def percentile_interval(
    ordered: Values, percentile: float, *, independent: int | None = None
) -> Interval | None:
    """Return the 95 % interval of a percentile of sorted values.

    Args:
        ordered: shape (n,), non-decreasing.
        percentile: between 0 and 100.
        independent: how many independent values these n are worth; None for n.

    Returns:
        Two of the values; None if there are too few of them.
    """
    count = ordered.size
    worth = count if independent is None else min(independent, count)
    ranks = enclosing_ranks(worth, percentile)
    if ranks is None:
        return None
    scale = count / worth
    low = math.floor((ranks[0] - 1) * scale)
    high = min(math.ceil(ranks[1] * scale), count) - 1
    return float(ordered[low]), float(ordered[high])


def independent_values(parts: Sequence[Values], threshold: float) -> int:
    """Return how many independent values the values of some requests are worth at a percentile.

    The gaps of one request resemble each other, and a stall of the server lengthens a gap of
    each request that is in flight. So the requests, in their order, are put into at most
    `BATCHES` batches, and what counts is how much the share of values up to `threshold` differs
    from batch to batch. A million gaps with a common cause are not a million observations.

    Args:
        parts: the values of each request, in the order of starting.
        threshold: the percentile's value.

    Returns:
        From 0, if the batches are too few to differ, to the number of values.

    Source: Woodruff, "Confidence intervals for medians and other position measures" (1952), with
    the ratio estimator's variance over batches.
    """
    batches = [batch for batch in _batches(parts) if batch.size]
    if len(batches) < 2:
        return 0
    sizes = np.array([batch.size for batch in batches])
    below = np.array([np.count_nonzero(batch <= threshold) for batch in batches])
    total = int(sizes.sum())
    share = below.sum() / total
    spread = float(np.square(below - share * sizes).sum())
    variance = spread * len(batches) / (len(batches) - 1) / total**2
    return total if variance == 0 else min(total, int(share * (1 - share) / variance))


def _batches(parts: Sequence[Values]) -> list[Values]:
    filled = [part for part in parts if part.size]
    count = min(BATCHES, len(filled))
    edges = [len(filled) * i // count for i in range(count + 1)] if count else []
    return [np.concatenate(filled[start:stop]) for start, stop in pairwise(edges)]


def batch_means_interval(values_per_batch: npt.ArrayLike) -> Interval:
    """Return the 95 % interval of a mean from the means of equal, consecutive batches.

    Neighbouring requests depend on each other, long batches hardly do, so their spread is honest
    where that of single requests is too small.

    Args:
        values_per_batch: shape (k,), k ≥ 5, in the unit of the interval.

    Raises:
        ValueError: fewer than five batches.

    Source: Law, Kelton, "Simulation Modeling and Analysis", section 9.5.3.
    """
    values = np.asarray(values_per_batch, dtype=np.float64)
    if values.size < 5:
        raise ValueError(f"an interval needs at least 5 batches: {values.size}")
    mean = float(values.mean())
    reach = _student_t(values.size - 1) * float(values.std(ddof=1)) / math.sqrt(values.size)
    return mean - reach, mean + reach


def _student_t(freedom: int) -> float:
    """Return the 97.5 % point of Student's t, to 0.3 % from 4 degrees of freedom on.

    Source: Abramowitz, Stegun, "Handbook of Mathematical Functions", 26.7.5.
    """
    z, v = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
