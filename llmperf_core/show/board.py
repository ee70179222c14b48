"""How a study stands while it goes on: a line for each target, on a terminal and nowhere else."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from attrs import define, field

from llmperf_core.judge.verdict import Status
from llmperf_core.show.live import Bill, Lines, LiveStage, in_one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MARKS: Mapping[Status, tuple[str, str]] = {
    "valid": ("●", "green"),
    "suspect": ("●", "yellow"),
    "invalid": ("✗", "red"),
}
_MISSING = "·"


@define
class Lane:
    """One target on the board; to who measures it, it is what a run is shown on."""

    cells: int
    """How many are to be measured."""
    marks: list[Status] = field(factory=list)
    """Of those that are."""
    state: str = ""
    """How it stands, in words."""
    bill: Bill | None = None

    def spend(self, usd_per_h: float) -> None:
        """Say in each stage what has been spent since now."""
        self.bill = Bill(usd_per_h)

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """Say what is being waited for; yield what takes a few words on how that stands."""
        self.state = what
        yield lambda state: setattr(self, "state", f"{what} {state}")
        self.state = ""

    @contextmanager
    def stage(self, title: str, planned_s: float | None) -> Iterator[LiveStage]:
        """Show one stage."""
        of_s = "" if planned_s is None else f" of {planned_s:g}"

        def show(lines: Lines, elapsed_s: float) -> None:
            self.state = f"{title} · {elapsed_s:.0f}{of_s} s · {in_one_line(lines)}"

        # The line says how long it takes: the stage need not.
        yield LiveStage(show, None, self.bill)
        self.state = ""

    def mark(self, status: Status) -> None:
        """Say that the next cell is measured, and what that is worth."""
        self.marks.append(status)

    def end(self, how: str) -> None:
        """Say how it ended."""
        self.state = how


class Board:
    """Shows the cells of a study as they are measured, on standard error if that is a terminal.

    Args:
        targets: how many cells are to be measured of each, by its name, in order.
        console: where to; by default standard error.
        quiet: show nothing.
    """

    def __init__(
        self,
        targets: Mapping[str, int],
        *,
        console: "Console | None" = None,
        quiet: bool = False,
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._lanes = {name: Lane(cells) for name, cells in targets.items()}
        console = console or Console(file=sys.stderr)
        shown = not quiet and console.is_terminal
        self._live = Live(console=console, get_renderable=self.table) if shown else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def lane(self, target: str) -> Lane:
        """Return the line of a target."""
        return self._lanes[target]

    def table(self) -> "Table":
        """Return the board as it stands."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
        for column, options in (("target", 2), ("cells", 1), ("state", 3)):
            table.add_column(column, ratio=options, no_wrap=True, overflow="ellipsis")
        for name, lane in self._lanes.items():
            cells = Text.assemble(*(_MARKS[status] for status in lane.marks))
            cells.append(_MISSING * (lane.cells - len(lane.marks)), style="dim")
            table.add_row(Text(name), cells, Text(lane.state))
        return table
