"""How a run stands while it goes on: one line on a terminal or under a cell, else nothing."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from llmperf_core import timeline as record
from llmperf_core.show.notebook import Shown, notebook_line, progress_html
from llmperf_core.units import format_duration, format_number, per_second, s_from_ns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

# The percentiles shown are of the latest requests only: the summary at the end has them all.
_REMEMBERED = 256


class Display(Protocol):
    """Where it is shown how a run stands."""

    def waiting(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """Say what is being waited for; what is yielded takes a few words on how that stands."""
        ...

    def stage(self, title: str, planned_s: float | None) -> AbstractContextManager["LiveStage"]:
        """Show one stage, which takes `planned_s` if that is known."""
        ...


class Live:
    """Shows the stages of a run as they go: under a notebook's cell, or on a terminal's stderr.

    Args:
        console: where to; by default standard error.
        quiet: show nothing.
    """

    def __init__(self, *, console: "Console | None" = None, quiet: bool = False) -> None:
        from rich.console import Console

        self._console = console or Console(file=sys.stderr)
        self._in_cell = not quiet and console is None
        self._quiet = quiet or not self._console.is_terminal

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """Say what is being waited for, such as a server that comes up, and for how long.

        Yields:
            What takes a few words on how that stands.
        """
        from rich.progress import SpinnerColumn

        with self._line(what, None, SpinnerColumn()) as line:
            yield lambda state: line(state, 0)

    @contextmanager
    def stage(self, title: str, planned_s: float | None) -> Iterator["LiveStage"]:
        """Show one stage.

        Args:
            title: the load, in words.
            planned_s: warm-up and window together; None if requests alone end the stage.
        """
        from rich.progress import BarColumn

        with self._line(title, planned_s, BarColumn(bar_width=16)) as line:
            yield LiveStage(line)

    @contextmanager
    def _line(
        self, title: str, planned_s: float | None, moving: "ProgressColumn"
    ) -> Iterator["Line"]:
        shown = notebook_line() if self._in_cell else None
        if shown is not None:
            line = _in_notebook(shown, title, planned_s)
            line("", 0)
            try:
                yield line
            finally:
                shown("")
            return
        from rich.progress import Progress, TextColumn, TimeElapsedColumn

        text = TextColumn("{task.description}", markup=False)
        # A narrow terminal cuts the end off: what changes comes first.
        bar = Progress(
            *((moving, text) if planned_s is None else (text, moving)),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=self._console,
            transient=True,
            disable=self._quiet,
        )
        with bar:
            task = bar.add_task(title, total=planned_s, state="")
            yield lambda state, elapsed_s: bar.update(task, completed=elapsed_s, state=state)


Line: TypeAlias = Callable[[str, float], None]
"""Takes how something stands, in words, and how many seconds it has lasted."""


def _in_notebook(shown: Shown, title: str, planned_s: float | None) -> Line:
    def line(state: str, elapsed_s: float) -> None:
        share = None if planned_s is None else elapsed_s / planned_s
        shown(progress_html(title, state, share))

    return line


class LiveStage:
    """One stage on the screen; takes what the stage's listener is told."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._ttft_ns: deque[int] = deque(maxlen=_REMEMBERED)
        self._failed = self._tokens = 0

    def note(self, timeline: record.Timeline) -> None:
        """Take the timeline of a request that has ended."""
        self._failed += isinstance(timeline.outcome, record.Failed)
        self._tokens += timeline.tokens.output
        if timeline.completed and len(timeline.token_at_ns) and timeline.start_at_ns is not None:
            self._ttft_ns.append(int(timeline.token_at_ns[0]) - timeline.start_at_ns)

    def report(self, progress: record.Progress) -> None:
        """Take how the stage stands."""
        tokens_per_s = format_number(per_second(self._tokens, progress.elapsed_ns))
        # A narrow terminal cuts the end off: what matters most comes first.
        parts = [
            progress.phase,
            *([f"{self._failed} failed"] if self._failed else []),
            f"{progress.in_flight} in flight",
            f"{progress.ended} done",
            f"{tokens_per_s} tok/s",
        ]
        if self._ttft_ns:
            parts.append(f"TTFT p50 {format_duration(float(np.median(self._ttft_ns)))}")
        self._line(" · ".join(parts), s_from_ns(progress.elapsed_ns))
