"""Where the time of a request went: network and gateway, the server's queue, its inference."""

from collections.abc import Iterable
from statistics import fmean
from typing import Literal, TypeAlias

from attrs import frozen

from llmperf_core.judge.telemetry import Watch
from llmperf_core.timeline import Timeline, Window
from llmperf_core.units import ns_from_s

ToldBy: TypeAlias = Literal["headers", "counters"]
"""`headers`: of each answer, in whole milliseconds, truncated. `counters`: the server's sums over
the answers that ended in a stretch of time, which are not of exactly the same requests as ours."""


@frozen(kw_only=True)
class Split:
    """The mean time of the answered requests, in its parts."""

    told_by: ToldBy
    requests: int
    """Ours, whose mean it is."""
    client_ns: float
    """From sent to ended."""
    server_ns: float
    """The server's own time for them, its parts below included."""
    validation_ns: float | None
    """Tokenizing and checking; None where the server does not tell."""
    queue_ns: float | None
    inference_ns: float | None
    """Prefill included."""
    gateway_ns: float | None = None
    """What stands before the server and tells its own time; None where nothing does."""

    @property
    def network_ns(self) -> float:
        """Client − gateway − server: the network, and what the clocks of the other two do not see.

        A gateway that does not tell its own time is in it.
        """
        return self.client_ns - self.server_ns - (self.gateway_ns or 0)


def split(timelines: Iterable[Timeline], window: Window, seen: Watch | None) -> Split | None:
    """Return where the time went, by the answers' headers, else by the server's counters.

    Args:
        timelines: all requests of the stage.
        window: of which those count that were sent in it.
        seen: what was read of the server; None if nothing was.

    Returns:
        None if the server tells neither way, or its counters are those of other clients too.
    """
    return _by_headers(timelines, window) or (None if seen is None else _by_counters(seen))


def _by_headers(timelines: Iterable[Timeline], window: Window) -> Split | None:
    told = [
        (t.ended_at_ns - t.sent_at_ns, t.server_ns)
        for t in timelines
        if t.completed and t.sent_at_ns is not None and t.sent_at_ns in window
        if "total" in t.server_ns
    ]
    if not told:
        return None

    def mean(part: str) -> float | None:
        values = [server_ns[part] for _, server_ns in told if part in server_ns]
        return fmean(values) if len(values) == len(told) else None

    return Split(
        told_by="headers",
        requests=len(told),
        client_ns=fmean(client_ns for client_ns, _ in told),
        server_ns=fmean(server_ns["total"] for _, server_ns in told),
        validation_ns=mean("validation"),
        queue_ns=mean("queue"),
        inference_ns=mean("inference"),
    )


def _by_counters(seen: Watch) -> Split | None:
    server, check = seen.meters.get("server"), seen.crosscheck
    if server is None or check is None or check.others or check.failed:
        return None
    rises, answered = server.rises, server.rises.get("requests")
    if not answered or "total_s" not in rises or check.service_ns is None:
        return None

    def mean(word: str) -> float | None:
        return ns_from_s(rises[word]) / answered if word in rises else None

    return Split(
        told_by="counters",
        requests=check.our_requests,
        client_ns=check.service_ns,
        server_ns=ns_from_s(rises["total_s"]) / answered,
        validation_ns=mean("validation_s"),
        queue_ns=mean("queue_s"),
        inference_ns=mean("inference_s"),
        gateway_ns=_gateway_ns(seen),
    )


def _gateway_ns(seen: Watch) -> float | None:
    gateway = seen.meters.get("gateway")
    if gateway is None or not gateway.rises.get("requests") or "overhead_s" not in gateway.rises:
        return None
    return ns_from_s(gateway.rises["overhead_s"]) / gateway.rises["requests"]
