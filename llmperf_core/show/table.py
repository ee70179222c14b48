"""The terminal: a row for each stage, and under it what speaks for and against the numbers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from llmperf_core.load import load_label
from llmperf_core.show.calibration import calibrated
from llmperf_core.show.comparison import CHANGE_COLUMNS, DETECTABLE_COLUMNS, conclusions
from llmperf_core.show.recommendation import answers, columns, is_simulated, notes, rows
from llmperf_core.show.telemetry import watch_lines
from llmperf_core.show.view import (
    METRIC_COLUMNS,
    Row,
    in_a_word,
    instrument,
    measured,
    stage_columns,
)

# Rich is imported by what prints: a notebook, which shows HTML, and a test suite need none of it.

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from llmperf_core.decide import Recommended
    from llmperf_core.show.comparison import ComparisonView, DetectableView
    from llmperf_core.show.view import Column, RunView, StageView

_STYLES = {
    "valid": "green",
    "suspect": "yellow",
    "invalid": "bold red",
    "better": "green",
    "cannot tell": "yellow",
    "worse": "bold red",
}
_ENDLESS = 10_000


def render(view: RunView, console: Console) -> None:
    """Print a run: as many columns as the console has room for, and the reasons in words.

    Colours are the console's to give: none without a terminal, or with NO_COLOR set. A run of
    one stage gets its distributions with their intervals too.
    """
    from rich.text import Text

    heading = Text(view.target, style="bold", overflow="fold")
    if view.simulated:
        heading.append(" · SIMULATED", style="magenta")
    console.print(heading)
    if view.calibration is not None:
        console.print(Text(calibrated(view.calibration)))
    if not view.stages:
        console.print("no stages")
        return
    print_table(stage_columns(view.stages), view.stages, console)
    if len(view.stages) == 1:
        console.print()
        print_table(METRIC_COLUMNS, measured(view.stages[0].summary), console)
    for stage in view.stages:
        console.print()
        _print_notes(stage, console)


def as_text(render_to: Callable[[Console], None], *, width: int) -> str:
    """Return what is rendered as plain text, in a notebook's kernel too.

    There, rich takes any console for the notebook: it would show it, and colour what it returns.
    """
    from rich.console import Console

    console = Console(
        file=io.StringIO(), width=width, no_color=True, force_jupyter=False, force_terminal=False
    )
    with console.capture() as captured:
        render_to(console)
    return captured.get().rstrip()


def render_comparison(view: ComparisonView, console: Console) -> None:
    """Print a comparison: a table for each load, then what it rests on in words."""
    from rich.text import Text

    heading = Text(f"{view.candidate} against {view.baseline}", style="bold", overflow="fold")
    if view.simulated:
        heading.append(" · SIMULATED", style="magenta")
    console.print(heading)
    for pair in view.pairs:
        console.print(Text(f"\n{pair.load}"))
        print_table(CHANGE_COLUMNS, pair.changes, console)
    console.print()
    for line in conclusions(view):
        _print_indented(Text(line), console)


def render_detectable(view: DetectableView, console: Console) -> None:
    """Print how small a change a comparison would find."""
    from rich.text import Text

    console.print(Text(view.baseline, style="bold", overflow="fold"))
    print_table(DETECTABLE_COLUMNS, view.rows, console)


def render_recommendation(found: Recommended, console: Console) -> None:
    """Print a recommendation: the answers, then the figures, then what they rest on."""
    from rich.text import Text

    heading = Text("Recommendation", style="bold")
    if is_simulated(found):
        heading.append(" · SIMULATED", style="magenta")
    console.print(heading)
    said = answers(found)
    for view in said:
        answer = (view.answer, "green" if view.clear else "yellow")
        console.print(Text.assemble(f"{view.title}: ", answer))
    console.print()
    print_table(columns(found), rows(found), console)
    for view in said:
        console.print(Text(f"\n{view.title}"))
        for line in view.details:
            _print_indented(Text(line), console)
    console.print()
    for line in notes(found):
        _print_indented(Text(line), console)


def _print_notes(view: StageView, console: Console) -> None:
    from rich.text import Text

    status = view.verdict.status
    console.print(Text.assemble(load_label(view.load), ": ", (status, _STYLES[status])))
    lines = [Text(f"{reason.code}: {reason.detail}") for reason in view.verdict.reasons]
    lines += map(Text, (in_a_word(view), *watch_lines(view.watch, view.split), instrument(view)))
    for line in lines:
        _print_indented(line, console)


def print_table(columns: Sequence[Column[Row]], rows: Sequence[Row], console: Console) -> None:
    """Print what fits, and the names of the columns for which there was no room."""
    from rich.text import Text

    shown = list(columns)
    table = _table(shown, rows)
    while _width(table, console) > console.width and any(column.need for column in shown):
        shown.remove(max(shown, key=lambda column: column.need))
        table = _table(shown, rows)
    _print_unpadded(table, console)
    left_out = [column.heading.replace("\n", " ") for column in columns if column not in shown]
    if left_out:
        names = ", ".join(left_out)
        console.print(Text(f"a wider terminal also shows {names}", style="dim"))


def _print_indented(line: Text, console: Console) -> None:
    from rich.padding import Padding

    _print_unpadded(Padding(line, (0, 0, 0, 2), expand=False), console)


def _print_unpadded(renderable: RenderableType, console: Console) -> None:
    """Print it without the blanks that rich fills its lines with: a log or a diff shows them."""
    from rich.text import Text

    for segments in console.render_lines(renderable, pad=False):
        line = Text.assemble(*((text, style or "") for text, style, _ in segments), end="\n")
        line.rstrip()
        console.print(line, soft_wrap=True)


def _table(columns: Iterable[Column[Row]], rows: Iterable[Row]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = list(columns)
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
    )
    for column in shown:
        table.add_column(
            Text(column.heading), justify="right" if column.numeric else "left", overflow="fold"
        )
    for row in rows:
        cells = [column.cell(row) for column in shown]
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    return table


def _width(table: Table, console: Console) -> int:
    """Return how wide the table is where nothing in it is wrapped."""
    from rich.measure import Measurement

    options = console.options.update(min_width=1, max_width=_ENDLESS)
    return Measurement.get(console, options, table).maximum
