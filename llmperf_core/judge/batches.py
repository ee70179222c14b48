"""The values of one metric over a window, in batches of consecutive requests."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from llmperf_core.judge.intervals import BATCHES, independent_values, level_interval, percentile_of
from llmperf_core.judge.metrics import Values
from llmperf_core.judge.quantity import Interval
from llmperf_core.judge.recorder import Recorder

Counts = npt.NDArray[np.int64]

EXACT_UP_TO = 4_000_000
"""So many values of a metric are kept as they are, in 32 MB; more go into histograms, which know
them to 1 in 1,000 in 3 MB, however many they are."""


class Batches:
    """Values that come in chunks, and what is known of their distribution.

    Each value belongs to one of `BATCHES` batches, numbered in the order of starting.
    """

    def __init__(self, *, keep_all: bool = False) -> None:
        self._keep_all = keep_all
        self._parts: list[list[Values]] = [[] for _ in range(BATCHES)]
        self._recorders: list[Recorder] | None = None
        self._whole: Values | Recorder | None = None
        self.count: int = 0
        """How many values there are."""

    def add(self, parts: Sequence[Values], batch: Counts) -> None:
        """Take the values of some requests in.

        Args:
            parts: an array for each request.
            batch: shape (len(parts),): the number of the batch of each.
        """
        if not parts:
            return
        order = np.argsort(batch, kind="stable")
        edges = np.searchsorted(batch[order], np.arange(BATCHES + 1))
        for number, (start, stop) in enumerate(pairwise(edges)):
            if start < stop:
                self._take(number, np.concatenate([parts[k] for k in order[start:stop]]))
        if not self._keep_all and self.is_exact and self.count > EXACT_UP_TO:
            self._record()

    def _take(self, number: int, values: Values) -> None:
        self.count += values.size
        self._whole = None
        if self._recorders is None:
            self._parts[number].append(values)
        else:
            self._recorders[number].record(values)

    def _record(self) -> None:
        self._recorders = [Recorder() for _ in range(BATCHES)]
        for recorder, parts in zip(self._recorders, self._parts, strict=True):
            for part in parts:
                recorder.record(part)
        self._parts = []

    def each(self) -> list[Values]:
        """Return the values of each batch, in no order; none if they went into histograms."""
        return [np.concatenate([np.empty(0, np.int64), *parts]) for parts in self._parts]

    @property
    def is_exact(self) -> bool:
        """Whether the values are kept as they are."""
        return self._recorders is None

    def ordered(self) -> Values:
        """Return all values, sorted; none if they went into histograms."""
        whole = self._all()
        return whole if isinstance(whole, np.ndarray) else np.empty(0, dtype=np.int64)

    def _all(self) -> Values | Recorder:
        if self._whole is None:
            if self._recorders is None:
                flat = [part for parts in self._parts for part in parts]
                empty = np.empty(0, dtype=np.int64)
                self._whole = np.sort(np.concatenate([empty, *flat]))
            else:
                self._whole = Recorder()
                for recorder in self._recorders:
                    self._whole = self._whole.merge(recorder)
        return self._whole

    def percentile(self, percentile: float) -> float | None:
        """Return a percentile; None if there are no values."""
        if not self.count:
            return None
        whole = self._all()
        if isinstance(whole, Recorder):
            return whole.percentile(percentile)
        return percentile_of(whole, percentile)

    def shape(self, bins: int) -> tuple[int, ...]:
        """Return how many values are in each of some bins from the smallest value to the largest.

        The bins are equally wide on a logarithmic scale; a value of 0 is in the first.
        """
        if self.extremes is None:
            return ()
        low, high = max(self.extremes[0], 1), max(self.extremes[1], 1)
        # The last edge is the largest value itself, whatever rounding makes of it.
        edges = [*np.geomspace(low, high, bins + 1)[1:-1], float(high)]
        whole = self._all()
        if isinstance(whole, Recorder):
            below = [whole.count_up_to(edge) for edge in edges]
        else:
            below = np.searchsorted(whole, edges, side="right").tolist()
        return tuple(np.diff(below, prepend=0).tolist())

    def worth(self, threshold: float) -> int:
        """Return how many independent values they are worth where this value is the percentile."""
        if self._recorders is None:
            sizes = [sum(part.size for part in parts) for parts in self._parts]
            below = [
                sum(int(np.count_nonzero(part <= threshold)) for part in parts)
                for parts in self._parts
            ]
        else:
            sizes = [recorder.count for recorder in self._recorders]
            below = [recorder.count_up_to(threshold) for recorder in self._recorders]
        return independent_values(below, sizes)

    def interval(self, percentile: float) -> Interval | None:
        """Return the 95 % interval of a percentile; None if the values are worth too few."""
        middle = self.percentile(percentile)
        levels = None if middle is None else level_interval(percentile, self.worth(middle))
        if levels is None:
            return None
        low, high = map(self.percentile, levels)
        return None if low is None or high is None else (low, high)

    @property
    def extremes(self) -> tuple[int, int] | None:
        """The smallest and the largest value; None if there are none."""
        whole = self._all()
        if isinstance(whole, Recorder):
            known = whole.min_ns, whole.max_ns
            return None if known[0] is None or known[1] is None else (known[0], known[1])
        return (int(whole[0]), int(whole[-1])) if whole.size else None

    @property
    def mean(self) -> float | None:
        """The arithmetic mean; None if there are no values."""
        whole = self._all()
        if isinstance(whole, Recorder):
            return whole.mean_ns
        return float(whole.mean()) if whole.size else None
