"""What a stage's requests come to: counts, rates and distributions. Arrays stay outside."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from attrs import field, frozen

from llmperf_core.judge import rates
from llmperf_core.judge.intervals import (
    PERCENTILES,
    independent_values,
    percentile_interval,
    percentile_of,
    supports,
)
from llmperf_core.judge.metrics import METRICS, Metric, Values, samples, values_by_request
from llmperf_core.judge.quantity import Interval, Quantity
from llmperf_core.judge.slo import Slo
from llmperf_core.load import LoadProfile, OpenLoop
from llmperf_core.timeline import Censored, CountedBy, Failed, Observation, Timeline, Window
from llmperf_core.units import s_from_ns

StampedBy: TypeAlias = Literal["kernel", "user", "mixed"]
"""Who stamped the arrivals of a stage."""


@frozen(kw_only=True)
class RequestCounts:
    """What became of the requests that started in the window."""

    completed: int
    failed: int
    censored: int
    """Still in flight when the drain ended."""
    drained: int
    """Of the completed and failed ones, those that ended after the window had closed."""
    by_error: Mapping[str, int]
    """How often each error ended a request, the most frequent first."""

    @property
    def total(self) -> int:
        """All requests that started in the window."""
        return self.completed + self.failed + self.censored


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


@frozen(kw_only=True)
class MetricSummary:
    """The distribution of one metric.

    The numbers are in nanoseconds, or are counts for a metric that counts; the properties are in
    the metric's shown unit. What the data cannot support is None, never 0.
    """

    metric: Metric
    count: int
    mean_ns: float | None
    min_ns: int | None
    max_ns: int | None
    percentiles: Mapping[float, float | None]
    """For each of `PERCENTILES`; None where the count cannot support one."""
    ci95: Mapping[float, Interval | None]
    """The 95 % interval of each. Over tokens and reads it may be None where the percentile is not,
    as many values of few requests are worth few."""

    @property
    def p50(self) -> Quantity | None:
        """The median, from 6 values on."""
        return self.percentile(50)

    @property
    def p90(self) -> Quantity | None:
        """The 90th percentile, from 36 values on."""
        return self.percentile(90)

    @property
    def p95(self) -> Quantity | None:
        """The 95th percentile, from 72 values on."""
        return self.percentile(95)

    @property
    def p99(self) -> Quantity | None:
        """The 99th percentile, from 368 values on."""
        return self.percentile(99)

    @property
    def p99_9(self) -> Quantity | None:
        """The 99.9th percentile, from 3,688 values on."""
        return self.percentile(99.9)

    @property
    def mean(self) -> Quantity | None:
        """The arithmetic mean."""
        return self._quantity(self.mean_ns)

    @property
    def max(self) -> Quantity | None:
        """The largest value."""
        return self._quantity(self.max_ns)

    @property
    def min(self) -> Quantity | None:
        """The smallest value."""
        return self._quantity(self.min_ns)

    def percentile(self, percentile: float) -> Quantity | None:
        """Return one of `PERCENTILES` in the shown unit; None where there are too few values.

        Raises:
            KeyError: it is not one of them.
        """
        return self._quantity(self.percentiles[percentile], self.ci95[percentile])

    def _quantity(self, value: float | None, ci95: Interval | None = None) -> Quantity | None:
        if value is None:
            return None
        shown = self.metric.shown
        interval = None if ci95 is None else (shown(ci95[0]), shown(ci95[1]))
        return Quantity(shown(value), self.metric.unit, interval)


@frozen(kw_only=True)
class Summary:
    """What a stage's requests come to. `summary["ttft"]` is a metric's distribution."""

    window: Window
    requests: RequestCounts
    tokens: TokenTotals
    metrics: Mapping[str, MetricSummary] = field(repr=False)
    """By name, in the order in which they were asked for."""
    output_tokens_per_s: Quantity | None
    """Tokens that arrived in the window ÷ its length; None if there was nothing to count."""
    requests_per_s: Quantity | None
    """Requests that completed in the window ÷ its length."""
    goodput: Quantity | None
    """Of these, the ones that met the SLO; None without one."""
    slo: Slo | None
    mean_in_flight: float | None
    """Requests in flight, on average over the window."""
    asked: int | None
    """Requests that an open loop had to start in the window; None in a closed loop."""
    offered: int | None
    """Of those, the ones that were sent; None in a closed loop."""
    coalesced_share: float | None
    """Of the samples' tokens, those that came in one read with an earlier one. 0 to 1."""
    early_end_share: float | None
    """Of the completed samples with a limit on tokens, those that ended before it. 0 to 1."""
    connections: ConnectionCounts
    stamps: StampedBy | None
    """None if nothing arrived."""

    def __getitem__(self, name: str) -> MetricSummary:
        """Return the distribution of a metric.

        Raises:
            KeyError: there is no such metric; the message lists those that there are.
        """
        if name not in self.metrics:
            raise KeyError(f"no metric {name!r}; there are {', '.join(self.metrics)}")
        return self.metrics[name]


def summarize(
    timelines: Iterable[Timeline],
    observation: Observation,
    *,
    load: LoadProfile,
    slo: Slo | None = None,
    metrics: Sequence[Metric] = METRICS,
) -> Summary:
    """Return what the requests of a stage come to.

    Counts and distributions are of the requests that started in the window, however late they
    ended; rates are of what arrived in it, whenever its request started.

    Args:
        timelines: all requests of the stage, in the order of starting, those of the warm-up too.
        observation: what the harness saw of itself; says what the window is.
        load: how the requests were to start.
        slo: what counts as good; None leaves the goodput out.
        metrics: what to measure.
    """
    everything = list(timelines)
    window = observation.window
    inside = samples(everything, window)
    completed = [t for t in everything if t.completed]
    asked, offered = _asked_and_offered(inside, window, load)
    good = None if slo is None else [t for t in completed if slo.met_by(t)]
    return Summary(
        window=window,
        requests=_requests(inside, window),
        tokens=_tokens(inside),
        metrics={metric.name: summarize_metric(metric, inside) for metric in metrics},
        output_tokens_per_s=_token_rate(everything, window),
        requests_per_s=_request_rate(everything, completed, window),
        goodput=None if good is None else _request_rate(everything, good, window),
        slo=slo,
        mean_in_flight=rates.mean_in_flight(everything, window) if everything else None,
        asked=asked,
        offered=offered,
        coalesced_share=_coalesced_share(inside),
        early_end_share=_early_end_share(inside),
        connections=_connections(inside),
        stamps=_stamps(inside),
    )


def summarize_metric(metric: Metric, timelines: Iterable[Timeline]) -> MetricSummary:
    """Return the distribution of a metric over the requests, which are in the order of starting."""
    parts = values_by_request(metric, timelines)
    ordered = np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
    count = ordered.size
    percentiles = {
        p: percentile_of(ordered, p) if supports(count, p) else None for p in PERCENTILES
    }
    return MetricSummary(
        metric=metric,
        count=count,
        mean_ns=float(ordered.mean()) if count else None,
        min_ns=int(ordered[0]) if count else None,
        max_ns=int(ordered[-1]) if count else None,
        percentiles=percentiles,
        ci95={p: _interval(metric, parts, ordered, p) for p in PERCENTILES},
    )


def _interval(
    metric: Metric, parts: Sequence[Values], ordered: Values, percentile: float
) -> Interval | None:
    if metric.over == "requests" or not supports(ordered.size, percentile):
        return percentile_interval(ordered, percentile)
    worth = independent_values(parts, percentile_of(ordered, percentile))
    return percentile_interval(ordered, percentile, independent=worth)


def _requests(inside: Sequence[Timeline], window: Window) -> RequestCounts:
    errors = Counter(t.outcome.error for t in inside if isinstance(t.outcome, Failed))
    ended = [t for t in inside if not isinstance(t.outcome, Censored)]
    return RequestCounts(
        completed=len(ended) - errors.total(),
        failed=errors.total(),
        censored=len(inside) - len(ended),
        drained=sum(t.ended_at_ns >= window.close_at_ns for t in ended),
        by_error=dict(errors.most_common()),
    )


def _tokens(inside: Sequence[Timeline]) -> TokenTotals:
    counts = [t.tokens for t in inside if t.completed]
    counters = {count.counted_by for count in counts}
    counted_by: CountedBy | None = "stream" if counters else None
    return TokenTotals(
        output=sum(count.output for count in counts),
        input=_sum_if_known([count.input for count in counts]),
        cached=_sum_if_known([count.cached for count in counts]),
        counted_by=counters.pop() if len(counters) == 1 else counted_by,
    )


def _sum_if_known(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _token_rate(everything: Sequence[Timeline], window: Window) -> Quantity | None:
    if not everything:
        return None
    return rates.rate(rates.token_arrivals(everything), window, unit="tok/s")


def _request_rate(
    everything: Sequence[Timeline], ended: Sequence[Timeline], window: Window
) -> Quantity | None:
    if not everything:
        return None
    return rates.rate(rates.endings(ended), window, unit="req/s")


def _asked_and_offered(
    inside: Sequence[Timeline], window: Window, load: LoadProfile
) -> tuple[int | None, int | None]:
    if not isinstance(load, OpenLoop):
        return None, None
    due = [t for t in inside if t.due_at_ns is not None]
    asked = len(due)
    if load.kind == "constant":
        # Where chance has no part, the plan itself is known, not only what was begun of it.
        asked = max(asked, int(load.value * s_from_ns(window.duration_ns)))
    return asked, sum(t.sent_at_ns is not None for t in due)


def _coalesced_share(inside: Sequence[Timeline]) -> float | None:
    tokens = sum(t.token_at_ns.size for t in inside)
    return sum(t.coalesced for t in inside) / tokens if tokens else None


def _early_end_share(inside: Sequence[Timeline]) -> float | None:
    early = [
        t.tokens.output < t.asked_tokens
        for t in inside
        if t.completed and t.asked_tokens is not None
    ]
    return sum(early) / len(early) if early else None


def _connections(inside: Sequence[Timeline]) -> ConnectionCounts:
    sent = [t.connection for t in inside if t.sent_at_ns is not None]
    fresh = sum(connection.fresh for connection in sent)
    return ConnectionCounts(
        fresh=fresh,
        reused=len(sent) - fresh,
        reopened=sum(connection.reopened for connection in sent),
    )


def _stamps(inside: Sequence[Timeline]) -> StampedBy | None:
    stamps = {t.stamps for t in inside if t.token_at_ns.size or t.completed}
    if len(stamps) > 1:
        return "mixed"
    return stamps.pop() if stamps else None
