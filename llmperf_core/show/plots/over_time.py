"""What happened when: requests and tokens, and what the server showed, under one time axis."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import altair as alt
import numpy as np
import numpy.typing as npt
from attrs import frozen

from llmperf_core.judge import Course, course
from llmperf_core.show.plots.subject import Subject
from llmperf_core.show.plots.theme import (
    COLOURS,
    GREY,
    MOST_SERIES,
    PANEL_HEIGHT,
    WIDTH,
    Rows,
    colour,
    dash,
    data,
    layered,
    shape,
    stroke,
    themed,
    title,
)
from llmperf_core.telemetry import COUNTERS
from llmperf_core.units import format_duration, format_number, s_from_ns

Floats = npt.NDArray[np.float64]

_PARTS = 80
"""Of the time axis; a picture of this width shows no more."""
_PANELS: Mapping[str, Callable[[Course], Floats]] = {
    "arrivals (req/s)": lambda course: course.requests_per_s,
    "in flight (requests)": lambda course: course.in_flight,
    "output (tok/s)": lambda course: course.tokens_per_s,
}
_SHADED = "shaded: warm-up and drain, which no figure counts"
_STATES: Mapping[str, tuple[str, float]] = {
    "running": ("running (requests)", 1),
    "queued": ("queued (requests)", 1),
    "kv_use": ("KV cache (%)", 100),
    "busy": ("busy (%)", 100),
    "memory_bytes": ("memory (GB)", 1e-9),
    "power_w": ("power (W)", 1),
    "temperature_c": ("temperature (°C)", 1),
    "sm_clock_mhz": ("SM clock (MHz)", 1),
}
"""States that are drawn: the title of the axis, and what a reading is multiplied by."""


def course_of(subject: Subject) -> Course:
    """Return how a stage went, from its requests, which are gone through once."""
    end_at_ns = max(subject.observation.ended_at_ns, subject.view.summary.window.close_at_ns, 1)
    return course(subject.timelines, end_at_ns, parts=_PARTS)


def over_time(subject: Subject, *, telemetry: bool) -> alt.VConcatChart:
    """Return the panels under one time axis, the window marked and what is beside it shaded."""
    seen = course_of(subject)
    states = {
        axis: readings
        for word, (axis, factor) in (_STATES.items() if telemetry else ())
        if (readings := _readings(subject, word, factor))
    }
    lowest = [*_PANELS, *states][-1]
    frames = {axis: _Frame(subject, seen, axis, axis == lowest) for axis in (*_PANELS, *states)}
    panels = [
        *(
            _area(frames[axis], _steps(seen, values(seen)), COLOURS[k])
            for k, (axis, values) in enumerate(_PANELS.items())
        ),
        *(_lines(frames[axis], readings) for axis, readings in states.items()),
    ]
    heading = "The stage over time" + (", with its server and machine" if telemetry else "")
    stacked = alt.vconcat(*panels, title=title(heading, [*subject.caption, _SHADED]))
    drawn: alt.VConcatChart = themed(stacked)
    return drawn


def in_words(subject: Subject, *, telemetry: bool) -> str:
    """Return what the plot shows: the window, and the mean and the range of each panel in it."""
    seen, window = course_of(subject), subject.view.summary.window
    open_s, close_s = s_from_ns(window.open_at_ns), s_from_ns(window.close_at_ns)
    middles = (seen.edges_s[1:] + seen.edges_s[:-1]) / 2
    inside = (middles >= open_s) & (middles < close_s)
    said = [f"{axis} {_range(of(seen)[inside])}" for axis, of in _PANELS.items() if inside.any()]
    for word, (axis, factor) in _STATES.items() if telemetry else ():
        found = [
            row["value"] for row in _readings(subject, word, factor) if open_s <= row["s"] < close_s
        ]
        if found:
            said.append(f"{axis} {_range(np.array(found))}")
    later_ns = subject.view.summary.warmup_detected_ns
    later = f", {format_duration(later_ns)} later than planned" if later_ns else ""
    whole = f"The window is from {format_number(open_s)} s{later} to {format_number(close_s)} s."
    return f"{whole} In it: {'; '.join(said)}."


def _range(values: Floats) -> str:
    return (
        f"{format_number(float(values.mean()))} on average, "
        f"{format_number(float(values.min()))} to {format_number(float(values.max()))}"
    )


def _steps(course: Course, values: Floats) -> Rows:
    rows = [
        {"s": float(s), "value": round(float(v), 4)}
        for s, v in zip(course.edges_s[:-1], values, strict=True)
    ]
    return [*rows, {"s": float(course.edges_s[-1]), "value": rows[-1]["value"]}]


@frozen
class _Frame:
    """What the layers of a panel have in common."""

    subject: Subject
    course: Course
    axis: str
    lowest: bool
    """The lowest panel alone has figures under it."""

    @property
    def x(self) -> alt.X:
        """The time."""
        axis = (
            alt.Axis(title="time since the stage began (s)")
            if self.lowest
            else alt.Axis(title=None, labels=False, ticks=False)
        )
        scale = alt.Scale(domain=[0, self.end_s], nice=False)
        return alt.X("s:Q").scale(scale).axis(axis)

    @property
    def y(self) -> alt.Y:
        """What is measured, its unit under it."""
        lines = self.axis.replace(" (", "\n(").split("\n")
        return alt.Y("value:Q").title(lines).axis(tickCount=3, minExtent=44)

    @property
    def end_s(self) -> float:
        """The end of the axis."""
        return float(self.course.edges_s[-1])

    def around(self, drawn: alt.Chart | alt.LayerChart) -> alt.LayerChart:
        """Put what is outside of the window behind a panel, and the window's edges."""
        window = self.subject.view.summary.window
        open_s, close_s = s_from_ns(window.open_at_ns), s_from_ns(window.close_at_ns)
        outside = [{"s": 0.0, "to": open_s}, {"s": close_s, "to": self.end_s}]
        shaded = alt.Chart(data([part for part in outside if part["to"] > part["s"]]))
        edges = alt.Chart(data([{"s": open_s}, {"s": close_s}]))
        return layered(
            shaded.mark_rect(color=GREY, opacity=0.18).encode(x=self.x, x2="to:Q"),
            drawn,
            edges.mark_rule(color=GREY, strokeDash=[4, 3]).encode(x=self.x),
        ).properties(width=WIDTH, height=PANEL_HEIGHT)


def _area(frame: _Frame, rows: Rows, line: str) -> alt.LayerChart:
    drawn = (
        alt.Chart(data(rows))
        .mark_area(
            interpolate="step-after", color=line, opacity=0.25, line={"color": line}, clip=True
        )
        .encode(x=frame.x, y=frame.y)
    )
    return frame.around(drawn)


def _lines(frame: _Frame, rows: Rows) -> alt.LayerChart:
    """Return a panel with a line for each meter; its last reading has the shape of the legend."""
    meters = list(dict.fromkeys(str(row["series"]) for row in rows))[:MOST_SERIES]
    kept = [row for row in rows if row["series"] in meters]
    last = list({row["series"]: row for row in kept}.values())
    lines, ends = (alt.Chart(data(part)).encode(x=frame.x, y=frame.y) for part in (kept, last))
    drawn = layered(
        lines.mark_line(clip=True).encode(stroke=stroke(meters), strokeDash=dash(meters)),
        ends.mark_point(filled=True, size=34, opacity=1).encode(
            color=colour(meters), shape=shape(meters)
        ),
    )
    return frame.around(drawn)


def _readings(subject: Subject, word: str, factor: float) -> Rows:
    """Return the readings of a state, the mean of neighbours where there are more than is drawn."""
    if subject.telemetry is None or word in COUNTERS:
        return []
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in subject.telemetry.samples:
        if word in sample.values:
            point = (s_from_ns(sample.at_ns), factor * sample.values[word])
            found.setdefault(sample.meter, []).append(point)
    return [
        {"series": meter, "s": s, "value": value}
        for meter, points in found.items()
        for s, value in _thinned(points)
    ]


def _thinned(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    bounds = np.linspace(0, len(points), min(len(points), _PARTS) + 1).astype(int)
    for start, stop in pairwise(bounds):
        s, value = np.mean(points[start:stop], axis=0)
        yield float(s), float(value)
