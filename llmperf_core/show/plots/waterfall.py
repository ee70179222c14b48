"""Single requests, token by token: where the time of the slow ones went."""

from collections.abc import Iterator, Mapping, Sequence

import altair as alt
import numpy as np

from llmperf_core.show.plots.subject import Subject
from llmperf_core.show.plots.theme import (
    BLUE,
    GREY,
    INK,
    SKY,
    VERMILION,
    WIDTH,
    data,
    layered,
    themed,
    title,
)
from llmperf_core.timeline import Completed, Failed, Timeline
from llmperf_core.units import format_duration, ms_from_ns

COUNT = 10
_MOST_TICKS = 250
"""Of one request; a picture of this width cannot tell more of them apart."""
_ROW = 19
_PHASES = ("late in being sent", "until the first token", "tokens")


def chosen(subject: Subject, count: int = COUNT) -> list[Timeline]:
    """Return requests of the window from the quickest to the slowest, at even ranks.

    The stage is gone through twice, so that a long one is never in memory whole.
    """
    window = subject.view.summary.window
    lasted = np.array(
        [
            _whole_ns(t) if t.start_at_ns is not None and t.start_at_ns in window else -1
            for t in subject.timelines
        ],
        dtype=np.int64,
    )
    ordered = np.argsort(lasted, kind="stable")[np.count_nonzero(lasted < 0) :]
    ranks = np.linspace(0, ordered.size - 1, min(count, ordered.size)).round().astype(int)
    wanted = {int(position): place for place, position in enumerate(ordered[ranks])}
    found = [(wanted[k], t) for k, t in enumerate(subject.timelines) if k in wanted]
    return [timeline for _, timeline in sorted(found, key=lambda pair: pair[0])]


def waterfall(subject: Subject, requests: Sequence[Timeline]) -> alt.LayerChart:
    """Return the chart of some requests, each from its own start."""
    order = [_name(timeline) for timeline in requests]
    y = alt.Y("request:N").sort(order).title("request").axis(labelFlush=False)
    longest = max((ms_from_ns(_whole_ns(timeline)) for timeline in requests), default=1)
    x = alt.X("ms:Q").title("time since start (ms)").scale(domain=[0, longest * 1.04], nice=False)
    phases = alt.Color("phase:N").scale(domain=_PHASES, range=[VERMILION, GREY, SKY])
    phases = phases.title(None).legend(columns=2)
    bars = alt.Chart(data([row for t in requests for row in _bars(t)]))
    ticks = alt.Chart(data([row for t in requests for row in _ticks(t)]))
    ends = alt.Chart(data([_end(t) for t in requests]))
    layers = layered(
        bars.mark_bar(opacity=0.55, height=_ROW - 8).encode(x=x, x2="to:Q", y=y, color=phases),
        ticks.mark_tick(color=BLUE, thickness=1, size=_ROW - 6).encode(x=x, y=y),
        ends.mark_point(filled=True, size=46, color=INK, opacity=1).encode(
            x=x,
            y=y,
            shape=alt.Shape("end:N")
            .scale(
                domain=["completed", "failed", "cut off"],
                range=["circle", "cross", "triangle-right"],
            )
            .title(None)
            .legend(columns=2),
        ),
    ).properties(
        width=WIDTH,
        height=_ROW * max(len(requests), 1),
        title=title("Single requests, token by token", subject.caption),
    )
    drawn: alt.LayerChart = themed(layers)
    return drawn


def in_words(requests: Sequence[Timeline]) -> str:
    """Return what the plot shows: for each request its first token, its end and its tokens."""
    return "; ".join(map(_in_words, requests)) + "." if requests else "No request began."


def _in_words(timeline: Timeline) -> str:
    start_ns = timeline.start_at_ns or 0
    said = [f"request {_name(timeline)}:"]
    if timeline.token_at_ns.size:
        said.append(
            f"first token after {format_duration(int(timeline.token_at_ns[0]) - start_ns)},"
        )
    said.append(f"{_ended(timeline)} after {format_duration(_whole_ns(timeline))}")
    return f"{' '.join(said)} with {timeline.token_at_ns.size:,} tokens"


def _name(timeline: Timeline) -> str:
    return f"#{timeline.index}"


def _whole_ns(timeline: Timeline) -> int:
    return timeline.ended_at_ns - (timeline.start_at_ns or 0)


def _since_start_ms(timeline: Timeline, at_ns: int) -> float:
    return ms_from_ns(at_ns - (timeline.start_at_ns or 0))


def _bars(timeline: Timeline) -> Iterator[Mapping[str, object]]:
    start_ns = timeline.start_at_ns or 0
    sent_ns = timeline.sent_at_ns or start_ns
    tokens = timeline.token_at_ns
    first_ns = int(tokens[0]) if tokens.size else timeline.ended_at_ns
    last_ns = int(tokens[-1]) if tokens.size else first_ns
    edges = (start_ns, sent_ns, first_ns, last_ns)
    for phase, low_ns, high_ns in zip(_PHASES, edges[:-1], edges[1:], strict=True):
        if high_ns > low_ns:
            yield {
                "request": _name(timeline),
                "phase": phase,
                "ms": _since_start_ms(timeline, low_ns),
                "to": _since_start_ms(timeline, high_ns),
            }


def _ticks(timeline: Timeline) -> Iterator[Mapping[str, object]]:
    tokens = timeline.token_at_ns
    for at_ns in tokens[:: max(1, -(-tokens.size // _MOST_TICKS))]:
        yield {"request": _name(timeline), "ms": _since_start_ms(timeline, int(at_ns))}


def _ended(timeline: Timeline) -> str:
    match timeline.outcome:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case _:
            return "cut off"


def _end(timeline: Timeline) -> Mapping[str, object]:
    return {
        "request": _name(timeline),
        "ms": ms_from_ns(_whole_ns(timeline)),
        "end": _ended(timeline),
    }
