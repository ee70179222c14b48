"""The server's own counts held against ours, over the same stretch of time."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Self

import numpy as np
import numpy.typing as npt
from attrs import frozen

from llmperf_core.judge.rates import Arrivals, token_arrivals
from llmperf_core.timeline import Durations, Instants, Timeline, Window, int64
from llmperf_core.units import NS_PER_MS

EDGE_NS = 250 * NS_PER_MS
"""What ends this near to the edge of the stretch may be counted on its other side: the reading
takes time, and so does the way from the server's counter to the client."""
TOLERANCE = 0.02
"""Of the tokens. Servers differ in whether a request's end-of-sequence token counts; see also
`CrossCheck.tokens_slack`."""
_AT_ONCE = 1_000


@frozen(kw_only=True, eq=False)
class Ours:
    """What the client counted in a stage, as arrays."""

    tokens: Arrivals
    """All output tokens, each when it arrived."""
    ends: Arrivals
    """The requests that were answered whole, each when it ended and with its output tokens."""
    service_ns: Durations
    """From sent to ended, of each of these."""
    failed_at_ns: Instants
    """When the others ended."""

    @classmethod
    def of(cls, timelines: Iterable[Timeline]) -> Self:
        """Count. The timelines are gone through once: a long journal is read from its file."""
        tokens, whole, failed_at_ns = [], [], []
        for chunk in _chunks(timelines):
            tokens.append(token_arrivals(chunk))
            for t in chunk:
                if t.completed and t.sent_at_ns is not None:
                    whole.append((t.ended_at_ns, t.tokens.output, t.ended_at_ns - t.sent_at_ns))
                else:
                    failed_at_ns.append(t.ended_at_ns)
        ended_at_ns, counts, service_ns = int64(whole).reshape(-1, 3).T
        return cls(
            tokens=Arrivals(
                at_ns=np.concatenate([int64(()), *(part.at_ns for part in tokens)]),
                weights=np.concatenate([np.empty(0), *(part.weights for part in tokens)]),
            ),
            ends=Arrivals(at_ns=ended_at_ns, weights=counts.astype(np.float64)),
            service_ns=service_ns,
            failed_at_ns=int64(failed_at_ns),
        )

    def tokens_in(self, stretch: Window) -> float:
        """Return how many output tokens arrived in a stretch."""
        return _sum(self.tokens, _within(self.tokens.at_ns, stretch))


def _chunks(timelines: Iterable[Timeline]) -> Iterator[list[Timeline]]:
    rest = iter(timelines)
    while chunk := list(islice(rest, _AT_ONCE)):
        yield chunk


@frozen(kw_only=True)
class CrossCheck:
    """What the server counted, and what we did."""

    stretch: Window
    requests: float | None
    """Requests that the server answered whole; None if it does not count them."""
    our_requests: int
    """Of ours, those that were answered whole."""
    requests_slack: int
    """By how much they may differ: ends near the edges."""
    tokens: float | None
    """Output tokens that the server counted; None if it does not."""
    our_tokens: float
    tokens_slack: float
    """By how much they may differ: tokens near the edges, one token a request, 2 % of all."""
    failed: int
    """Of our requests, those that ended otherwise: what a server counts of them differs."""
    service_ns: float | None
    """From sent to ended, on average of `our_requests`; None if there are none."""

    @property
    def others(self) -> float:
        """Requests of other clients that the server must have answered; 0 if none must."""
        more = 0.0 if self.requests is None else self.requests - self.our_requests - self.failed
        return more if more > self.requests_slack else 0.0

    @property
    def mismatch(self) -> bool:
        """Whether the tokens differ by more than can be explained."""
        if self.tokens is None or self.others or self.failed:
            return False
        return abs(self.tokens - self.our_tokens) > self.tokens_slack


def cross_check(rises: Mapping[str, float], ours: Ours, stretch: Window) -> CrossCheck:
    """Return a server's counts beside ours.

    Args:
        rises: by how much the server's counters rose over the stretch.
        ours: what the client counted in the whole stage.
        stretch: from one reading of the server to another.
    """
    # Some servers count a token when it is generated, most of them when its request ends.
    counted = ours.ends if "ended_tokens" in rises else ours.tokens
    our_tokens = _sum(counted, _within(counted.at_ns, stretch))
    within = _within(ours.ends.at_ns, stretch)
    our_requests = int(np.count_nonzero(within))
    requests_slack = int(np.count_nonzero(_near_an_edge(ours.ends.at_ns, stretch)))
    edge_tokens = _sum(counted, _near_an_edge(counted.at_ns, stretch))
    return CrossCheck(
        stretch=stretch,
        requests=rises.get("requests"),
        our_requests=our_requests,
        requests_slack=requests_slack,
        tokens=rises.get("ended_tokens", rises.get("output_tokens")),
        our_tokens=our_tokens,
        tokens_slack=edge_tokens + our_requests + requests_slack + TOLERANCE * our_tokens,
        failed=int(np.count_nonzero(_within(ours.failed_at_ns, stretch))),
        service_ns=float(ours.service_ns[within].mean()) if our_requests else None,
    )


def _sum(arrivals: Arrivals, which: npt.NDArray[np.bool_]) -> float:
    return float(arrivals.weights[which].sum())


def _within(at_ns: Instants, stretch: Window) -> npt.NDArray[np.bool_]:
    return (at_ns >= stretch.open_at_ns) & (at_ns < stretch.close_at_ns)


def _near_an_edge(at_ns: Instants, stretch: Window) -> npt.NDArray[np.bool_]:
    after_open_ns, after_close_ns = at_ns - stretch.open_at_ns, at_ns - stretch.close_at_ns
    return (np.abs(after_open_ns) <= EDGE_NS) | (np.abs(after_close_ns) <= EDGE_NS)
