"""HDR histograms: what can be merged over processes and repeats, and read by other tools.

Source: the HdrHistogram V2 encoding and log format, https://github.com/HdrHistogram/HdrHistogram.
"""

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Self, TextIO

import numpy as np
import numpy.typing as npt
from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogWriter

from llmperf_core.errors import StoredRunError
from llmperf_core.judge.metrics import METRICS, Metric, Values, all_values
from llmperf_core.timeline import Timeline, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S, s_from_ns

LOWEST_NS = 1
HIGHEST_NS = 36_000 * NS_PER_S
"""Ten hours. What is longer, by more than the rounding of the last bucket, is counted apart."""
DIGITS = 3
"""Significant decimal digits that are kept: a value is known to 1 in 1,000. A recorder then has
37,888 buckets and takes 300 kB."""

_HALF = 10  # log2 of half the sub-buckets: 2 × 10**3 values of unit size need 2**11 of them
_SATURATED = re.compile(r"#\[Saturated: (\S+) (\d+)\]")
# All that the library raises on bytes that are no histogram, found by changing bytes at random.
_BROKEN = (
    ValueError,
    IndexError,
    OverflowError,
    zlib.error,
    HdrCookieException,
    HdrLengthException,
)
_INTERVAL = re.compile(r"Tag=([^,]+),[\d.]+,[\d.]+,[\d.]+,(\S+)")


class Recorder:
    """A histogram of durations in nanoseconds, from 0 to ten hours, to 1 in 1,000.

    Count, mean, minimum and maximum are exact. Nothing is lost: what does not fit is counted in
    `saturated`.
    """

    __slots__ = ("_counts", "_histogram", "max_ns", "min_ns", "saturated", "total_ns")

    def __init__(self) -> None:
        self._adopt(HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS))
        self.saturated: int = 0
        """How many values were negative or too large to record."""
        self.total_ns: float = 0
        """The sum of the values."""
        self.min_ns: int | None = None
        """The smallest value; None if nothing was recorded."""
        self.max_ns: int | None = None
        """The largest value; None if nothing was recorded."""

    def _adopt(self, histogram: HdrHistogram) -> None:
        self._histogram = histogram
        # The library's own counters, seen through numpy: nothing is copied to be encoded.
        self._counts: npt.NDArray[np.uint64] = np.frombuffer(histogram.counts, dtype=np.uint64)

    def record(self, values: Values) -> None:
        """Count the values: int64, shape (n,), in any order, in nanoseconds."""
        size = self._counts.size
        fits = (values >= 0) & (_bucket(np.maximum(values, 0)) < size)
        kept = values[fits]
        self.saturated += int(values.size - kept.size)
        if not kept.size:
            return
        self._counts += np.bincount(_bucket(kept), minlength=size).astype(np.uint64)
        self._extend(_exact_sum(kept), int(kept.min()), int(kept.max()), kept.size)

    def merge(self, other: "Recorder") -> "Recorder":
        """Return a new recorder of both recorders' values. Associative and commutative."""
        merged = Recorder()
        for part in (self, other):
            merged.saturated += part.saturated
            if part.min_ns is not None and part.max_ns is not None:
                merged._counts += part.counts
                merged._extend(part.total_ns, part.min_ns, part.max_ns, part.count)
        return merged

    def _extend(self, total: float, least: int, most: int, count: int) -> None:
        self.total_ns += total
        self.min_ns = least if self.min_ns is None else min(self.min_ns, least)
        self.max_ns = most if self.max_ns is None else max(self.max_ns, most)
        # What the library looks at when it encodes.
        self._histogram.total_count += count
        self._histogram.min_value = self.min_ns
        self._histogram.max_value = self.max_ns

    @property
    def counts(self) -> npt.NDArray[np.uint64]:
        """A copy of the counters: uint64, shape (37888,), in the order of HdrHistogram."""
        return self._counts.copy()

    @property
    def count(self) -> int:
        """How many values were recorded, without the saturated ones."""
        return int(self._histogram.total_count)

    @property
    def mean_ns(self) -> float | None:
        """The arithmetic mean; None if nothing was recorded."""
        return self.total_ns / self.count if self.count else None

    def percentile(self, percentile: float) -> int | None:
        """Return the value that this share of the values does not exceed, to 1 in 1,000.

        Args:
            percentile: 0 to 100.

        Returns:
            Nanoseconds, never below the exact value; None if nothing was recorded.

        Raises:
            ValueError: the percentile is out of its range.
        """
        if not 0 <= percentile <= 100:
            raise ValueError(f"a percentile is between 0 and 100: {percentile}")
        if self.max_ns is None:
            return None
        # Without the rounding, 99.9 % of 1,000 would be the 1,000th value, for 99.9 is no float.
        rank = max(1, math.ceil(round(percentile * self.count / 100, 6)))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        value = self._histogram.get_value_from_index(bucket)
        return min(int(self._histogram.get_highest_equivalent_value(value)), self.max_ns)

    def count_up_to(self, value: float) -> int:
        """Return how many values do not exceed this one, to the 1 in 1,000 that they are known."""
        bucket = int(_bucket(np.array([max(math.floor(value), 0)]))[0])
        return int(self._counts[: bucket + 1].sum()) if value >= 0 else 0

    def encode(self) -> str:
        """Return the HdrHistogram V2 compressed form in base 64."""
        encoded: bytes = self._histogram.encode()
        return encoded.decode("ascii")

    @classmethod
    def decode(cls, encoded: str) -> Self:
        """Return the recorder that `encode` was called on.

        Mean, minimum and maximum are then known to 1 in 1,000 as the percentiles are, and
        `saturated` is 0: the form has no place for more.

        Raises:
            ValueError: it is not the form of a recorder.
        """
        try:
            histogram = HdrHistogram.decode(encoded)
        except _BROKEN as error:
            raise ValueError(f"not an HdrHistogram: {error}") from error
        if _layout(histogram) != (LOWEST_NS, HIGHEST_NS, DIGITS):
            raise ValueError("an HdrHistogram of another range or precision")
        recorder = cls()
        recorder._adopt(histogram)
        used = np.flatnonzero(recorder._counts)
        if used.size:
            lows = [histogram.get_value_from_index(int(i)) for i in used]
            highs = [histogram.get_highest_equivalent_value(low) for low in lows]
            middles = (np.array(lows) + np.array(highs)) / 2
            recorder.total_ns = float(middles @ recorder._counts[used])
            recorder.min_ns, recorder.max_ns = int(lows[0]), int(highs[-1])
        return recorder

    def __repr__(self) -> str:
        return f"Recorder(count={self.count}, saturated={self.saturated})"


def _bucket(values: Values) -> npt.NDArray[np.int64]:
    """Return each value's index into the counters, for values of 0 and more.

    A bucket is found by a value's highest bit, a sub-bucket by the 11 bits from there on. Beyond
    2**53 the highest bit may come out one too high, which is far beyond the last bucket.
    """
    at_least = (values | ((2 << _HALF) - 1)).astype(np.float64)
    exponent = np.frexp(at_least)[1].astype(np.int64) - (_HALF + 1)
    return (exponent << _HALF) + (values >> exponent)


def _layout(histogram: HdrHistogram) -> tuple[int, int, int]:
    return (
        histogram.lowest_trackable_value,
        histogram.highest_trackable_value,
        histogram.significant_figures,
    )


def _exact_sum(values: Values) -> int:
    """Return the sum in Python's integers: int64 would overflow at 256,000 values of ten hours."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def record_all(
    timelines: Iterable[Timeline], metrics: Iterable[Metric] = METRICS
) -> dict[str, Recorder]:
    """Return a recorder of each metric over the requests, by the metric's name."""
    requests = list(timelines)
    recorders = {}
    for metric in metrics:
        recorders[metric.name] = recorder = Recorder()
        recorder.record(all_values(metric, requests))
    return recorders


def write_log(stream: TextIO, recorders: Mapping[str, Recorder], *, window: Window) -> None:
    """Write an HdrHistogram log of one interval, the window, with a tag for each recorder.

    Any HdrHistogram tool reads it. The values are in nanoseconds; the maximum beside each
    histogram is in milliseconds, as is usual.
    """
    writer = HistogramLogWriter(stream)
    writer.output_log_format_version()
    writer.output_comment("[llmperf: values in nanoseconds, one tag a metric]")
    for name, recorder in recorders.items():
        if recorder.saturated:
            writer.output_comment(f"[Saturated: {name} {recorder.saturated}]")
    writer.output_legend()
    for name, recorder in recorders.items():
        stream.write(f"Tag={name},")
        writer.output_interval_histogram(
            recorder._histogram,  # noqa: SLF001 -- the same module
            start_time_stamp_sec=s_from_ns(window.open_at_ns),
            end_time_stamp_sec=s_from_ns(window.close_at_ns),
            max_value_unit_ratio=NS_PER_MS,
        )


def read_log(lines: Iterable[str], *, source: str = "histograms.hlog") -> dict[str, Recorder]:
    """Return the recorders that `write_log` wrote, by name.

    Args:
        lines: the log, such as an open file.
        source: what to call it if it cannot be read.

    Raises:
        StoredRunError: a line holds no histogram of ours.
    """
    recorders: dict[str, Recorder] = {}
    saturated: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if count := _SATURATED.match(line):
            saturated[count[1]] = int(count[2])
        elif interval := _INTERVAL.match(line):
            try:
                recorders[interval[1]] = Recorder.decode(interval[2])
            except ValueError as error:
                raise StoredRunError(source, f"line {number}: {error}") from error
    for name in saturated.keys() & recorders.keys():
        recorders[name].saturated = saturated[name]
    return recorders
