"""How every plot looks: sizes, colours, and what else tells series apart.

Colours are for the colour-blind, and each comes with a dash and a shape, so that a print in grey
can be read, too.

Source: the colours of Okabe, Ito, "Color Universal Design" (2008); the order is ours.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import altair as alt

WIDTH = 400
"""Of the plotted area, in pixels: with its axis it fits twice on a page and once on a telephone."""
HEIGHT = 210
PANEL_HEIGHT = 74
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = COLOURS = (
    *("#0072B2", "#D55E00", "#009E73"),
    *("#CC79A7", "#56B4E9", "#E69F00"),
)
GREY = "#888888"
DASHES: Sequence[Sequence[int]] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [1, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
MOST_SERIES = len(COLOURS)
"""Beyond that nobody can tell them apart."""
INK = "currentColor"
"""The colour of the text around the picture, in light and in dark; black where there is none."""
_FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"

Rows = Sequence[Mapping[str, Any]]


def data(rows: Rows) -> alt.InlineData:
    """Return rows as data that travels with the chart."""
    return alt.InlineData(values=[dict(row) for row in rows])


def layered(*layers: alt.Chart | alt.LayerChart) -> alt.LayerChart:
    """Return charts on top of each other."""
    # Its type names what it returns of charts in facets, too, of which we have none.
    return cast(alt.LayerChart, alt.layer(*layers))


def title(text: str, caption: Sequence[str], *, width: int = WIDTH) -> alt.TitleParams:
    """Return a title with its caption under it, cut off where the picture ends."""
    return alt.TitleParams(text, subtitle=list(caption), limit=width + 60)


def stroke(labels: Sequence[str]) -> alt.Stroke:
    """Return the colours of lines, in their order."""
    return alt.Stroke("series:N", scale=_scale(labels, COLOURS), legend=_legend(labels), title=None)


def dash(labels: Sequence[str]) -> alt.StrokeDash:
    """Return the dashes of lines, in their order."""
    return alt.StrokeDash("series:N", scale=_scale(labels, DASHES), legend=None)


def colour(labels: Sequence[str]) -> alt.Color:
    """Return the colours of points, in their order."""
    return alt.Color("series:N", scale=_scale(labels, COLOURS), legend=_legend(labels), title=None)


def shape(labels: Sequence[str]) -> alt.Shape:
    """Return the shapes of points, in their order."""
    return alt.Shape("series:N", scale=_scale(labels, SHAPES), legend=_legend(labels), title=None)


def _scale(labels: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(labels), range=list(values[: len(labels)]))


def _legend(labels: Sequence[str]) -> alt.Legend | None:
    return alt.Legend(columns=3, symbolSize=60, symbolOpacity=1) if len(labels) > 1 else None


def decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 of each power of ten between the bounds: ticks of a logarithmic axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    return [step * 10.0**power for power in range(first, last + 1) for step in steps]


def themed(chart: Any) -> Any:  # noqa: ANN401 -- layered and concatenated charts have no common type
    """Return the chart as all of ours look."""
    return chart.configure(
        aria=False,
        background="transparent",
        font=_FONT,
        padding=4,
        axis=alt.AxisConfig(
            labelColor=INK,
            labelFontSize=11,
            titleColor=INK,
            titleFontSize=11,
            titleFontWeight="normal",
            domainColor=GREY,
            tickColor=GREY,
            gridColor=GREY,
            gridOpacity=0.22,
            labelFlush=True,
        ),
        legend=alt.LegendConfig(
            labelColor=INK, labelFontSize=11, orient="bottom", symbolStrokeWidth=0, labelLimit=260
        ),
        title=alt.TitleConfig(
            color=INK,
            subtitleColor=INK,
            fontSize=13,
            subtitleFontSize=11,
            anchor="start",
            frame="bounds",
            offset=8,
        ),
        view=alt.ViewConfig(stroke="transparent"),
        concat=alt.CompositionConfig(spacing=6),
        line=alt.LineConfig(strokeWidth=1.8),
        text=alt.MarkConfig(color=INK, fontSize=11),
    )
