"""How a stage went: arrivals, requests in flight and tokens in equal parts of its time."""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
from attrs import frozen

from llmperf_core.judge.metrics import began_at_ns
from llmperf_core.judge.rates import Arrivals, counts_by_part, token_arrivals
from llmperf_core.timeline import Timeline, Window, int64
from llmperf_core.units import s_from_ns

Floats = npt.NDArray[np.float64]
_CHUNK = 2_000
"""Requests that are held in memory at once, if the timelines come from a journal."""


@frozen(kw_only=True, eq=False)
class Course:
    """A stage from its zero to its end, in equal parts. Each array has the shape (parts,)."""

    parts: Window
    """All of them together."""
    requests_per_s: Floats
    """Requests that began."""
    in_flight: Floats
    """Requests between sent and ended, on average."""
    tokens_per_s: Floats
    """Output tokens that arrived."""

    @property
    def edges_s(self) -> Floats:
        """Where the parts begin, and where the last one ends: shape (parts + 1,)."""
        edges: Floats = np.linspace(0, s_from_ns(self.parts.close_at_ns), self.in_flight.size + 1)
        return edges


def course(timelines: Iterable[Timeline], end_at_ns: int, *, parts: int) -> Course:
    """Return how a stage went.

    Args:
        timelines: all requests of the stage, gone through once and in chunks.
        end_at_ns: its end on the run's clock, above 0.
        parts: how many parts to tell apart.
    """
    whole = Window(open_at_ns=0, close_at_ns=end_at_ns)
    edges_ns = np.linspace(0, end_at_ns, parts + 1)
    part_s = s_from_ns(end_at_ns) / parts
    began, tokens, stay = np.zeros(parts), np.zeros(parts), np.zeros(parts + 1)
    rest = iter(timelines)
    while chunk := list(islice(rest, _CHUNK)):
        began += counts_by_part(_beginnings(chunk), whole, parts)
        tokens += counts_by_part(token_arrivals(chunk), whole, parts)
        stay += _stay(chunk, edges_ns)
    return Course(
        parts=whole,
        requests_per_s=began / part_s,
        in_flight=np.diff(stay) * parts / end_at_ns,
        tokens_per_s=tokens / part_s,
    )


def _beginnings(timelines: Sequence[Timeline]) -> Arrivals:
    at_ns = int64([began_at_ns(timeline) for timeline in timelines])
    return Arrivals(at_ns=at_ns, weights=np.ones(at_ns.size))


def _stay(timelines: Sequence[Timeline], edges_ns: Floats) -> Floats:
    """Return the time that the requests had been in flight together up to each edge."""
    spans = int64([(t.sent_at_ns, t.ended_at_ns) for t in timelines if t.sent_at_ns is not None])
    sent_ns, ended_ns = spans.reshape(-1, 2).T
    stay: Floats = np.clip(edges_ns[:, None] - sent_ns, 0, ended_ns - sent_ns).sum(axis=1)
    return stay
