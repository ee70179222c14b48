"""Throughput against latency, a point for each load: where does more load stop paying?"""

from collections.abc import Iterator, Mapping, Sequence

import altair as alt
from attrs import asdict, frozen

from llmperf_core.judge import MetricSummary, Quantity, Slo
from llmperf_core.show.plots.subject import Subject, said, statuses
from llmperf_core.show.plots.theme import (
    HEIGHT,
    INK,
    VERMILION,
    WIDTH,
    colour,
    dash,
    data,
    layered,
    shape,
    stroke,
    themed,
    title,
)
from llmperf_core.show.view import named, number

_PREFERRED = ("ttft", "e2e", "time_per_token")
"""The first of these that all stages have is drawn, unless another is asked for."""
_PERCENTILES = (50, 95)


@frozen(kw_only=True)
class Point:
    """A stage in the plot."""

    series: str
    load: str
    x: Quantity
    y: Quantity
    status: str


def metric_of(subjects: Sequence[Subject]) -> str | None:
    """Return which metric to draw; None where the stages have none in common."""
    return next((name for name in _PREFERRED if all(s.has(name) for s in subjects)), None)


def points_of(subjects: Sequence[Subject], name: str) -> list[Point]:
    """Return the points: a line for each target, or of one target for its p50 and p95."""
    targets = list(dict.fromkeys(subject.target for subject in subjects))
    found = []
    for percentile in _PERCENTILES if len(targets) == 1 else _PERCENTILES[:1]:
        for subject in subjects:
            x, y = _throughput(subject), subject[name].percentile(percentile)
            if x is not None and y is not None:
                found.append(
                    Point(
                        series=f"p{percentile}" if len(targets) == 1 else subject.target,
                        load=f"{subject.view.load.value:g}",
                        x=x,
                        y=y,
                        status=subject.view.verdict.status,
                    )
                )
    return found


def _throughput(subject: Subject) -> Quantity | None:
    """Return tokens per second, or requests where nobody counted tokens."""
    summary = subject.view.summary
    return summary.output_tokens_per_s or summary.requests_per_s


def throughput(
    subjects: Sequence[Subject], points: Sequence[Point], name: str, slo: Slo | None
) -> alt.LayerChart:
    """Return the chart of some stages; bars are 95 % intervals, a hollow point is not valid."""
    labels = list(dict.fromkeys(point.series for point in points))
    metric = subjects[0][name].metric
    rows = alt.Chart(data(list(map(_row, points))))
    x = alt.X("x:Q").title(f"throughput ({points[0].x.unit})").scale(zero=True)
    y = alt.Y("y:Q").title(f"{named(name)} ({metric.unit})").scale(zero=True)
    marked = rows.encode(x=x, y=y)
    points_of_series = {"color": colour(labels), "shape": shape(labels)}
    sound = alt.datum.status == "valid"
    layers = [
        marked.mark_line().encode(stroke=stroke(labels), strokeDash=dash(labels), order="order:Q"),
        rows.mark_rule(opacity=0.6).encode(x="low_x:Q", x2="high_x:Q", y=y, stroke=stroke(labels)),
        rows.mark_rule(opacity=0.6).encode(x=x, y="low_y:Q", y2="high_y:Q", stroke=stroke(labels)),
        marked.transform_filter(sound)
        .mark_point(filled=True, size=60, opacity=1)
        .encode(**points_of_series),
        marked.transform_filter(~sound).mark_point(size=60, opacity=1).encode(**points_of_series),
        rows.transform_filter(alt.datum.series != "p95")
        .mark_text(dy=13, fontSize=10)
        .encode(x=x, y=y, text="load:N"),
        *_limit(slo, name),
    ]
    heading = f"{named(name)} against throughput; a point for each load"
    drawn: alt.LayerChart = themed(
        layered(*layers).properties(
            width=WIDTH, height=HEIGHT, title=title(heading, _caption(subjects))
        )
    )
    return drawn


def _caption(subjects: Sequence[Subject]) -> list[str]:
    targets = list(dict.fromkeys(subject.target for subject in subjects))
    whose = targets[0] if len(targets) == 1 else f"{len(targets)} targets"
    simulated = any(subject.simulated for subject in subjects)
    kinds = ", ".join(dict.fromkeys(subject.view.load.kind for subject in subjects))
    worth = f"{statuses(subjects)}; a hollow point is not valid"
    return [whose, said(worth, kinds, simulated=simulated)]


def in_words(points: Sequence[Point], slo: Slo | None, metric: MetricSummary) -> str:
    """Return what the plot shows: every point."""
    listed = "; ".join(
        f"{point.series} at load {point.load}: {number(point.y)} {point.y.unit} at "
        f"{number(point.x)} {point.x.unit} ({point.status})"
        for point in points
    )
    limit_ms = _limit_ms(slo, metric.metric.name)
    return f"{listed}. " + (f"The limit is {limit_ms:g} ms." if limit_ms is not None else "")


def _row(point: Point) -> Mapping[str, object]:
    x, y = point.x, point.y
    low_x, high_x = x.ci95 or (x.value, x.value)
    low_y, high_y = y.ci95 or (y.value, y.value)
    return {
        "series": point.series,
        "load": point.load,
        "order": float(point.load),
        "status": point.status,
        "x": x.value,
        "low_x": low_x,
        "high_x": high_x,
        "y": y.value,
        "low_y": low_y,
        "high_y": high_y,
    }


def _limit_ms(slo: Slo | None, name: str) -> float | None:
    found = None if slo is None else asdict(slo).get(f"{name}_ms")
    return None if found is None else float(found)


def _limit(slo: Slo | None, name: str) -> Iterator[alt.Chart]:
    limit_ms = _limit_ms(slo, name)
    if limit_ms is not None:
        rows = alt.Chart(data([{"y": limit_ms, "label": f"SLO {limit_ms:g} ms"}])).encode(y="y:Q")
        yield rows.mark_rule(color=VERMILION, strokeDash=[6, 3])
        yield rows.mark_text(align="left", baseline="bottom", dx=4, dy=-3, color=INK).encode(
            text="label:N", x=alt.value(0)
        )
