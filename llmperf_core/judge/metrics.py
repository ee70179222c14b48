"""What is measured of a request: values, not classes. Design section 4 has the words."""

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from attrs import field, frozen
from attrs.validators import in_, is_callable, matches_re

from llmperf_core.timeline import Censored, Durations, Timeline, Window, int64
from llmperf_core.units import ms_from_ns, s_from_ns, us_from_ns

Values: TypeAlias = npt.NDArray[np.int64]
"""int64, shape (n,), in no order: nanoseconds, or counts for a metric that counts."""
Direction: TypeAlias = Literal["lower", "higher"]
"""Which way is better."""
Over: TypeAlias = Literal["requests", "tokens", "reads"]
"""What each value stands for."""

_NOTHING = int64(())
_SHOWN: dict[str, Callable[[float], float]] = {
    "ns": float,
    "µs": us_from_ns,
    "ms": ms_from_ns,
    "s": s_from_ns,
}


@frozen(kw_only=True)
class Metric:
    """One thing to measure of requests.

    Raises:
        ValueError: the name is no identifier, or a field is not one of its words.
    """

    name: str = field(validator=matches_re(r"[A-Za-z]\w*"))
    """What stored runs, logs and `summary[name]` call it."""
    of: Callable[[Timeline], Values] = field(validator=is_callable(), repr=False)
    """Zero or more values of one request. Pure. In nanoseconds if `unit` is one of time."""
    description: str
    unit: str = "ms"
    """What it is shown in: `ns`, `µs`, `ms`, `s`; anything else is shown as `of` gives it."""
    direction: Direction = field(default="lower", validator=in_(("lower", "higher")))
    over: Over = field(default="requests", validator=in_(("requests", "tokens", "reads")))
    every_outcome: bool = False
    """Take it from requests that failed or were censored too: right for what the harness did, wrong
    for what the server did, as a request that failed quickly was not quick."""

    lasted: Callable[[Timeline], Values] | None = field(default=None, repr=False)
    """Of a request that was cut off: how long it had lasted by then, if what is measured had not
    happened yet. None where nothing is known of requests that were cut off."""

    def values(self, timeline: Timeline) -> Values:
        """Return the values of one request: none unless it completed or `every_outcome` is set.

        What a request had reached before it was cut off counts too, where `lasted` tells it from
        what it had not.
        """
        if self.every_outcome or timeline.completed:
            return self.of(timeline)
        reached = (
            self.lasted is not None and _is_censored(timeline) and not self.cut_off(timeline).size
        )
        return self.of(timeline) if reached else _NOTHING

    def cut_off(self, timeline: Timeline) -> Values:
        """Return how long a censored request had lasted without the value: a bound from below."""
        if self.lasted is None or not _is_censored(timeline):
            return _NOTHING
        return self.lasted(timeline)

    def shown(self, value: float) -> float:
        """Return an inner value in `unit`."""
        return _SHOWN.get(self.unit, float)(value)


def _is_censored(timeline: Timeline) -> bool:
    return isinstance(timeline.outcome, Censored)


def _one(value_ns: int | None) -> Values:
    return _NOTHING if value_ns is None else np.array((value_ns,), dtype=np.int64)


def _first_token_since(at_ns: int | None, timeline: Timeline) -> Values:
    if at_ns is None or not timeline.token_at_ns.size:
        return _NOTHING
    return timeline.token_at_ns[:1] - at_ns


def _end_since(at_ns: int | None, timeline: Timeline) -> Values:
    return _one(None if at_ns is None else timeline.ended_at_ns - at_ns)


def _without_token_since(at_ns: int | None, timeline: Timeline) -> Values:
    return _NOTHING if timeline.token_at_ns.size else _end_since(at_ns, timeline)


def _ttft(timeline: Timeline) -> Values:
    return _first_token_since(timeline.start_at_ns, timeline)


def _ttft_lasted(timeline: Timeline) -> Values:
    return _without_token_since(timeline.start_at_ns, timeline)


def _itl(timeline: Timeline) -> Durations:
    # Not np.diff: it costs four times as much on an array of a hundred.
    return timeline.token_at_ns[1:] - timeline.token_at_ns[:-1]


def _tpot(timeline: Timeline) -> Values:
    at_ns = timeline.token_at_ns
    if at_ns.size < 2:
        return _NOTHING
    # An event may carry several tokens; then the server's count is the one to divide by.
    tokens = max(at_ns.size, timeline.tokens.output)
    return _one(round(int(at_ns[-1] - at_ns[0]) / (tokens - 1)))


def _e2e(timeline: Timeline) -> Values:
    return _end_since(timeline.start_at_ns, timeline)


def _time_per_token(timeline: Timeline) -> Values:
    if "time_per_token" in timeline.server_ns:
        return _one(timeline.server_ns["time_per_token"])
    if timeline.tokens.output < 1 or timeline.sent_at_ns is None:
        return _NOTHING
    seen_ns = timeline.ended_at_ns - timeline.sent_at_ns
    return _one(round(timeline.server_ns.get("inference", seen_ns) / timeline.tokens.output))


def _lag(timeline: Timeline) -> Values:
    if timeline.due_at_ns is None or timeline.sent_at_ns is None:
        return _NOTHING
    return _one(timeline.sent_at_ns - timeline.due_at_ns)


def _read_lag(timeline: Timeline) -> Durations:
    return timeline.read_lag_ns if timeline.stamps == "kernel" else _NOTHING


def _service_ttft(timeline: Timeline) -> Values:
    if timeline.due_at_ns is None:
        return _NOTHING
    return _first_token_since(timeline.sent_at_ns, timeline)


def _service_ttft_lasted(timeline: Timeline) -> Values:
    if timeline.due_at_ns is None:
        return _NOTHING
    return _without_token_since(timeline.sent_at_ns, timeline)


def _service_e2e(timeline: Timeline) -> Values:
    return _NOTHING if timeline.due_at_ns is None else _end_since(timeline.sent_at_ns, timeline)


def _connect(timeline: Timeline) -> Values:
    connection = timeline.connection
    return _one(connection.connect_ns + connection.tls_ns if connection.fresh else None)


TTFT = Metric(name="ttft", of=_ttft, lasted=_ttft_lasted, description="first token − start")
"""Time to the first token that carries content, from due (open loop) or sent (closed loop)."""

ITL = Metric(name="itl", of=_itl, over="tokens", description="each gap between consecutive tokens")
"""Inter-token latency, over tokens. Tokens that one read delivered are 0 apart: they belong to the
distribution, and the coalesced share says how many they are."""

TPOT = Metric(name="tpot", of=_tpot, description="(last token − first token) ÷ (tokens − 1)")
"""Time per output token, over requests of two tokens and more. Tokens are the events of the stream,
or the server's own count where that is higher, as an event may carry several."""

E2E = Metric(name="e2e", of=_e2e, lasted=_e2e, description="end − start")
"""End to end: from due (open loop) or sent (closed loop) to the last byte."""

TIME_PER_TOKEN = Metric(
    name="time_per_token",
    of=_time_per_token,
    description="inference time ÷ generated tokens, prefill included",
)
"""TGI's own definition, what the published Llama 2 study calls ms/token.

What the server reported is used: its `time_per_token`, or its `inference` ÷ tokens. If it reported
neither, the inference time is (ended − sent) as the client saw it: queueing and network included.

Source: text-generation-inference, `router/src/server.rs`, header `x-time-per-token`.
"""

LAG = Metric(name="lag", of=_lag, every_outcome=True, description="sent − due, open loop only")
"""How late the harness was. Negative never; if a plan was met early the harness is wrong."""

READ_LAG = Metric(
    name="read_lag",
    of=_read_lag,
    over="reads",
    every_outcome=True,
    description="read by the program − received by the kernel",
)
"""How late the program read. Only where the kernel stamped: without its stamp it is not known."""

SERVICE_TTFT = Metric(
    name="service_ttft",
    of=_service_ttft,
    lasted=_service_ttft_lasted,
    description="first token − sent, open loop only",
)
"""TTFT without the lag. In a closed loop it would be TTFT again, so it is left out."""

SERVICE_E2E = Metric(
    name="service_e2e",
    of=_service_e2e,
    lasted=_service_e2e,
    description="end − sent, open loop only",
)
"""E2E without the lag. In a closed loop it would be E2E again, so it is left out."""

CONNECT = Metric(
    name="connect", of=_connect, description="TCP and TLS handshakes of fresh connections"
)
"""What a fresh connection cost. No part of TTFT in a closed loop."""

METRICS: tuple[Metric, ...] = (
    TTFT,
    ITL,
    TPOT,
    E2E,
    TIME_PER_TOKEN,
    LAG,
    READ_LAG,
    SERVICE_TTFT,
    SERVICE_E2E,
    CONNECT,
)
"""The built-in metrics, in the order in which they are shown."""


def began_at_ns(timeline: Timeline) -> int:
    """Return where a request counts: at its start, or at its end if it was never sent nor due."""
    start_at_ns = timeline.start_at_ns
    return timeline.ended_at_ns if start_at_ns is None else start_at_ns


def samples(timelines: Iterable[Timeline], window: Window) -> list[Timeline]:
    """Return the requests that started in the window, however late they ended.

    A request that was neither planned nor sent counts where it ended.
    """
    return [timeline for timeline in timelines if began_at_ns(timeline) in window]


def values_by_request(metric: Metric, timelines: Iterable[Timeline]) -> list[Values]:
    """Return the metric's values, one array for each request, in the requests' order."""
    return [metric.values(timeline) for timeline in timelines]


def all_values(metric: Metric, timelines: Iterable[Timeline]) -> Values:
    """Return the metric's values of all the requests in one array, in the requests' order."""
    return np.concatenate([_NOTHING, *values_by_request(metric, timelines)])
