"""What happened in the window ÷ its length. Counted where it arrived, never by a formula."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from llmperf_core.judge.intervals import BATCHES, batch_means_interval
from llmperf_core.judge.quantity import Quantity
from llmperf_core.timeline import Instants, Timeline, Window, int64
from llmperf_core.units import per_second, s_from_ns


@frozen(kw_only=True, eq=False)
class Arrivals:
    """Things that arrived, each at an instant and with a weight."""

    at_ns: Instants
    weights: npt.NDArray[np.float64]
    """float64, the shape of `at_ns`: how many each arrival counts for."""


def token_arrivals(timelines: Sequence[Timeline]) -> Arrivals:
    """Return every token of the requests at the instant it arrived, whatever became of its request.

    One event is not always one token, so each event of a request weighs its tokens ÷ its events, or
    one token where nobody counted them, as in an answer that broke off. All tokens of an answer
    that was not streamed arrive when it ends.
    """
    at_ns = [t.token_at_ns if t.token_at_ns.size else int64((t.ended_at_ns,)) for t in timelines]
    weight = [
        (t.tokens.output or t.token_at_ns.size) / (t.token_at_ns.size or 1) for t in timelines
    ]
    sizes = [instants.size for instants in at_ns]
    return Arrivals(
        at_ns=np.concatenate([int64(()), *at_ns]),
        weights=np.repeat(np.array(weight, dtype=np.float64), sizes),
    )


def endings(timelines: Iterable[Timeline]) -> Arrivals:
    """Return the ends of the requests, each counting for one."""
    at_ns = int64([timeline.ended_at_ns for timeline in timelines])
    return Arrivals(at_ns=at_ns, weights=np.ones(at_ns.size))


@frozen(kw_only=True, eq=False)
class Binned:
    """What arrived in each of `BATCHES` equal parts of a window. Those of chunks can be added."""

    weights: npt.NDArray[np.float64] = field(factory=lambda: np.zeros(BATCHES))
    arrivals: int = 0
    """In all parts together, whatever their weights."""

    def __add__(self, other: "Binned") -> "Binned":
        return Binned(weights=self.weights + other.weights, arrivals=self.arrivals + other.arrivals)


def binned(arrivals: Arrivals, window: Window) -> Binned:
    """Return what arrived in each part of the window; nothing if it has no length."""
    if window.duration_ns <= 0:
        return Binned()
    weights = counts_by_part(arrivals, window, BATCHES)
    inside = (arrivals.at_ns >= window.open_at_ns) & (arrivals.at_ns < window.close_at_ns)
    return Binned(weights=weights, arrivals=int(np.count_nonzero(inside)))


def counts_by_part(arrivals: Arrivals, window: Window, parts: int) -> npt.NDArray[np.float64]:
    """Return how much arrived in each of `parts` equal parts of the window, which has a length."""
    inside = (arrivals.at_ns >= window.open_at_ns) & (arrivals.at_ns < window.close_at_ns)
    since_ns = arrivals.at_ns[inside] - window.open_at_ns
    part = since_ns * parts // window.duration_ns
    # Of whole numbers where it is empty, whatever the weights are.
    return np.bincount(part, weights=arrivals.weights[inside], minlength=parts).astype(np.float64)


def rate(arrived: Binned, window: Window, *, unit: str) -> Quantity | None:
    """Return how much arrived in the window ÷ its length, per second.

    Its interval is that of the means of `BATCHES` equal parts of the window; there is none if
    fewer things arrived than there are parts.

    Returns:
        None if the window has no length.
    """
    if window.duration_ns <= 0:
        return None
    value = per_second(float(arrived.weights.sum()), window.duration_ns)
    if arrived.arrivals < BATCHES:
        return Quantity(value, unit)
    low, high = batch_means_interval(arrived.weights * BATCHES / s_from_ns(window.duration_ns))
    return Quantity(value, unit, (max(0.0, low), high))


def mean_in_flight(timelines: Iterable[Timeline], window: Window) -> float | None:
    """Return how many requests were in flight on average: from sent to ended, within the window.

    Returns:
        None if the window has no length. Those of chunks can be added.
    """
    if window.duration_ns <= 0:
        return None
    spans = _spans(timelines)
    clipped = np.clip(spans, window.open_at_ns, window.close_at_ns)
    return float((clipped[:, 1] - clipped[:, 0]).sum()) / window.duration_ns


def rate_times_stay(timelines: Iterable[Timeline], window: Window) -> float | None:
    """Return the rate of the requests that ended in the window × their mean time from sent to end.

    In the long run that is `mean_in_flight`, whatever the server and the load are.

    Returns:
        None if the window has no length. Those of chunks can be added.

    Source: Little, "A proof for the queuing formula L = λW" (1961).
    """
    if window.duration_ns <= 0:
        return None
    spans = _spans(timelines)
    ended = (spans[:, 1] >= window.open_at_ns) & (spans[:, 1] < window.close_at_ns)
    return float((spans[ended, 1] - spans[ended, 0]).sum()) / window.duration_ns


def _spans(timelines: Iterable[Timeline]) -> Instants:
    spans = [(t.sent_at_ns, t.ended_at_ns) for t in timelines if t.sent_at_ns is not None]
    return int64(spans).reshape(-1, 2)
