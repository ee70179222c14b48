"""Counts and rates of a stage's requests: what chunks of them can be added up to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from attrs import frozen

from llmperf_core.judge import rates
from llmperf_core.judge.growth import inputs_and_ttft
from llmperf_core.judge.metrics import Values
from llmperf_core.judge.rates import Binned
from llmperf_core.judge.slo import Slo
from llmperf_core.timeline import (
    Cancelled,
    Censored,
    Completed,
    CountedBy,
    Failed,
    Stamps,
    Timeline,
    TokenCount,
    Window,
)

Number = TypeVar("Number", int, float)
StampedBy: TypeAlias = Literal["kernel", "user", "mixed"]
"""Who stamped the arrivals of a stage."""


@frozen(kw_only=True)
class RequestCounts:
    """What became of the requests that started in the window."""

    completed: int
    failed: int
    censored: int
    """Still in flight when the drain ended."""
    cancelled: int = 0
    """Ended by us, as the workload said a user would."""
    drained: int
    """Of the completed and failed ones, those that ended after the window had closed."""
    by_error: Mapping[str, int]
    """How often each error ended a request, the most frequent first."""

    def __add__(self, other: "RequestCounts") -> "RequestCounts":
        by_error = Counter(self.by_error) + Counter(other.by_error)
        return RequestCounts(
            completed=self.completed + other.completed,
            failed=self.failed + other.failed,
            censored=self.censored + other.censored,
            cancelled=self.cancelled + other.cancelled,
            drained=self.drained + other.drained,
            by_error=dict(by_error.most_common()),
        )

    @property
    def total(self) -> int:
        """All requests that started in the window."""
        return self.completed + self.failed + self.censored + self.cancelled

    @property
    def censored_share(self) -> float:
        """Of all of them, the censored ones. 0 to 1."""
        return self.censored / self.total if self.censored else 0.0


@frozen(kw_only=True)
class TokenTotals:
    """The tokens of the requests that started in the window and completed."""

    output: int
    input: int | None
    """None unless it is known of each of them."""
    cached: int | None
    """None unless it is known of each of them."""
    counted_by: CountedBy | None
    """`stream` where they were not all counted in one way; None if there are none."""


@frozen(kw_only=True)
class ConnectionCounts:
    """The connections that the requests which started in the window went over."""

    fresh: int
    reused: int
    reopened: int
    """How often a kept-alive connection had been closed and was replaced."""

    def __add__(self, other: "ConnectionCounts") -> "ConnectionCounts":
        return ConnectionCounts(
            fresh=self.fresh + other.fresh,
            reused=self.reused + other.reused,
            reopened=self.reopened + other.reopened,
        )


@frozen
class Share:
    """A part of a whole, in counts."""

    part: int = 0
    whole: int = 0

    def __add__(self, other: "Share") -> "Share":
        return Share(self.part + other.part, self.whole + other.whole)

    @property
    def share(self) -> float | None:
        """From 0 to 1; None of nothing."""
        return self.part / self.whole if self.whole else None


@frozen(kw_only=True)
class Part:
    """What some requests of a stage come to, as far as that can be added up."""

    requests: RequestCounts
    tokens: TokenTotals
    connections: ConnectionCounts
    sent: Share
    """Of the requests that were due in the window."""
    coalesced: Share
    early: Share
    stamps: frozenset[Stamps]
    arrived: Binned
    ended: Binned
    good: Binned
    mean_in_flight: float | None
    rate_times_stay: float | None
    read: Values
    """int64, shape (n, 2): of each completed request whose input was counted, that and its TTFT."""


def part_of(
    chunk: Sequence[Timeline], inside: Sequence[Timeline], window: Window, slo: Slo | None
) -> Part:
    """Return what a chunk of requests comes to; `inside` are those that started in the window."""
    completed = [t for t in chunk if t.completed]
    good = [] if slo is None else [t for t in completed if slo.met_by(t)]
    return Part(
        requests=_requests(inside, window),
        tokens=_tokens([t.tokens for t in inside if t.completed]),
        connections=_connections(inside),
        sent=_sent(inside),
        coalesced=_coalesced(inside),
        early=_early(inside),
        stamps=frozenset(t.stamps for t in inside if t.token_at_ns.size or t.completed),
        arrived=rates.binned(rates.token_arrivals(chunk), window),
        ended=rates.binned(rates.endings(completed), window),
        good=rates.binned(rates.endings(good), window),
        mean_in_flight=rates.mean_in_flight(chunk, window),
        rate_times_stay=rates.rate_times_stay(chunk, window),
        read=inputs_and_ttft(inside),
    )


def together(parts: Sequence[Part]) -> Part:
    """Return what several chunks come to; one at least."""
    return Part(
        requests=reduce(add, (part.requests for part in parts)),
        tokens=_tokens([part.tokens for part in parts]),
        connections=reduce(add, (part.connections for part in parts)),
        sent=reduce(add, (part.sent for part in parts)),
        coalesced=reduce(add, (part.coalesced for part in parts)),
        early=reduce(add, (part.early for part in parts)),
        stamps=frozenset().union(*(part.stamps for part in parts)),
        arrived=reduce(add, (part.arrived for part in parts)),
        ended=reduce(add, (part.ended for part in parts)),
        good=reduce(add, (part.good for part in parts)),
        mean_in_flight=_sum_if_known([part.mean_in_flight for part in parts]),
        rate_times_stay=_sum_if_known([part.rate_times_stay for part in parts]),
        read=np.concatenate([part.read for part in parts]),
    )


def _requests(inside: Sequence[Timeline], window: Window) -> RequestCounts:
    errors = Counter(t.outcome.error for t in inside if isinstance(t.outcome, Failed))
    ended = [t for t in inside if isinstance(t.outcome, Completed | Failed)]
    return RequestCounts(
        completed=len(ended) - errors.total(),
        failed=errors.total(),
        censored=sum(isinstance(t.outcome, Censored) for t in inside),
        cancelled=sum(isinstance(t.outcome, Cancelled) for t in inside),
        drained=sum(t.ended_at_ns >= window.close_at_ns for t in ended),
        by_error=dict(errors.most_common()),
    )


def _tokens(counts: Sequence[TokenCount | TokenTotals]) -> TokenTotals:
    counted = [count for count in counts if count.counted_by is not None]
    counters = {count.counted_by for count in counted}
    counted_by: CountedBy | None = "stream" if counters else None
    return TokenTotals(
        output=sum(count.output for count in counted),
        input=_sum_if_known([count.input for count in counted]),
        cached=_sum_if_known([count.cached for count in counted]),
        counted_by=counters.pop() if len(counters) == 1 else counted_by,
    )


def _sum_if_known(values: Sequence[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], start=known[0]) if known and len(known) == len(values) else None


def _sent(inside: Sequence[Timeline]) -> Share:
    due = [t for t in inside if t.due_at_ns is not None]
    return Share(sum(t.sent_at_ns is not None for t in due), len(due))


def _coalesced(inside: Sequence[Timeline]) -> Share:
    return Share(sum(t.coalesced for t in inside), sum(t.token_at_ns.size for t in inside))


def _early(inside: Sequence[Timeline]) -> Share:
    early = [
        t.tokens.output < t.asked_tokens
        for t in inside
        if t.completed and t.asked_tokens is not None
    ]
    return Share(sum(early), len(early))


def _connections(inside: Sequence[Timeline]) -> ConnectionCounts:
    sent = [t.connection for t in inside if t.sent_at_ns is not None]
    fresh = sum(connection.fresh for connection in sent)
    return ConnectionCounts(
        fresh=fresh,
        reused=len(sent) - fresh,
        reopened=sum(connection.reopened for connection in sent),
    )


def stamped_by(stamps: frozenset[Stamps]) -> StampedBy | None:
    """Return the one who stamped, `mixed` for both, None for nobody."""
    if len(stamps) > 1:
        return "mixed"
    return next(iter(stamps), None)
