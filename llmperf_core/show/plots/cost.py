"""Cost against latency: what a lower latency costs, and which choices nobody should make."""

from collections.abc import Mapping, Sequence

import altair as alt
from attrs import frozen

from llmperf_core.decide import Recommended
from llmperf_core.judge import Quantity
from llmperf_core.show.plots.subject import said
from llmperf_core.show.plots.theme import (
    BLUE,
    GREY,
    HEIGHT,
    WIDTH,
    data,
    decades,
    layered,
    themed,
    title,
)
from llmperf_core.show.recommendation import rows
from llmperf_core.show.view import named, number

_MOST_LISTED = 8


@frozen(kw_only=True)
class CostPoint:
    """A stage whose price is known."""

    label: str
    """The target and its load."""
    cost: Quantity
    latency: Quantity
    status: str
    """Its verdict."""
    simulated: bool = False


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Return the points that no other beats in cost and latency both, from the cheapest on.

    A point that is invalid is never among them.
    """
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.cost.value, point.latency.value)):
        quickest = front[-1].latency.value if front else float("inf")
        if point.status != "invalid" and point.latency.value < quickest:
            front.append(point)
    return front


def points_of(found: Recommended) -> list[CostPoint]:
    """Return what is chosen among, as far as both the cost and the latency are ranked."""
    return [
        CostPoint(
            label=str(row.candidate),
            cost=row.values["cost"],
            latency=row.values["latency"],
            status=row.candidate.status,
            simulated=row.candidate.simulated,
        )
        for row in rows(found)
        if {"cost", "latency"} <= row.values.keys()
    ]


def cost(points: Sequence[CostPoint], figure: str) -> alt.LayerChart:
    """Return the chart: the front as a numbered line, all others beside it; the numbers' key."""
    front = pareto_front(points)
    bounds = [end for point in points for end in (point.cost.ci95 or (point.cost.value,))]
    x = (
        alt.X("latency:Q")
        .title(f"{_figure(figure)} ({points[0].latency.unit})")
        .scale(zero=False, padding=14)
    )
    y = (
        alt.Y("cost:Q")
        .title(f"cost ({points[0].cost.unit})")
        .axis(values=decades(min(bounds), max(bounds)))
        .scale(type="log", padding=14)
    )
    numbered = [{**_row(point), "number": f"{k}"} for k, point in enumerate(front, start=1)]
    best = alt.Chart(data(numbered)).encode(x=x, y=y)
    others = alt.Chart(data([_row(point) for point in points if point not in front]))
    layers = layered(
        others.mark_point(size=46, color=GREY, shape="square", opacity=0.9).encode(x=x, y=y),
        best.mark_rule(color=BLUE, opacity=0.5).encode(x="low:Q", x2="high:Q"),
        best.mark_rule(color=BLUE, opacity=0.5).encode(y="low_cost:Q", y2="high_cost:Q"),
        best.mark_line(color=BLUE, interpolate="step-before").encode(order="order:Q"),
        best.mark_point(size=70, color=BLUE, filled=True, opacity=1),
        best.mark_text(align="left", dx=6, dy=-9, fontWeight="bold").encode(text="number:N"),
    ).properties(
        width=WIDTH,
        height=HEIGHT + 60,
        title=title("Cost against latency", [*_caption(points), *_key(front)]),
    )
    drawn: alt.LayerChart = themed(layers)
    return drawn


def _caption(points: Sequence[CostPoint]) -> list[str]:
    meant = "blue: nothing is cheaper and quicker; grey: something is, or it is invalid"
    return [said(meant, simulated=any(point.simulated for point in points))]


def _key(front: Sequence[CostPoint]) -> list[str]:
    listed = [f"{k}  {point.label}" for k, point in enumerate(front, start=1)]
    more = len(listed) - _MOST_LISTED
    return listed if more <= 0 else [*listed[:_MOST_LISTED], f"and {more} more"]


def in_words(points: Sequence[CostPoint], figure: str) -> str:
    """Return what the plot shows: the points of the front, and how many others there are."""
    front = pareto_front(points)
    listed = "; ".join(
        f"{point.label}: {number(point.cost)} {point.cost.unit} at "
        f"{number(point.latency)} {point.latency.unit} {_figure(figure)}"
        for point in front
    )
    return f"On the Pareto front: {listed or 'nothing'}. {len(points) - len(front)} others."


def _figure(figure: str) -> str:
    """Return `ttft.p50` as `TTFT p50`."""
    metric, _, statistic = figure.partition(".")
    return f"{named(metric)} {statistic}".rstrip()


def _row(point: CostPoint) -> Mapping[str, object]:
    low, high = point.latency.ci95 or (point.latency.value, point.latency.value)
    low_cost, high_cost = point.cost.ci95 or (point.cost.value, point.cost.value)
    return {
        "label": point.label,
        "cost": point.cost.value,
        "low_cost": low_cost,
        "high_cost": high_cost,
        "latency": point.latency.value,
        "low": low,
        "high": high,
        "order": -point.cost.value,
    }
