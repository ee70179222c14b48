"""The board of a study: a line for each target, on a terminal and nowhere else."""

import io
import re

from rich.console import Console

from llmperf_core.show.board import Board
from llmperf_core.timeline import Progress
from llmperf_core.units import NS_PER_S

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def drawn(board: Board) -> list[str]:
    """Return the lines of the board as it stands."""
    console = Console(width=100, file=io.StringIO())
    with console.capture() as captured:
        console.print(board.table())
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_line_says_what_is_measured_and_what_goes_on() -> None:
    """A mark for each cell, and the state in words."""
    board = Board({"http://a": 3, "http://b": 2}, quiet=True)
    lane = board.lane("http://a")
    with lane.waiting("bringing up http://a …") as report:
        report("loading")
        assert "bringing up http://a … loading" in drawn(board)[0]
    lane.mark("valid")
    lane.mark("invalid")
    with lane.stage("concurrency 5", 32.0) as stage:
        stage.report(
            Progress(phase="measuring", elapsed_ns=4 * NS_PER_S, in_flight=5, started=9, ended=4)
        )
        assert "●✗·" in drawn(board)[0]
        assert "concurrency 5 · 4 of 32 s · measuring · 5 in flight" in drawn(board)[0]
    with lane.stage("concurrency 9", None) as stage:
        stage.report(
            Progress(phase="measuring", elapsed_ns=NS_PER_S, in_flight=9, started=9, ended=0)
        )
        assert "concurrency 9 · 1 s · measuring" in drawn(board)[0]
    lane.end("done")

    assert drawn(board)[0].endswith("done")
    assert drawn(board)[1].split() == ["http://b", "··"]


def test_the_board_is_drawn_on_a_terminal_alone() -> None:
    """Nothing anywhere else, and nothing where it shall be quiet."""
    terminal = Console(force_terminal=True, width=60, file=io.StringIO())
    with Board({"http://a": 1}, console=terminal) as board:
        board.lane("http://a").mark("suspect")
    silent = Console(width=60, file=io.StringIO())
    with Board({"http://a": 1}, console=silent):
        pass
    told = Console(force_terminal=True, width=60, file=io.StringIO())
    with Board({"http://a": 1}, console=told, quiet=True):
        pass

    assert isinstance(terminal.file, io.StringIO)
    assert "http://a" in _CONTROL.sub("", terminal.file.getvalue())
    assert (silent.file.getvalue(), told.file.getvalue()) == ("", "")  # type: ignore[attr-defined]
