"""Cost against latency: what a lower latency costs, and which choices nobody should make."""

from collections.abc import Mapping, Sequence

import altair as alt
from attrs import frozen

from llmperf_core.judge import Quantity
from llmperf_core.show.plots.subject import said
from llmperf_core.show.plots.theme import BLUE, GREY, HEIGHT, WIDTH, data, layered, themed, title
from llmperf_core.show.view import named, number
from llmperf_core.units import format_number


@frozen(kw_only=True)
class CostPoint:
    """A stage whose price is known."""

    label: str
    """The target and its load."""
    usd: float
    """Per million output tokens."""
    latency: Quantity
    status: str
    """Its verdict."""
    simulated: bool = False


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Return the points that no other beats in cost and latency both, from the cheapest on.

    A point that is invalid is never among them.
    """
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.usd, point.latency.value)):
        quickest = front[-1].latency.value if front else float("inf")
        if point.status != "invalid" and point.latency.value < quickest:
            front.append(point)
    return front


def cost(points: Sequence[CostPoint], metric: str, caption: Sequence[str]) -> alt.LayerChart:
    """Return the chart: the front as a line with its labels, all others beside it."""
    front = pareto_front(points)
    x = alt.X("latency:Q").title(f"{named(metric)} ({points[0].latency.unit})").scale(zero=True)
    y = alt.Y("usd:Q").title("cost (USD per million output tokens)").scale(zero=True)
    best = alt.Chart(data(list(map(_row, front)))).encode(x=x, y=y)
    others = alt.Chart(data([_row(point) for point in points if point not in front]))
    layers = layered(
        others.mark_point(size=46, color=GREY, shape="square", opacity=0.9).encode(x=x, y=y),
        best.mark_rule(color=BLUE, opacity=0.5).encode(x="low:Q", x2="high:Q", y=y),
        best.mark_line(color=BLUE, interpolate="step-before").encode(order="order:Q"),
        best.mark_point(size=70, color=BLUE, filled=True, opacity=1),
        best.mark_text(align="left", dx=8, dy=-6, fontSize=10, limit=220).encode(text="label:N"),
    ).properties(
        width=WIDTH,
        height=HEIGHT + 60,
        title=title(
            "Cost against latency",
            [*caption, said(_KEY, simulated=any(point.simulated for point in points))],
        ),
    )
    drawn: alt.LayerChart = themed(layers)
    return drawn


_KEY = "blue: nothing is cheaper and quicker; grey: something is, or invalid"


def in_words(points: Sequence[CostPoint], metric: str) -> str:
    """Return what the plot shows: the points of the front, and how many others there are."""
    front = pareto_front(points)
    listed = "; ".join(
        f"{point.label}: {format_number(point.usd)} USD per million output tokens at "
        f"{number(point.latency)} {point.latency.unit} {named(metric)}"
        for point in front
    )
    return f"On the Pareto front: {listed or 'nothing'}. {len(points) - len(front)} others."


def _row(point: CostPoint) -> Mapping[str, object]:
    low, high = point.latency.ci95 or (point.latency.value, point.latency.value)
    return {
        "label": point.label,
        "usd": point.usd,
        "latency": point.latency.value,
        "low": low,
        "high": high,
        "order": -point.usd,
    }
