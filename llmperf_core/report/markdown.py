"""The report as Markdown: for a pull request, a wiki, or the summary of a step in CI."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from llmperf_core.report.view import ReportView, RunReport, columns_of
from llmperf_core.report.words import OVERVIEW_COLUMNS, answers, overview, reasons, verdicts
from llmperf_core.show import recommendation
from llmperf_core.show.comparison import CHANGE_COLUMNS
from llmperf_core.show.view import Column

Row = TypeVar("Row")
# What would be read as markup, a link, a mention or a cell's end.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~@&])")


def markdown(view: ReportView) -> str:
    """Return the Markdown; no text of a server can become markup in it."""
    return "\n".join(_lines(view)) + "\n"


def _lines(view: ReportView) -> Iterator[str]:
    yield f"# {_escaped(view.title)}"
    yield ""
    simulated = " · **SIMULATED**" if view.simulated else ""
    yield f"**{view.status}**{simulated} · {verdicts(view)}"
    yield ""
    yield from (f"- {_escaped(answer)}" for answer in answers(view))
    if view.recommendation is not None:
        found = view.recommendation.found
        yield from ("", "## Which to deploy", "")
        yield from _table(recommendation.columns(found), recommendation.rows(found))
    if rows := overview(view):
        yield ""
        yield from _table(OVERVIEW_COLUMNS, rows)
    if view.comparison is not None:
        for pair in view.comparison.pairs:
            yield from ("", f"## Changes under {_escaped(pair.load)}", "")
            yield from _table(CHANGE_COLUMNS, pair.changes)
    for run in view.runs:
        yield from _run(run)
    yield from ("", f"Made at {view.made_at}.")


def _run(run: RunReport) -> Iterator[str]:
    yield from ("", f"## {_escaped(run.view.target)}", "")
    yield from _table(columns_of(run.view.stages), run.view.stages)
    against = [f"- {_escaped(reason)}" for reason in reasons(run)]
    yield from ["", *against] if against else []
    if run.command is not None:
        # Indented code has no end that its text could write.
        yield from ("", "    " + run.command.replace("\n", " "))


def _table(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> Iterator[str]:
    yield _row(column.heading for column in columns)
    yield _row(("---:" if column.numeric else "---" for column in columns), escape=False)
    for row in rows:
        yield _row(column.cell(row) for column in columns)


def _row(cells: Iterable[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(_escaped(cell) if escape else cell for cell in cells)} |"


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
