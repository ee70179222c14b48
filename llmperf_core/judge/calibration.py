"""The instrument's own error on one host at one load, and what it makes of a stage.

A calibration plays a load whose truth is known and holds what was measured against it; see
`llmperf_core.calibrate`. Here is what it found, and when that is too bad to measure with.
"""

from collections.abc import Iterator
from typing import Literal, Self, TypeAlias

import numpy as np
from attrs import frozen

from llmperf_core.judge.intervals import percentile_of, supports
from llmperf_core.judge.metrics import Values
from llmperf_core.judge.verdict import (
    COALESCED_SUSPECT,
    LAG_LEAST_NS,
    READ_LAG_SUSPECT,
    Check,
    Evidence,
    Reason,
    high,
    usual_gap_ns,
)
from llmperf_core.timeline import Stamps
from llmperf_core.units import format_duration, percent

Limit: TypeAlias = Literal["coalesced", "read_lag", "reference", "tried"]
"""What ended the search for the highest load: tokens came together; they were read a whole gap
late; the reference server could not play more in time; no more was tried."""

STAMP_ERROR_DEGRADED = 0.05
"""Stamp error (p99) ÷ gap. A gap lies between two stamps, so twice this can be its error."""
REFERENCE_LATE_DEGRADED = READ_LAG_SUSPECT
"""Lateness of the reference server (p99) ÷ gap. It needs less than the client does, so the host is
busy; and it catches up with several tokens at a time, which looks like a client that coalesces."""
WORSE_FACTOR = 5.0
"""Of what was calibrated: a choice, with little behind it yet. On one machine of two processors, at
one load, p99 was 2.00 and 2.06 ms (read lag), 753 and 775 µs (lag) while nothing else ran, and 5.8
and 1.4 ms while both were kept busy. So much is found by what it is of a gap (`read_lag`); where
between that and a starved process the line belongs, nobody has measured."""
READ_LAG_HARMLESS = 0.15
"""Read lag (p99) ÷ gap. Sockets may be drained every 2 ms on purpose where tokens are 16 ms apart:
that is an eighth of a gap, and no stamp suffers from it."""


@frozen(kw_only=True)
class Spread:
    """How durations were distributed; a percentile is None where there are too few for it."""

    count: int
    p50_ns: float | None
    p99_ns: float | None
    p99_9_ns: float | None
    max_ns: float

    @classmethod
    def of(cls, values_ns: Values) -> Self | None:
        """Return how values are distributed, in any order; None if there are none."""
        ordered = np.sort(values_ns)
        if not ordered.size:
            return None
        p50, p99, p99_9 = (
            percentile_of(ordered, p) if supports(ordered.size, p) else None for p in (50, 99, 99.9)
        )
        return cls(
            count=ordered.size, p50_ns=p50, p99_ns=p99, p99_9_ns=p99_9, max_ns=float(ordered[-1])
        )

    @property
    def high(self) -> tuple[str, float]:
        """The 99th percentile, or the maximum where there are too few values for one."""
        return ("max", self.max_ns) if self.p99_ns is None else ("p99", self.p99_ns)


@frozen(kw_only=True)
class Calibration:
    """This host's instrument error at a load, as held against a server whose truth is known."""

    load_kind: str
    load_value: float
    """The load that was played: its kind and its one figure."""
    streams: int
    """Answers in flight at a time: the slots of a closed loop, the expected number of an open one.
    """
    gap_ns: int
    """Between two tokens of a stream."""
    calibrated_at: str
    """ISO 8601 in UTC."""
    events_per_s: float
    """Tokens of all streams that arrived in a second."""
    failed: int
    """Requests that failed."""
    stamps: Stamps
    """Who stamped the arrivals; `user` if any was not stamped by the kernel."""
    stamp_error: Spread
    """Our stamp of a token − the instant at which the server handed it to the kernel."""
    read_lag: Spread | None
    """When the program read a token − when the kernel received it; None without kernel stamps."""
    lag: Spread | None
    """Sent − due, of an open loop with about as many streams; None if none was sent."""
    coalesced_share: float
    """Of the tokens, those that came in one read with an earlier one. 0 to 1."""
    cpu_per_token_ns: float
    """Processor time of the measuring process ÷ tokens; setting up and winding down included."""
    held_events_per_s: float | None
    """The highest load that was seen to be measured well: fewer than 1 % of the tokens came
    together, and they were read within a gap (p99). None if this load was not."""
    limit: Limit
    """Why it is not higher."""
    reference_late: Spread
    """How late the reference server was against its own plan. A client cannot cause it, but a busy
    host can."""

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What speaks against measuring this load on this host as it was then."""
        return tuple(_flaws(self))

    @property
    def status(self) -> Literal["good", "degraded"]:
        """`degraded` if there is any reason."""
        return "degraded" if self.reasons else "good"


def _flaws(found: Calibration) -> Iterator[Reason]:
    late = _of_gap(found.reference_late, found.gap_ns, REFERENCE_LATE_DEGRADED)
    if late:
        detail = (
            f"the reference server itself was late by {late}: the host is busy, or cannot play "
            "this load beside measuring it"
        )
        yield Reason("reference_late", detail)
    read_lag = _of_gap(found.read_lag, found.gap_ns, READ_LAG_SUSPECT)
    if read_lag:
        yield Reason("read_lag", f"tokens were read late by {read_lag}")
    error = _of_gap(found.stamp_error, found.gap_ns, STAMP_ERROR_DEGRADED)
    if error:
        yield Reason("stamp_error", f"stamps were wrong by {error}")
    if found.coalesced_share > COALESCED_SUSPECT:
        yield Reason("coalesced", f"{percent(found.coalesced_share)} of the tokens came together")
    if found.lag is None:
        yield Reason("lag", "no request of an open loop was sent while there was time")
    elif found.lag.high[1] > LAG_LEAST_NS:
        which, lag_ns = found.lag.high
        yield Reason("lag", f"requests were sent late by {format_duration(lag_ns)} ({which})")
    if found.failed:
        yield Reason("errors", f"{found.failed} requests to the reference server failed")


def _of_gap(spread: Spread | None, gap_ns: int, most: float) -> str:
    """Return a spread's high end in words; nothing if it is at most this share of the gap."""
    if spread is None or spread.high[1] <= most * gap_ns:
        return ""
    which, high_ns = spread.high
    return f"{format_duration(high_ns)} ({which}), {percent(high_ns / gap_ns)} of a gap"


def as_calibrated(calibration: Calibration) -> Check:
    """Return the check that a stage was measured by an instrument as good as this one."""

    def degraded_instrument(evidence: Evidence) -> Reason | None:
        """The instrument was bad when it was calibrated, or became so since."""
        said = [
            *(f"when calibrated, {reason.detail}" for reason in calibration.reasons),
            *_worse(calibration, evidence),
        ]
        return Reason("degraded_instrument", "; ".join(said)) if said else None

    return degraded_instrument


def _worse(calibration: Calibration, evidence: Evidence) -> Iterator[str]:
    """Yield in which ways a stage's instrument was much worse than the calibrated one."""
    read_lag, gap_ns = evidence.metric("read_lag"), usual_gap_ns(evidence)
    prompt = True
    if read_lag is not None and calibration.read_lag is not None and gap_ns is not None:
        prompt = high(read_lag)[1] <= READ_LAG_HARMLESS * gap_ns
        if not prompt and high(read_lag)[1] > WORSE_FACTOR * calibration.read_lag.high[1]:
            yield _against("read lag", high(read_lag), calibration.read_lag.high)
    share = evidence.summary.coalesced_share or 0
    # Where reads were prompt it is the server that sends several at a time.
    if not prompt and share > max(COALESCED_SUSPECT, WORSE_FACTOR * calibration.coalesced_share):
        yield (
            f"{percent(share)} of the tokens came together, "
            f"{percent(calibration.coalesced_share)} when calibrated"
        )
    lag = evidence.metric("lag")
    if lag is not None and calibration.lag is not None:
        least_ns = max(LAG_LEAST_NS, WORSE_FACTOR * calibration.lag.high[1])
        if high(lag)[1] > least_ns:
            yield _against("lag", high(lag), calibration.lag.high)


def _against(what: str, seen: tuple[str, float], calibrated: tuple[str, float]) -> str:
    return (
        f"{what} {seen[0]} {format_duration(seen[1])}, {format_duration(calibrated[1])} "
        f"({calibrated[0]}) when calibrated: something kept the measuring process waiting"
    )
