"""A stage's figures and how far each may be off, on a scale where two stages can be compared.

Requests depend on their neighbours: those in flight together share the server's steps, and a queue
remembers. So the window is cut into blocks of time, long against a request, and what counts is how
much a figure differs from block to block.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from attrs import frozen

from llmperf_core.judge import rates
from llmperf_core.judge.intervals import NORMAL_975, percentile_of, supports
from llmperf_core.judge.metrics import (
    E2E,
    ITL,
    TIME_PER_TOKEN,
    TPOT,
    TTFT,
    Direction,
    Metric,
    Values,
    all_values,
    samples,
)
from llmperf_core.judge.quantity import Quantity
from llmperf_core.judge.slo import Slo
from llmperf_core.judge.student import two_sided_point
from llmperf_core.judge.summary import Summary
from llmperf_core.timeline import Timeline, Window
from llmperf_core.units import per_second

COMPARED: tuple[Metric, ...] = (TTFT, ITL, TPOT, E2E, TIME_PER_TOKEN)
"""The metrics that say what the server did; the others say what the harness did."""
PERCENTILES: tuple[float, ...] = (50, 90, 99)
"""The percentiles that are compared, beside the mean."""
LEAST_BLOCKS = 5
"""Fewer blocks say nothing of their spread."""
_MOST_BLOCKS = 20
"""Twice as many as the intervals of a stage are made of: what neighbouring blocks share is
corrected for here, so they may be shorter."""
_REQUESTS_A_BLOCK = 2
"""How many usual requests, one after the other, a block has room for."""
_MOST_ALIKE = 0.8
"""Blocks that are more alike than this are no noise but a trend, which no factor repairs."""


@frozen(kw_only=True)
class Figure:
    """What is compared: one statistic of a metric, or a rate."""

    metric: str
    statistic: str
    """`mean`, `p50`, `p90`, `p99`; `rate` for a rate."""
    unit: str
    direction: Direction

    @property
    def name(self) -> str:
        """What options and documents call it: `ttft.p99`; a rate has its name alone."""
        return self.metric if self.statistic == "rate" else f"{self.metric}.{self.statistic}"


@frozen
class Estimate:
    """A figure's value, and how far it may be off."""

    value: float
    """In the figure's unit."""
    spread: float | None = None
    """Standard error of the value's natural logarithm; None where the data cannot say it."""
    freedom: int = 0
    """How many degrees of freedom the spread has."""

    def quantity(self, unit: str) -> Quantity:
        """Return the value with the 95 % interval that its spread makes."""
        if self.spread is None:
            return Quantity(self.value, unit)
        reach = two_sided_point(0.05, max(self.freedom, 1)) * self.spread
        # As many standard errors as a float can hold: a spread of two runs may be wide.
        factor = math.exp(min(reach, 700.0))
        return Quantity(self.value, unit, (self.value / factor, self.value * factor))


_Floats: TypeAlias = npt.NDArray[np.float64]
Estimates: TypeAlias = Mapping[Figure, Estimate]

RATES: Mapping[str, Figure] = {
    "output_tokens_per_s": Figure(
        metric="output_tokens_per_s", statistic="rate", unit="tok/s", direction="higher"
    ),
    "requests_per_s": Figure(
        metric="requests_per_s", statistic="rate", unit="req/s", direction="higher"
    ),
    "goodput": Figure(metric="goodput", statistic="rate", unit="req/s", direction="higher"),
}
"""By their name in a summary."""


def estimate(
    timelines: Sequence[Timeline],
    window: Window,
    *,
    metrics: Sequence[Metric] = COMPARED,
    slo: Slo | None = None,
) -> Estimates:
    """Return a stage's figures with their spread.

    A percentile is left out where there are too few values for one, as in a summary.

    Args:
        timelines: all requests of the stage, in any order.
        window: the part of it that counts.
        metrics: of which the mean and `PERCENTILES` are taken.
        slo: what counts as good; None leaves the goodput out.
    """
    inside = samples(timelines, window)
    count = _block_count(inside, window)
    blocks = _blocks(inside, window, count)
    found: dict[Figure, Estimate] = {}
    for metric in metrics:
        found |= _of_metric(metric, [all_values(metric, block) for block in blocks])
    completed = [timeline for timeline in timelines if timeline.completed]
    arrivals = {
        "output_tokens_per_s": rates.token_arrivals(timelines),
        "requests_per_s": rates.endings(completed),
    }
    if slo is not None:
        arrivals["goodput"] = rates.endings([t for t in completed if slo.met_by(t)])
    for name, arrived in arrivals.items():
        found |= _of_rate(RATES[name], arrived, window, count)
    return found


def estimate_from(summary: Summary) -> Estimates:
    """Return the figures of a stage of which only the summary is left: nothing says their spread.

    All its metrics are taken: an aggregate holds none of the harness.
    """
    found: dict[Figure, Estimate] = {}
    for measured in summary.metrics.values():
        quantities: dict[str, Quantity | None] = {"mean": measured.mean}
        quantities |= {f"p{p:g}": measured.percentile(p) for p in PERCENTILES}
        for statistic, quantity in quantities.items():
            if quantity is not None:
                found[_figure(measured.metric, statistic)] = Estimate(quantity.value)
    for name, figure in RATES.items():
        rate: Quantity | None = getattr(summary, name)
        if rate is not None:
            found[figure] = Estimate(rate.value)
    return found


def taken_together(repeats: Sequence[Estimate]) -> Estimate:
    """Return the estimate that several repeats of a stage make together: their geometric mean.

    Its spread is that from repeat to repeat or that within the repeats, whichever is larger: a few
    repeats may agree by chance, and what differs from start to start shows within none of them.
    """
    if len(repeats) == 1:
        return repeats[0]
    values = np.array([repeat.value for repeat in repeats])
    if not (values > 0).all():
        return Estimate(float(values.mean()))
    logarithms = np.log(values)
    value = math.exp(float(logarithms.mean()))
    between = float(logarithms.std(ddof=1)) / math.sqrt(len(repeats))
    spreads = [repeat.spread for repeat in repeats if repeat.spread is not None]
    within = math.hypot(*spreads) / len(repeats) if len(spreads) == len(repeats) else 0.0
    if within > between:
        return Estimate(value, within, sum(repeat.freedom for repeat in repeats))
    return Estimate(value, between, len(repeats) - 1)


def _figure(metric: Metric, statistic: str) -> Figure:
    return Figure(
        metric=metric.name, statistic=statistic, unit=metric.unit, direction=metric.direction
    )


def _block_count(inside: Sequence[Timeline], window: Window) -> int:
    """Return how many blocks the window is cut into: `_MOST_BLOCKS`, or fewer of long requests."""
    e2e = all_values(E2E, inside)
    usual_ns = float(np.median(e2e)) if e2e.size else 0.0
    room = window.duration_ns / (_REQUESTS_A_BLOCK * usual_ns) if usual_ns else _MOST_BLOCKS
    return max(LEAST_BLOCKS, min(_MOST_BLOCKS, int(room)))


def _blocks(inside: Sequence[Timeline], window: Window, count: int) -> list[list[Timeline]]:
    blocks: list[list[Timeline]] = [[] for _ in range(count)]
    for timeline in inside:
        if timeline.start_at_ns is not None:
            since_ns = timeline.start_at_ns - window.open_at_ns
            blocks[since_ns * count // window.duration_ns].append(timeline)
    return blocks


def _of_metric(metric: Metric, blocks: Sequence[Values]) -> Estimates:
    filled = [block for block in blocks if block.size]
    if not filled:
        return {}
    ordered = np.sort(np.concatenate(filled))
    sizes = np.array([block.size for block in filled], dtype=np.float64)
    sums = np.array([block.sum() for block in filled], dtype=np.float64)
    found = {_figure(metric, "mean"): _mean(metric, sums, sizes)}
    for percentile in PERCENTILES:
        if supports(ordered.size, percentile):
            value = percentile_of(ordered, percentile)
            below = np.array([np.mean(block <= value) for block in filled]) * sizes
            spread = _percentile_spread(ordered, percentile, _ratio_error(below, sizes))
            found[_figure(metric, f"p{percentile:g}")] = _estimate(
                metric.shown(value), spread, len(filled)
            )
    return found


def _estimate(value: float, spread: float | None, blocks: int) -> Estimate:
    if spread is None or value <= 0 or blocks < LEAST_BLOCKS:
        return Estimate(value)
    return Estimate(value, spread, blocks - 1)


def _mean(metric: Metric, sums: _Floats, sizes: _Floats) -> Estimate:
    mean = float(sums.sum() / sizes.sum())
    spread = _ratio_error(sums, sizes) / mean if mean > 0 else None
    return _estimate(metric.shown(mean), spread, sizes.size)


def _ratio_error(parts: _Floats, sizes: _Floats) -> float:
    """Return the standard error of sum(parts) ÷ sum(sizes), from how much it differs by block.

    Source: Cochran, "Sampling Techniques", section 6.3: the variance of a ratio estimate.
    """
    if sizes.size < 2:
        return 0.0
    total = float(sizes.sum())
    strays = parts - float(parts.sum()) / total * sizes
    scatter = float(np.square(strays).sum()) * sizes.size / (sizes.size - 1)
    return math.sqrt(scatter * _memory(strays)) / total


def _memory(strays: _Floats) -> float:
    """Return how much larger a variance is than it looks, as blocks resemble the ones before.

    Args:
        strays: how far each block is from what is usual, in the order of time.

    Source: the variance of a mean of a first-order autoregressive series; the estimate of its
    coefficient is 1/n too low on average, see Marriott, Pope, "Bias in the estimation of
    autocorrelations" (1954).
    """
    scatter = float(np.square(strays).sum())
    if scatter == 0:
        return 1.0
    alike = float((strays[1:] * strays[:-1]).sum()) / scatter + 1 / strays.size
    alike = min(max(alike, 0.0), _MOST_ALIKE)
    return (1 + alike) / (1 - alike)


def _percentile_spread(ordered: Values, percentile: float, error: float) -> float | None:
    """Return the spread of a percentile, given the error of the share of values up to it.

    Source: Woodruff, "Confidence intervals for medians and other position measures" (1952).
    """
    reach = 100 * NORMAL_975 * error
    if not 0 <= percentile - reach <= percentile + reach <= 100:
        return None
    low, value, high = (percentile_of(ordered, percentile + by) for by in (-reach, 0, reach))
    # The longer side: where values gather in two places, one side alone may look certain.
    return math.log(max(value / low, high / value)) / NORMAL_975 if low > 0 else None


def _of_rate(figure: Figure, arrivals: rates.Arrivals, window: Window, blocks: int) -> Estimates:
    if window.duration_ns <= 0 or not arrivals.at_ns.size:
        return {}
    inside = (arrivals.at_ns >= window.open_at_ns) & (arrivals.at_ns < window.close_at_ns)
    block = (arrivals.at_ns[inside] - window.open_at_ns) * blocks // window.duration_ns
    counts = np.bincount(block, weights=arrivals.weights[inside], minlength=blocks).astype(
        np.float64
    )
    total = float(counts.sum())
    spread = _ratio_error(counts, np.ones(blocks)) * blocks / total if total > 0 else None
    return {figure: _estimate(per_second(total, window.duration_ns), spread, blocks)}
