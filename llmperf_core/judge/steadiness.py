"""Where a series settles, and whether it stays there.

A stage begins with an empty server, cold caches and all slots at once. What is measured before that
has passed belongs to no figure; and a series that never settles has no percentile to speak of.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from llmperf_core.judge.intervals import BATCHES
from llmperf_core.judge.metrics import began_at_ns
from llmperf_core.timeline import Instants, Timeline, Window

Series = npt.NDArray[np.float64]
"""float64, shape (n,): one value for each request, in the order of starting."""

LEAST_REQUESTS = 100
"""Fewer are not searched for a warm-up: twenty means of five can hardly show where it ends."""
_OF_EACH_MEAN = 5
_MARGIN = 2
"""In a trial, once MSER's cut left a bias of 1 to 2 % where caches fill exponentially, and a
coverage of 89 to 92 %; twice, a bias below 1 % and 94 to 95 %."""
_CONFIRMED = 3.25
"""The 99.5 % point of Student's t with `BATCHES` − 1 = 9 degrees of freedom. MSER finds a
least somewhere in any noise; to cut there for nothing would waste data that was paid for."""


@frozen
class Drift:
    """How a series changes from its first half to its second."""

    change: float
    """(mean of the second half − that of the first) ÷ the mean of all."""
    chance: float
    """That the order of the batches shows so much of a trend by itself. 0 to 1."""


@frozen(kw_only=True, eq=False)
class Steady:
    """The part of a planned window that counts."""

    window: Window
    """Opens where the warm-up is over, and closes as planned."""
    drift: Drift | None
    """Of the E2E in it; None if there are too few requests."""
    edges: Instants
    """Instants, shape (`BATCHES` − 1,): between two of them start equally many requests."""

    def batch_of(self, inside: Sequence[Timeline]) -> npt.NDArray[np.int64]:
        """Return for each request of the window the number of its batch, from 0."""
        began = [began_at_ns(timeline) for timeline in inside]
        return np.searchsorted(self.edges, began, side="right")


def steady(
    timelines: Iterable[Timeline], planned: Window, *, constant: bool = True, cut: bool = True
) -> Steady:
    """Return the part of the window after the warm-up, which the E2E of its requests show.

    It is cut by time: a figure's samples and the time that they are divided by are of one window.

    Args:
        timelines: the requests of a stage, in any order.
        planned: the window as it was asked for; at least half of its requests stay inside.
        constant: whether the load stays the same. Where it is meant to change, a trend says nothing
            of the server.
        cut: whether a warm-up is left out; never of a load that changes.
    """
    began, e2e = array("q"), array("q")
    for timeline in timelines:
        at_ns = began_at_ns(timeline)
        if at_ns in planned:
            began.append(at_ns)
            e2e.append(timeline.ended_at_ns - at_ns if timeline.completed else -1)
    starts, lengths = (np.frombuffer(part, dtype=np.int64) for part in (began, e2e))
    order = np.argsort(starts, kind="stable")
    starts, lengths = starts[order], lengths[order]
    window, drift = planned, None
    if constant:
        seen = lengths >= 0
        series, since = lengths[seen].astype(np.float64), starts[seen]
        first = warmup_requests(series) if cut else 0
        if first:
            window = evolve(planned, open_at_ns=int(since[first]))
        drift = drift_of(series[first:])
        starts = starts[starts >= window.open_at_ns]
    inner = starts.size * np.arange(1, BATCHES) // BATCHES
    edges = starts[inner] if starts.size else np.empty(0, dtype=np.int64)
    return Steady(window=window, drift=drift, edges=edges)


def warmup_requests(values: Series) -> int:
    """Return how many requests at the start of a series belong to its warm-up.

    The cut is that of MSER-5: where the means of five, from there on, give the mean of the rest
    with the least standard error. It is made if what is left out differs from what is kept by more
    than their batches do; and not at half of the series, where MSER says that it found none.

    Returns:
        A multiple of five, below half of the series.

    Source: White, Cobb, Spratt, "A comparison of five steady-state truncation heuristics for
    simulation" (2000), for MSER-5; Hoad, Robinson, Davies, "Automating warm-up length estimation"
    (2010), for the bound at half.
    """
    if values.size < LEAST_REQUESTS:
        return 0
    means = values[: values.size // _OF_EACH_MEAN * _OF_EACH_MEAN].reshape(-1, _OF_EACH_MEAN)
    series = means.mean(axis=1) - values.mean()  # smaller numbers lose less when squared
    # For each cut: the sums over what is kept.
    kept = np.arange(series.size, 0, -1)
    sums, squares = (np.cumsum(part[::-1])[::-1] for part in (series, np.square(series)))
    half = series.size // 2
    errors = (squares - np.square(sums) / kept)[: half + 1] / np.square(kept[: half + 1])
    cut = int(np.argmin(errors))
    if cut in (0, half) or not _differ(series[:cut], series[cut:]):
        return 0
    return min(_MARGIN * cut * _OF_EACH_MEAN, values.size // 2)


def _differ(start: Series, rest: Series) -> bool:
    batches = _batch_means(rest)
    per_value = float(batches.var(ddof=1)) * rest.size / BATCHES
    error = math.sqrt(per_value * (1 / start.size + 1 / rest.size))
    return abs(float(start.mean() - rest.mean())) > _CONFIRMED * error


def drift_of(values: Series) -> Drift | None:
    """Return how a series changes over its length; None if it is shorter than `LEAST_REQUESTS`.

    The chance is that of Mann and Kendall's test on the means of `BATCHES` batches, which depend
    on each other hardly, where single requests do.

    Source: Mann, "Nonparametric tests against trend" (1945); Kendall, "Rank Correlation Methods"
    (1948), for the exact distribution.
    """
    mean = float(values.mean()) if values.size else 0.0
    if values.size < LEAST_REQUESTS or mean == 0:
        return None
    batches = _batch_means(values)
    half = BATCHES // 2
    change = float(batches[half:].mean() - batches[:half].mean()) / mean
    later, earlier = np.tril_indices(BATCHES, -1)
    score = int(np.sign(batches[later] - batches[earlier]).sum())
    return Drift(change, _chance_of(abs(score)))


def _batch_means(values: Series) -> Series:
    return np.array([part.mean() for part in np.array_split(values, BATCHES)])


@cache
def _chance_of(score: int) -> float:
    """Return how often the score of `BATCHES` values in random order is as far from 0."""
    ways = np.ones(1)  # of having so many inversions; one more value adds 0 … its rank to them
    for values in range(2, BATCHES + 1):
        ways = np.convolve(ways, np.ones(values))
    scores = ways.size - 1 - 2 * np.arange(ways.size)
    return float(ways[np.abs(scores) >= score].sum() / ways.sum())
