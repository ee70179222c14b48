"""Latency by percentile, the plot that HdrHistogram made known: how long is the tail?

Source: HdrHistogram, https://github.com/HdrHistogram/HdrHistogram: the axis is 1 ÷ (1 − p), in
decades, so that each nine has the same room.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import altair as alt
import numpy as np
from attrs import frozen

from llmperf_core.judge import MetricSummary, percentile_curve
from llmperf_core.show.plots.subject import Subject
from llmperf_core.show.plots.theme import (
    HEIGHT,
    WIDTH,
    colour,
    dash,
    data,
    decades,
    layered,
    shape,
    stroke,
    themed,
    title,
)
from llmperf_core.show.view import interval, named, number

_POINTS = 120
"""Of a curve; more cannot be told apart in a picture of this width."""
_MOST_NINES = 5
_NAMED = (50, 90, 95, 99, 99.9)
_TICKS = (math.log10(2), 1, 2, 3, 4, 5)
_PERCENT = "format(100 * (1 - pow(10, -datum.value)), '.5~g') + ' %'"


@frozen(kw_only=True)
class Curve:
    """One line of the plot."""

    label: str
    metric: MetricSummary
    points: Sequence[tuple[float, float]]
    """Percentile and value in the shown unit."""


def curve_of(subject: Subject, name: str, label: str) -> Curve:
    """Return a metric of a stage by percentile, as far as its count supports one.

    Where no request is known, the percentiles that were published are all there is.
    """
    metric = subject[name]
    wanted = [100 * (1 - 10**-nines) for nines in np.linspace(0, _MOST_NINES, _POINTS)]
    found = percentile_curve(
        metric.metric, subject.timelines, subject.view.summary.window, [*wanted, *_NAMED]
    ) or [(p, value) for p, value in metric.percentiles.items() if value is not None]
    return Curve(
        label=label,
        metric=metric,
        points=[(p, metric.metric.shown(value)) for p, value in sorted(found)],
    )


def percentiles(
    curves: Sequence[Curve], heading: str, caption: Sequence[str], *, logarithmic: bool
) -> alt.LayerChart:
    """Return the chart of some curves, with the 95 % interval of each percentile that has one."""
    labels = [curve.label for curve in curves]
    unit = curves[0].metric.metric.unit
    values = [value for curve in curves for _, value in curve.points if value > 0]
    if logarithmic and values:
        ticks = decades(min(values), max(values))
        scale, axis = alt.Scale(type="log"), alt.Axis(values=ticks)
    else:
        scale, axis = alt.Scale(zero=True), alt.Axis(tickCount=5)
    x = (
        alt.X("nines:Q")
        .title("percentile (each nine has the same room)")
        .axis(values=_TICKS, labelExpr=_PERCENT)
    )
    y = alt.Y("value:Q").title(f"{_metrics(curves)} ({unit})").scale(scale).axis(axis)
    lines = alt.Chart(data([row for curve in curves for row in _line(curve)])).encode(
        x=x, y=y, stroke=stroke(labels), strokeDash=dash(labels)
    )
    marked = alt.Chart(data([row for curve in curves for row in _named(curve)])).encode(x=x)
    layers = layered(
        marked.mark_rule(strokeWidth=4, opacity=0.35).encode(
            y=alt.Y("low:Q"), y2="high:Q", stroke=stroke(labels)
        ),
        lines.mark_line(),
        marked.mark_point(filled=True, size=34, opacity=1).encode(
            y=y, color=colour(labels), shape=shape(labels)
        ),
    ).properties(width=WIDTH, height=HEIGHT, title=title(heading, caption))
    drawn: alt.LayerChart = themed(layers)
    return drawn


def in_words(curves: Sequence[Curve]) -> str:
    """Return what the plot shows: the percentiles of each curve, with their intervals."""
    return "; ".join(f"{curve.label}: {_figures(curve.metric)}" for curve in curves) + "."


def _figures(metric: MetricSummary) -> str:
    said = []
    for p in _NAMED:
        quantity = metric.percentile(p)
        if quantity is not None:
            bounds = f" {interval(quantity)}" if quantity.ci95 else ""
            said.append(f"p{p:g} {number(quantity)}{bounds}")
    many = f"{metric.count:,} values"
    return f"{', '.join(said)} {metric.metric.unit}, of {many}" if said else f"only {many}"


def _metrics(curves: Sequence[Curve]) -> str:
    names = {named(curve.metric.metric.name) for curve in curves}
    return names.pop() if len(names) == 1 else "time"


def _nines(percentile: float) -> float:
    return -math.log10(1 - percentile / 100)


def _line(curve: Curve) -> Iterator[Mapping[str, object]]:
    for p, value in curve.points:
        yield {"series": curve.label, "nines": _nines(p), "value": value}


def _named(curve: Curve) -> Iterator[Mapping[str, object]]:
    for p in _NAMED:
        quantity = curve.metric.percentile(p)
        if quantity is not None:
            low, high = quantity.ci95 or (quantity.value, quantity.value)
            yield {
                "series": curve.label,
                "nines": _nines(p),
                "value": quantity.value,
                "low": low,
                "high": high,
            }
