"""How a run stands while it goes on: one line on a terminal, nothing anywhere else."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from llmperf_core import timeline as record
from llmperf_core.units import format_duration, format_number, per_second, s_from_ns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

# The percentiles shown are of the latest requests only: the summary at the end has them all.
_REMEMBERED = 256


class Live:
    """Shows the stages of a run as they go, on standard error if that is a terminal.

    Args:
        console: where to; by default standard error.
        quiet: show nothing.
    """

    def __init__(self, *, console: "Console | None" = None, quiet: bool = False) -> None:
        from rich.console import Console

        self._console = console or Console(file=sys.stderr)
        self._quiet = quiet or not self._console.is_terminal

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """Say what is being waited for, such as a server that comes up, and for how long.

        Yields:
            What takes a few words on how that stands.
        """
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        # A narrow terminal cuts the end off: what changes comes first.
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=self._console,
            transient=True,
            disable=self._quiet,
        )
        with bar:
            task = bar.add_task(what, total=None, state="")
            yield lambda state: bar.update(task, state=state)

    @contextmanager
    def stage(self, title: str, planned_s: float | None) -> Iterator["LiveStage"]:
        """Show one stage.

        Args:
            title: the load, in words.
            planned_s: warm-up and window together; None if requests alone end the stage.
        """
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=self._console,
            transient=True,
            disable=self._quiet,
        )
        with bar:
            yield LiveStage(bar, bar.add_task(title, total=planned_s, state=""))


class LiveStage:
    """One stage on the screen; takes what the stage's listener is told."""

    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self._bar, self._task = bar, task
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
        self._bar.update(
            self._task, completed=s_from_ns(progress.elapsed_ns), state=" · ".join(parts)
        )
