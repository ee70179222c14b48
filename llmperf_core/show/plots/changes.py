"""A comparison: each change with its interval, against the margin in which nothing has changed."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import altair as alt

from llmperf_core.judge import Change
from llmperf_core.show.comparison import ComparisonView, figure_label
from llmperf_core.show.plots.subject import said
from llmperf_core.show.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    VERMILION,
    WIDTH,
    data,
    layered,
    themed,
    title,
)
from llmperf_core.units import format_number

Row: TypeAlias = Mapping[str, str | float]

_OUTCOMES = ("better", "same", "cannot tell", "worse")
_COLOURS = (GREEN, BLUE, GREY, VERMILION)
_SHAPES = ("triangle-up", "circle", "square", "triangle-down")
_TELLING = ("worse", "better", "same", "cannot tell")
_MOST = 30
_ROW = 20
_LABELS = 200
"""What there is room for, in pixels, with the load before the figure."""
_WIDEST = 100.0
"""In per cent: a longer interval is cut off at the edge, and its figures are in the words."""


def changes(view: ComparisonView) -> alt.LayerChart:
    """Return the chart of all figures whose change is known."""
    known = rows_of(view)
    rows = drawn_of(known)
    left_out = len(known) - len(rows)
    edge = min(_WIDEST, max([100 * view.margin, *(_reach(row) for row in rows)]) * 1.08)
    x = alt.X("effect:Q").title("change (%), with its 95 % interval").scale(domain=[-edge, edge])
    y = alt.Y("figure:N").sort([str(row["figure"]) for row in rows]).title(None)
    y = y.axis(labelLimit=_LABELS, labelFlush=False)
    outcome = alt.Scale(domain=_OUTCOMES, range=_COLOURS)
    colour = alt.Color("outcome:N").scale(outcome).title(None)
    shown = alt.Chart(data(rows)).encode(x=x, y=y, color=colour)
    band = alt.Chart(data([{"low": -100 * view.margin, "high": 100 * view.margin}]))
    layers = layered(
        band.mark_rect(color=GREY, opacity=0.18).encode(x=alt.X("low:Q"), x2="high:Q"),
        alt.Chart(data([{"effect": 0}])).mark_rule(color=GREY).encode(x=x),
        shown.mark_rule(strokeWidth=2, clip=True).encode(x="low:Q", x2="high:Q"),
        shown.mark_point(filled=True, size=70, opacity=1, clip=True).encode(
            shape=alt.Shape("outcome:N").scale(domain=_OUTCOMES, range=_SHAPES).title(None)
        ),
    ).properties(
        width=WIDTH + 40 - _LABELS,
        height=_ROW * max(len(rows), 1),
        title=title(
            "What has changed",
            [
                f"{view.candidate} against {view.baseline}",
                said(f"shaded: the same, ±{100 * view.margin:g} %", simulated=view.simulated),
                *([f"{left_out} figures that say less are left out"] if left_out else []),
            ],
        ),
    )
    drawn: alt.LayerChart = themed(layers)
    return drawn


def in_words(view: ComparisonView) -> str:
    """Return what the plot shows: every figure with its change and its outcome."""
    said = [
        f"{row['figure']}: {row['outcome']}, {format_number(float(row['effect']))} % "
        f"[{format_number(float(row['low']))}, {format_number(float(row['high']))}]"
        for row in rows_of(view)
    ]
    return "; ".join(said) + "." if said else "No figure has a known change."


def rows_of(view: ComparisonView) -> Sequence[Row]:
    """Return the figures in the order of the tables, changes in per cent."""
    many = len(view.pairs) > 1
    return [
        _row(change, f"{pair.load}: " if many else "", change.effect)
        for pair in view.pairs
        for change in pair.changes
        if change.effect is not None
    ]


def drawn_of(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows that say most, in their order, if there are more than a picture can take."""
    saying_most = sorted(rows, key=lambda row: _TELLING.index(str(row["outcome"])))[:_MOST]
    return [row for row in rows if row in saying_most]


def _row(change: Change, load: str, effect: float) -> Row:
    low, high = change.ci95 or (effect, effect)
    return {
        "figure": load + figure_label(change.figure),
        "outcome": change.outcome,
        "effect": 100 * effect,
        "low": 100 * low,
        "high": 100 * high,
    }


def _reach(row: Row) -> float:
    return max(abs(float(row["low"])), abs(float(row["high"])))
