"""What a stage's requests come to: counts, rates and distributions. Arrays stay outside."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from attrs import field, frozen

from llmperf_core.judge import rates
from llmperf_core.judge.batches import Batches, Counts
from llmperf_core.judge.counts import (
    ConnectionCounts,
    Part,
    RequestCounts,
    StampedBy,
    TokenTotals,
    part_of,
    stamped_by,
    together,
)
from llmperf_core.judge.growth import Growth, ttft_growth
from llmperf_core.judge.intervals import BATCHES, PERCENTILES, supports
from llmperf_core.judge.metrics import METRICS, Metric, samples, values_by_request
from llmperf_core.judge.quantity import Interval, Quantity
from llmperf_core.judge.slo import Slo
from llmperf_core.judge.steadiness import Drift, steady
from llmperf_core.judge.survival import Survival
from llmperf_core.load import LoadProfile, OpenLoop, Planned
from llmperf_core.timeline import Observation, Timeline, Window

_CHUNK = 5_000
"""Requests that are held in memory at once, if the timelines come from a journal."""
_SHAPE_BINS = 24
_CHANGING = frozenset({"ramp", "steps", "replay"})
"""Loads that are meant to change: what looks like a warm-up there is the load itself."""


@frozen(kw_only=True)
class MetricSummary:
    """The distribution of one metric.

    The numbers are in nanoseconds, or are counts for a metric that counts; the properties are in
    the metric's shown unit. What the data cannot support is None, never 0.
    """

    metric: Metric
    count: int
    """The values that were seen whole."""
    mean_ns: float | None
    min_ns: int | None
    max_ns: int | None
    percentiles: Mapping[float, float | None]
    """For each of `PERCENTILES`; None where the count cannot support one."""
    ci95: Mapping[float, Interval | None]
    """The 95 % interval of each. It may be None where the percentile is not, as many values that
    resemble each other are worth few."""
    censored: int = 0
    """Values of which only a lower bound is known. Mean, percentiles and intervals are then the
    estimates of Kaplan and Meier, which count them."""
    shape: tuple[int, ...] = ()
    """How many values are in each of equal parts of the logarithm, from `min_ns` to `max_ns`: the
    distribution at a glance. Nothing where only figures are known."""

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
    """What counts: the planned window without the warm-up that was detected in it."""
    warmup_detected_ns: int
    """How much later than planned the window opens."""
    drift: Drift | None
    """How E2E changes over the window; None for too few requests or a load that changes."""
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
    rate_times_stay: float | None
    """What that should be by Little's law: rate of endings × mean time from sent to end."""
    asked: int | None
    """Requests that an open loop had to start in the window; None in a closed loop."""
    offered: int | None
    """Of those, the ones that were sent; None in a closed loop."""
    coalesced_share: float | None
    """Of the samples' tokens, those that came in one read with an earlier one. 0 to 1."""
    early_end_share: float | None
    """Of the completed samples with a limit on tokens, those that ended before it. 0 to 1."""
    connections: ConnectionCounts
    ttft_growth: Growth | None
    """How TTFT grew with the length of the input; None where that cannot be told."""
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
    detect_warmup: bool = True,
) -> Summary:
    """Return what the requests of a stage come to.

    Counts and distributions are of the requests that started in the window, however late they
    ended; rates are of what arrived in it, whenever its request started. The window opens as
    planned or, if that is later, where a warm-up is over that the requests show.

    Args:
        timelines: all requests of the stage, in any order, those of the warm-up too. They are
            gone through twice and in chunks, so those of a `StoredTimelines` need little memory.
        observation: what the harness saw of itself; says what the planned window is.
        load: how the requests were to start.
        slo: what counts as good; None leaves the goodput out.
        metrics: what to measure.
        detect_warmup: whether the window may open later than planned.
    """
    everything = list(timelines) if isinstance(timelines, Iterator) else timelines
    planned = observation.window
    constant = load.kind not in _CHANGING
    settled = steady(everything, planned, constant=constant, cut=detect_warmup)
    window = settled.window
    distributions = {metric.name: _Distribution(metric) for metric in metrics}
    parts = []
    for chunk in _chunks(everything):
        inside = samples(chunk, window)
        parts.append(part_of(chunk, inside, window, slo))
        batch = settled.batch_of(inside)
        for distribution in distributions.values():
            distribution.add(inside, batch)
    whole = together(parts or [part_of([], [], window, slo)])
    asked, offered = _asked_and_offered(whole, window, load)
    return Summary(
        window=window,
        warmup_detected_ns=window.open_at_ns - planned.open_at_ns,
        drift=settled.drift,
        requests=whole.requests,
        tokens=whole.tokens,
        metrics={name: found.summary() for name, found in distributions.items()},
        output_tokens_per_s=rates.rate(whole.arrived, window, unit="tok/s") if parts else None,
        requests_per_s=rates.rate(whole.ended, window, unit="req/s") if parts else None,
        goodput=rates.rate(whole.good, window, unit="req/s") if parts and slo else None,
        slo=slo,
        mean_in_flight=whole.mean_in_flight if parts else None,
        rate_times_stay=whole.rate_times_stay if parts else None,
        asked=asked,
        offered=offered,
        coalesced_share=whole.coalesced.share,
        early_end_share=whole.early.share,
        connections=whole.connections,
        ttft_growth=ttft_growth(whole.read),
        stamps=stamped_by(whole.stamps),
    )


def summarize_metric(metric: Metric, timelines: Iterable[Timeline]) -> MetricSummary:
    """Return the distribution of a metric over the requests, which are in the order of starting."""
    requests = list(timelines)
    distribution = _Distribution(metric)
    distribution.add(requests, np.arange(len(requests)) * BATCHES // max(len(requests), 1))
    return distribution.summary()


def percentile_curve(
    metric: Metric, timelines: Iterable[Timeline], window: Window, percentiles: Iterable[float]
) -> list[tuple[float, float]]:
    """Return percentiles of a metric over a window, each with its value as the summary has it.

    Args:
        metric: what to take of the requests.
        timelines: all requests of the stage, gone through once and in chunks.
        window: what counts.
        percentiles: 0 to 100. Those that the count cannot support are left out.
    """
    distribution = _Distribution(metric)
    for chunk in _chunks(timelines):
        inside = samples(chunk, window)
        distribution.add(inside, np.zeros(len(inside), dtype=np.int64))
    return distribution.curve(percentiles)


def _chunks(timelines: Iterable[Timeline]) -> Iterator[list[Timeline]]:
    rest = iter(timelines)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


class _Distribution:
    """A metric's values while they come in."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._seen = Batches(keep_all=metric.over == "requests")
        self._cut_off = Batches(keep_all=True)

    def add(self, inside: Sequence[Timeline], batch: Counts) -> None:
        self._seen.add(values_by_request(self._metric, inside), batch)
        if self._metric.lasted is not None:
            self._cut_off.add([self._metric.cut_off(t) for t in inside], batch)

    def summary(self) -> MetricSummary:
        seen, extremes = self._seen, self._seen.extremes
        estimate = self._estimate()
        known = [p for p in PERCENTILES if supports(seen.count, p)]
        return MetricSummary(
            metric=self._metric,
            count=seen.count,
            mean_ns=estimate.mean,
            min_ns=extremes and extremes[0],
            max_ns=extremes and extremes[1],
            percentiles={p: estimate.percentile(p) if p in known else None for p in PERCENTILES},
            ci95={p: estimate.interval(p) if p in known else None for p in PERCENTILES},
            censored=self._cut_off.count,
            shape=seen.shape(_SHAPE_BINS),
        )

    def curve(self, percentiles: Iterable[float]) -> list[tuple[float, float]]:
        estimate, count = self._estimate(), self._seen.count
        found = [(p, estimate.percentile(p)) for p in percentiles if supports(count, p)]
        return [(p, value) for p, value in found if value is not None]

    def _estimate(self) -> Batches | Survival:
        if not self._cut_off.count or not self._seen.count:
            return self._seen
        return Survival(self._seen, self._cut_off)


def _asked_and_offered(
    whole: Part, window: Window, load: LoadProfile
) -> tuple[int | None, int | None]:
    if not isinstance(load, OpenLoop):
        return None, None
    asked = whole.sent.whole
    if isinstance(load, Planned):
        # Where chance has no part, the plan itself is known, not only what was begun of it.
        asked = max(asked, load.planned(window.open_at_ns, window.close_at_ns) or 0)
    return asked, whole.sent.part
