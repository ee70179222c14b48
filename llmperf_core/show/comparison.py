"""A comparison as every form of output takes it: its rows, its columns, its document."""

import math
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from llmperf_core.judge import Change, Figure, Outcome
from llmperf_core.show.view import Column
from llmperf_core.target import Json
from llmperf_core.units import format_number, percent

SCHEMA = "llmperf.comparison/1"
"""Keys may be added under it; one that changes or goes makes it `/2`."""
_DECIMALS = 6


def _changes_in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(changes)


@frozen(kw_only=True)
class PairView:
    """The stages of one load, compared."""

    load: str
    changes: tuple[Change, ...] = field(converter=_changes_in_order)


@frozen(kw_only=True)
class ComparisonView:
    """A candidate against its baseline."""

    baseline: str
    candidate: str
    simulated: bool
    """One of them is a simulator. Every form of output says so."""
    margin: float
    pairs: Sequence[PairView]
    left_out: Sequence[str]
    """The loads whose stages are invalid, each with the reason."""
    unmatched: Sequence[str]
    """The loads that only one side was measured under."""


@frozen(kw_only=True)
class DetectableRow:
    """How small a change of one figure a comparison would find."""

    load: str
    figure: Figure
    value: float
    detectable: float | None


@frozen(kw_only=True)
class DetectableView:
    """How small a change a comparison with a baseline would find."""

    baseline: str
    margin: float
    rows: Sequence[DetectableRow]


def _relative(share: float | None) -> str:
    """Return `+4.8 %`; an en dash for none."""
    if share is None:
        return "–"
    return f"{'+' if share > 0 else ''}{percent(share)}"


def _interval(change: Change) -> str:
    if change.ci95 is None:
        return "–"
    low, high = (format_number(100 * end) for end in change.ci95)
    return f"[{low}, {high}] %"


def figure_label(figure: Figure) -> str:
    """Return the figure in words: `ttft p50 ms`, `requests_per_s req/s`."""
    statistic = "" if figure.statistic == "rate" else f" {figure.statistic}"
    return f"{figure.metric}{statistic} {figure.unit}"


def _detectable(share: float | None) -> str:
    return "–" if share is None else percent(share)


CHANGE_COLUMNS: tuple[Column[Change], ...] = (
    Column("figure", lambda row: figure_label(row.figure), 0, numeric=False),
    Column("outcome", lambda row: row.outcome, 0, numeric=False),
    Column("change", lambda row: _relative(row.effect), 0),
    Column("95 % interval", _interval, 1),
    Column("baseline", lambda row: format_number(row.baseline), 3),
    Column("candidate", lambda row: format_number(row.candidate), 3),
    Column("detectable", lambda row: _detectable(row.detectable), 2),
)
"""The columns of the table of one pair of stages."""
DETECTABLE_COLUMNS: tuple[Column[DetectableRow], ...] = (
    Column("load", lambda row: row.load, 0, numeric=False),
    Column("figure", lambda row: figure_label(row.figure), 0, numeric=False),
    Column("baseline", lambda row: format_number(row.value), 1),
    Column("detectable", lambda row: _detectable(row.detectable), 0),
)


def conclusions(view: ComparisonView) -> list[str]:
    """Return what there is to say under the tables."""
    lines = [
        f"same: the 95 % interval is within ±{percent(view.margin)}",
        "better, worse: it is not, and chance makes one false alarm in 5 % of comparisons at most",
        "detectable: the smallest change that the baseline's own noise lets be seen, 9 times in 10",
    ]
    lines += [f"not compared, as a stage is invalid: {what}" for what in view.left_out]
    if view.unmatched:
        lines.append(f"measured on one side only: {', '.join(view.unmatched)}")
    return lines


def comparison_document(view: ComparisonView, *, outcome: Outcome, passes: bool) -> dict[str, Json]:
    """Return the document of a comparison: JSON types only, no NaN, None for what is not known."""
    return {
        "schema": SCHEMA,
        "baseline": view.baseline,
        "candidate": view.candidate,
        "simulated": view.simulated,
        "margin": view.margin,
        "outcome": outcome,
        "passes": passes,
        "stages": [
            {"load": pair.load, "changes": [_change(change) for change in pair.changes]}
            for pair in view.pairs
        ],
        "left_out": list(view.left_out),
        "unmatched": list(view.unmatched),
    }


def detectable_document(view: DetectableView) -> dict[str, Json]:
    """Return the document of what could be detected."""
    return {
        "schema": SCHEMA,
        "baseline": view.baseline,
        "margin": view.margin,
        "detectable": [
            {
                "load": row.load,
                **_figure(row.figure),
                "baseline": _rounded(row.value),
                "detectable": _rounded(row.detectable),
            }
            for row in view.rows
        ],
    }


def _figure(figure: Figure) -> dict[str, Json]:
    return {"metric": figure.metric, "statistic": figure.statistic, "unit": figure.unit}


def _change(change: Change) -> dict[str, Json]:
    return {
        **_figure(change.figure),
        "outcome": change.outcome,
        "baseline": _rounded(change.baseline),
        "candidate": _rounded(change.candidate),
        "effect": _rounded(change.effect),
        "ci95": None if change.ci95 is None else [_rounded(end) for end in change.ci95],
        "detectable": _rounded(change.detectable),
        "p_adjusted": _rounded(change.p),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, _DECIMALS)
