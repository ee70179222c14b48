"""Requests and summaries as columns, for the libraries of data frames."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmperf_core.errors import MissingExtraError
from llmperf_core.judge import E2E, TPOT, TTFT, Metric
from llmperf_core.show.document import stage_document
from llmperf_core.show.view import RunView
from llmperf_core.target import Json
from llmperf_core.timeline import Cancelled, Censored, Completed, Failed, Timeline, Window
from llmperf_core.units import s_from_ns

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Columns = Mapping[str, Sequence[Json]]


def request_columns(timelines: Iterable[Timeline], window: Window) -> Columns:
    """Return a row for each request, in the order of ending; None for what is not known.

    Instants are in seconds from the start of the stage, durations in milliseconds.
    """
    rows = [_request(timeline, window) for timeline in timelines]
    return _columns(rows)


def summary_columns(view: RunView) -> Columns:
    """Return a row for each stage, by the keys of its JSON document with dots between them."""
    return _columns([summary_row(view, number) for number in range(len(view.stages))])


def summary_row(view: RunView, number: int) -> Mapping[str, Json]:
    """Return a stage as a flat row."""
    document = stage_document(view.stages[number])
    told = {key: value for key, value in document.items() if key not in ("telemetry", "time_split")}
    return {"target": view.target, "simulated": view.simulated, **_flat(told)}


def _request(timeline: Timeline, window: Window) -> Mapping[str, Json]:
    tokens = timeline.token_at_ns
    start_at_ns = timeline.start_at_ns
    return {
        "index": timeline.index,
        "in_window": start_at_ns is not None and start_at_ns in window,
        "due_s": _s(timeline.due_at_ns),
        "sent_s": _s(timeline.sent_at_ns),
        "first_token_s": _s(int(tokens[0])) if tokens.size else None,
        "ended_s": _s(timeline.ended_at_ns),
        **{f"{metric.name}_ms": _ms(metric, timeline) for metric in (TTFT, TPOT, E2E)},
        "output_tokens": timeline.tokens.output,
        "input_tokens": timeline.tokens.input,
        **_outcome(timeline),
    }


def _outcome(timeline: Timeline) -> Mapping[str, Json]:
    found: dict[str, Json] = {"outcome": "completed", "error": None, "finish_reason": None}
    match timeline.outcome:
        case Completed(reason):
            return {**found, "finish_reason": reason}
        case Failed(error):
            return {**found, "outcome": "failed", "error": error}
        case Censored():
            return {**found, "outcome": "censored"}
        case Cancelled():
            return {**found, "outcome": "cancelled"}


def _s(at_ns: int | None) -> float | None:
    return None if at_ns is None else s_from_ns(at_ns)


def _ms(metric: Metric, timeline: Timeline) -> float | None:
    values = metric.values(timeline)
    return metric.shown(int(values[0])) if values.size else None


def _columns(rows: Sequence[Mapping[str, Json]]) -> Columns:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _flat(document: Mapping[str, Json], before: str = "") -> dict[str, Json]:
    """Return a nested document as one level; an interval as `.low` and `.high`, reasons by code."""
    flat: dict[str, Json] = {}
    for name, value in document.items():
        match value:
            case Mapping():
                flat |= _flat(value, f"{before}{name}.")
            case list() if name == "reasons":
                flat[f"{before}{name}"] = " ".join(
                    str(reason["code"]) for reason in value if isinstance(reason, Mapping)
                )
            case [low, high]:
                flat |= {f"{before}{name}.low": low, f"{before}{name}.high": high}
            case _:
                flat[f"{before}{name}"] = value
    return flat


def pandas_frame(columns: Columns) -> "pandas.DataFrame":
    """Return the columns as pandas has them.

    Raises:
        MissingExtraError: the extra `frames` is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise MissingExtraError("frames", "pandas") from error
    return pandas.DataFrame(columns)


def polars_frame(columns: Columns) -> "polars.DataFrame":
    """Return the columns as polars has them.

    Raises:
        MissingExtraError: the extra `frames` is not installed.
    """
    try:
        import polars
    except ModuleNotFoundError as error:
        raise MissingExtraError("frames", "polars") from error
    # A column may begin with whole numbers.
    return polars.DataFrame(columns, strict=False)


def arrow_table(columns: Columns) -> "pyarrow.Table":
    """Return the columns as an Arrow table.

    Raises:
        MissingExtraError: the extra `frames` is not installed.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingExtraError("frames", "pyarrow") from error
    return pyarrow.table(columns)
