"""The notebook: what `_repr_html_` returns. No scripts, nothing loaded, any colour scheme."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Protocol

from llmperf_core.decide import Recommended
from llmperf_core.judge import MetricSummary
from llmperf_core.load import load_label
from llmperf_core.show.calibration import calibrated
from llmperf_core.show.comparison import CHANGE_COLUMNS, ComparisonView, conclusions
from llmperf_core.show.recommendation import (
    AnswerView,
    answers,
    columns,
    is_simulated,
    notes,
    rows,
)
from llmperf_core.show.telemetry import watch_lines
from llmperf_core.show.view import (
    METRIC_COLUMNS,
    Column,
    Row,
    RunView,
    StageView,
    in_a_word,
    instrument,
    measured,
    named,
    number,
    stage_columns,
)

# Grey that is half transparent, and colours of middling lightness: they can be read on white and
# on black. Text keeps the notebook's own colour.
_LINE = "1px solid rgba(128,128,128,.4)"
_SIMULATED = " · <strong>SIMULATED</strong>"
_CELL = "padding:.2em .7em;border:none;vertical-align:top;white-space:nowrap"
_BAR, _TALL = 4, 16
_GREEN, _AMBER, _RED = "#2e9e5b", "#c98a00", "#e0443e"
_COLOURS = {
    "valid": _GREEN,
    "suspect": _AMBER,
    "invalid": _RED,
    "better": _GREEN,
    "cannot tell": _AMBER,
    "worse": _RED,
}


class Shown(Protocol):
    """A result that shows itself as a page."""

    def _repr_html_(self) -> str: ...


def mimebundle(
    shown: Shown,
    include: object = None,  # noqa: ARG001 -- IPython passes it, and need not be obeyed
    exclude: object = None,  # noqa: ARG001 -- likewise
) -> Mapping[str, str]:
    """Return a result as text and as a page: whoever shows it takes what they can."""
    return {"text/plain": repr(shown), "text/html": shown._repr_html_()}


def run_html(view: RunView) -> str:
    """Return a run as an HTML fragment: a row for each stage, then its reasons in words.

    A run of one stage gets its distributions with their intervals too.
    """
    heading = f"<strong>{escape(view.target)}</strong>"
    if view.simulated:
        heading += _SIMULATED
    if view.calibration is not None:
        heading += f"<br>{escape(calibrated(view.calibration))}"
    if len(view.stages) == 1:
        body = stage_html(view.stages[0])
    elif view.stages:
        table = _table(
            stage_columns(view.stages), view.stages, picture=("TTFT spread", _ttft_spark)
        )
        body = table + "".join(map(_notes, view.stages))
    else:
        body = "<p>no stages</p>"
    return f"<div><p>{heading}</p>{body}</div>"


def stage_html(view: StageView) -> str:
    """Return a stage as an HTML fragment: its verdict, its rates and its distributions.

    It does not name the target or say that it is a simulator: `run_html` does, of one stage too.
    """
    metrics = _table(METRIC_COLUMNS, measured(view.summary), picture=("spread", _spark))
    tables = _table(stage_columns([view]), [view]) + metrics
    return f"<div>{_notes(view)}{tables}</div>"


def comparison_html(view: ComparisonView) -> str:
    """Return a comparison as an HTML fragment: a table for each load, then what it rests on."""
    heading = f"<strong>{escape(view.candidate)}</strong> against {escape(view.baseline)}"
    if view.simulated:
        heading += _SIMULATED
    tables = "".join(
        f"<p>{escape(pair.load)}</p>{_table(CHANGE_COLUMNS, pair.changes)}" for pair in view.pairs
    )
    listed = "".join(f"<li>{escape(line)}</li>" for line in conclusions(view))
    return f"<div><p>{heading}</p>{tables}<ul>{listed}</ul></div>"


def recommendation_html(found: Recommended) -> str:
    """Return a recommendation as an HTML fragment: the answers, the figures, what they rest on."""
    heading = "<strong>Recommendation</strong>"
    if is_simulated(found):
        heading += _SIMULATED
    said = "".join(map(_answer, answers(found)))
    listed = "".join(f"<li>{escape(line)}</li>" for line in notes(found))
    table = _table(columns(found), rows(found))
    return f"<div><p>{heading}</p>{said}{table}<ul>{listed}</ul></div>"


def _answer(view: AnswerView) -> str:
    colour = _GREEN if view.clear else _AMBER
    listed = "".join(f"<li>{escape(line)}</li>" for line in view.details)
    answer = f'<strong style="color:{colour}">{escape(view.answer)}</strong>'
    return f"<p>{escape(view.title)}: {answer}</p><ul>{listed}</ul>"


def _notes(view: StageView) -> str:
    items = [f"<code>{escape(r.code)}</code>: {escape(r.detail)}" for r in view.verdict.reasons]
    lines = (in_a_word(view), *watch_lines(view.watch, view.split), instrument(view))
    items += map(escape, lines)
    listed = "".join(f"<li>{item}</li>" for item in items)
    status = _coloured(view.verdict.status)
    return f"<p>{escape(load_label(view.load))}: {status}</p><ul>{listed}</ul>"


def _ttft_spark(view: StageView) -> str:
    ttft = view.summary.metrics.get("ttft")
    return "" if ttft is None else _spark(ttft)


def _spark(metric: MetricSummary) -> str:
    """Return the distribution in a line, from the smallest value to the largest; words for it."""
    if not any(metric.shape):
        return ""
    most, width = max(metric.shape), _BAR * len(metric.shape)
    bars = "".join(
        # What is there can be seen, however few.
        f"M{_BAR * k} {_TALL}v-{max(1, round(_TALL * count / most))}h{_BAR - 1}V{_TALL}z"
        for k, count in enumerate(metric.shape)
        if count
    )
    name, unit = named(metric.metric.name), metric.metric.unit
    label = f"{name} from {number(metric.min)} to {number(metric.max)} {unit}, logarithmic"
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {_TALL}" '
        f'width="{width}" height="{_TALL}" style="min-width:{width}px"><title>{escape(label)}'
        f'</title><path d="{bars}" fill="currentColor" opacity=".7"></path></svg>'
    )


def _coloured(text: str) -> str:
    """Return the text escaped, a verdict in its colour; the word itself says it without."""
    if text not in _COLOURS:
        return escape(text).replace("\n", "<br>")
    return f'<strong style="color:{_COLOURS[text]}">{text}</strong>'


def _table(
    columns: Sequence[Column[Row]],
    rows: Iterable[Row],
    picture: tuple[str, Callable[[Row], str]] | None = None,
) -> str:
    """Return a table; a picture with a heading stands behind each row."""
    heading, draw = picture or ("", lambda _row: "")
    head = "".join(_cell("th", column, column.heading) for column in columns)
    body = "".join(
        "<tr>"
        + "".join(_cell("td", column, column.cell(row)) for column in columns)
        + ("" if picture is None else f'<td style="{_CELL}">{draw(row)}</td>')
        + "</tr>"
        for row in rows
    )
    head += "" if picture is None else f'<th style="{_CELL};text-align:left">{heading}</th>'
    return (
        '<table style="border-collapse:collapse">'
        f'<thead><tr style="border-bottom:{_LINE}">{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _cell(tag: str, column: Column[Row], text: str) -> str:
    side = "right" if column.numeric else "left"
    return f'<{tag} style="{_CELL};text-align:{side}">{_coloured(text)}</{tag}>'
