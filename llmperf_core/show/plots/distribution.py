"""How the values of a metric are spread: one peak or two, and how far the tail reaches."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import altair as alt
import numpy as np

from llmperf_core.judge import Quantity, Recorder, all_values, samples
from llmperf_core.show.plots.subject import Subject
from llmperf_core.show.plots.theme import (
    BLUE,
    HEIGHT,
    INK,
    WIDTH,
    data,
    layered,
    themed,
    title,
)
from llmperf_core.show.view import named, number
from llmperf_core.units import format_number, percent

_BINS = 60
_MARKED = (50, 99)
_CHUNK = 5_000


def distribution(subject: Subject, name: str) -> alt.LayerChart:
    """Return the histogram of a metric's values in the window, with its median and its p99."""
    metric = subject[name].metric
    scale = alt.Scale(type="log", nice=False)
    x = alt.X("low:Q").title(f"{named(name)} ({metric.unit}, logarithmic)").scale(scale)
    bars = (
        alt.Chart(data(bins_of(subject, name)))
        .mark_bar(color=BLUE, opacity=0.75)
        .encode(
            x=x,
            x2="high:Q",
            y=alt.Y("share:Q").title("share of the values (%)"),
            y2=alt.value(HEIGHT),
        )
    )
    marked = alt.Chart(data(list(_marks(subject, name)))).encode(x=alt.X("low:Q"))
    words = marked.encode(text="label:N", y=alt.Y("place:Q", scale=None, axis=None))
    layers = layered(
        bars,
        marked.mark_rule(color=INK, strokeDash=[4, 3]),
        words.transform_filter(alt.datum.side == "left").mark_text(
            align="left", dx=4, baseline="top"
        ),
        words.transform_filter(alt.datum.side == "right").mark_text(
            align="right", dx=-4, baseline="top"
        ),
    ).properties(
        width=WIDTH,
        height=HEIGHT,
        title=title(f"Distribution of {named(name)}", subject.caption),
    )
    drawn: alt.LayerChart = themed(layers)
    return drawn


def in_words(subject: Subject, name: str) -> str:
    """Return what the plot shows: the range, the middle, and the fullest bin."""
    metric = subject[name]
    rows = bins_of(subject, name)
    fullest = max(rows, key=lambda row: row["share"])
    said = (
        f"{metric.count:,} values of {named(name)} from {number(metric.min)} to "
        f"{number(metric.max)} {metric.metric.unit}; median {number(metric.p50)}, "
        f"p99 {number(metric.p99)}; most lie between {format_number(fullest['low'])} and "
        f"{format_number(fullest['high'])}: {percent(fullest['share'] / 100)}"
    )
    zeros = _recorded(subject, name).count_up_to(0)
    if zeros:
        said += f"; {percent(zeros / metric.count)} are 0, as several came in one read (not drawn)"
    return f"{said}."


def bins_of(subject: Subject, name: str) -> Sequence[Mapping[str, float]]:
    """Return the bins of the values above 0, each with its share of all values in per cent."""
    recorder, metric = _recorded(subject, name), subject[name].metric
    if recorder.max_ns is None:
        return []
    least = recorder.percentile(100 * recorder.count_up_to(0) / recorder.count + 1e-9) or 1
    # Where all values are alike, they still fill a bin of some width.
    low, high = max(1.0, min(least, recorder.max_ns) * 0.98), max(2.0, recorder.max_ns * 1.02)
    edges = np.geomspace(low, high, _BINS + 1)
    below = [recorder.count_up_to(edge) for edge in edges]
    return [
        {
            "low": metric.shown(edges[k]),
            "high": metric.shown(edges[k + 1]),
            "share": 100 * (after - before) / recorder.count,
        }
        for k, (before, after) in enumerate(pairwise(below))
        if after > before
    ]


def _recorded(subject: Subject, name: str) -> Recorder:
    """Return the values as a histogram: a million requests have hundreds of millions of gaps."""
    metric, window = subject[name].metric, subject.view.summary.window
    recorder = Recorder()
    timelines = iter(subject.timelines)
    while chunk := [timeline for timeline, _ in zip(timelines, range(_CHUNK), strict=False)]:
        recorder.record(all_values(metric, samples(chunk, window)))
    return recorder


def _marks(subject: Subject, name: str) -> Iterator[Mapping[str, object]]:
    low, high = (subject[name].min or Quantity(1, "")), (subject[name].max or Quantity(1, ""))
    middle = math.sqrt(max(low.value, 1e-9) * high.value)
    for place, percentile in enumerate(_MARKED):
        quantity = subject[name].percentile(percentile)
        if quantity is not None:
            yield {
                "low": quantity.value,
                "label": f"p{percentile:g} {number(quantity)}",
                "place": 2 + 14 * place,
                "side": "left" if quantity.value < middle else "right",
            }
