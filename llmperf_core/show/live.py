"""How a run stands while it goes on: on a terminal or under a notebook's cell, else nowhere."""

import math
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from attrs import field, frozen

from llmperf_core import timeline as record
from llmperf_core.judge.intervals import supports
from llmperf_core.show.notebook import Shown, notebook_line, progress_html
from llmperf_core.units import (
    format_duration,
    format_number,
    format_usd,
    h_from_s,
    per_second,
    s_from_ns,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

# What is shown is of the latest requests only: the summary at the end has them all.
_REMEMBERED_REQUESTS = 256
_REMEMBERED_GAPS = 4096
_BAR = 16
_NARROWEST_BAR = 4

Lines: TypeAlias = Sequence[Sequence[str]]
"""How something stands: lines of parts, in each the most important first."""
Show: TypeAlias = Callable[[Lines, float], None]
"""Takes how something stands, and how many seconds it has lasted."""


@frozen
class Bill:
    """What a target costs from this instant on."""

    usd_per_h: float
    start_s: float = field(factory=time.monotonic)

    def said(self, left_s: float) -> str:
        """Say what is spent, and what the time that is left will take."""
        spent_usd = h_from_s(time.monotonic() - self.start_s) * self.usd_per_h
        to_go = f", {format_usd(h_from_s(left_s) * self.usd_per_h)} to go" if left_s > 0 else ""
        return f"{format_usd(spent_usd)} spent{to_go}"


class Display(Protocol):
    """Where it is shown how a run stands."""

    def spend(self, usd_per_h: float) -> None:
        """Say in each stage what has been spent since now."""
        ...

    def waiting(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """Say what is being waited for; what is yielded takes a few words on how that stands."""
        ...

    def stage(self, title: str, planned_s: float | None) -> AbstractContextManager["LiveStage"]:
        """Show one stage, which takes `planned_s` if that is known."""
        ...


class Live:
    """Shows the stages of a run as they go: under a notebook's cell, or on a terminal's stderr.

    A log keeps all that is written to it, so there nothing is: in a pipe, on a terminal that cannot
    move its cursor (`TERM=dumb`), and where `CI` is set.

    Args:
        console: where to; by default standard error.
        quiet: show nothing.
    """

    def __init__(self, *, console: "Console | None" = None, quiet: bool = False) -> None:
        from rich.console import Console

        logged = console is None and (not sys.stderr.isatty() or _in_ci())
        self._console = console or Console(file=sys.stderr)
        self._in_cell = not quiet and console is None
        self._quiet = quiet or logged or not self._console.is_interactive
        self._bill: Bill | None = None

    def spend(self, usd_per_h: float) -> None:
        """Say in each stage what has been spent since now."""
        self._bill = Bill(usd_per_h)

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """Say what is being waited for, such as a server that comes up, and for how long.

        Yields:
            What takes a few words on how that stands.
        """
        with self._shown(what, None) as show:
            yield lambda state: show([[state]], 0)

    @contextmanager
    def stage(self, title: str, planned_s: float | None) -> Iterator["LiveStage"]:
        """Show one stage.

        Args:
            title: the load, in words.
            planned_s: warm-up and window together; None if requests alone end the stage.
        """
        with self._shown(title, planned_s) as show:
            yield LiveStage(show, planned_s, self._bill)

    @contextmanager
    def _shown(self, title: str, planned_s: float | None) -> Iterator[Show]:
        shown = notebook_line() if self._in_cell else None
        if shown is not None:
            show = _in_notebook(shown, title, planned_s)
            show([], 0)
            try:
                yield show
            finally:
                shown("")
            return
        if self._quiet:
            yield lambda _lines, _elapsed_s: None
            return
        from rich.live import Live as Redrawn

        drawn = _Drawn(title, planned_s)
        with Redrawn(drawn, console=self._console, transient=True, refresh_per_second=8):
            yield drawn.update


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _in_notebook(shown: Shown, title: str, planned_s: float | None) -> Show:
    def show(lines: Lines, elapsed_s: float) -> None:
        share = None if planned_s is None else elapsed_s / planned_s
        shown(progress_html(title, in_one_line(lines), share))

    return show


def in_one_line(lines: Lines) -> str:
    """Return all the parts, one after the other."""
    return " · ".join(part for parts in lines for part in parts)


class _Drawn:
    """What stands on the terminal: no line of it is ever wider than that, so none ever wraps."""

    def __init__(self, title: str, planned_s: float | None) -> None:
        from rich.spinner import Spinner

        self._title, self._planned_s = title, planned_s
        self._lines: Lines = []
        self._elapsed_s = 0.0
        self._start_s = time.monotonic()
        self._spinner = Spinner("dots")

    def update(self, lines: Lines, elapsed_s: float) -> None:
        """Draw this from now on."""
        self._lines, self._elapsed_s = lines, elapsed_s

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """Draw the title with what moves, and under it how things stand."""
        from rich.table import Table
        from rich.text import Text

        # In the last column some terminals wrap already.
        width = options.max_width - 1
        head, *below = [_fitting(parts, width) for parts in self._lines] or [""]
        title = Text(self._title)
        title.truncate(max(width - len(head) - 3, width // 2), overflow="ellipsis")
        room = width - title.cell_len - len(head) - 2
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row(*self._moving(title, room, console), Text(head, no_wrap=True))
        narrower = options.update(max_width=width)
        yield from console.render(row, narrower)
        for line in filter(None, below):
            yield from console.render(Text(line, no_wrap=True, overflow="ellipsis"), narrower)

    def _moving(
        self, title: "RenderableType", room: int, console: "Console"
    ) -> "list[RenderableType]":
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        if self._planned_s is None:
            lasted_s = time.monotonic() - self._start_s
            return [self._spinner.render(console.get_time()), title, Text(_minutes(lasted_s))]
        width = min(_BAR, room)
        if width < _NARROWEST_BAR:
            return [title]
        bar = ProgressBar(total=self._planned_s, completed=self._elapsed_s, width=width)
        return [title, bar]


def _fitting(parts: Sequence[str], width: int) -> str:
    """Return as many of the parts, from the first on, as there is room for; always the first."""
    line = "".join(parts[:1])
    for part in parts[1:]:
        if len(line) + 3 + len(part) > width:
            break
        line += f" · {part}"
    return line


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class LiveStage:
    """One stage on the screen; takes what the stage's listener is told."""

    def __init__(self, show: Show, planned_s: float | None, bill: Bill | None) -> None:
        self._show, self._planned_s, self._bill = show, planned_s, bill
        self._ttft_ns: deque[int] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._itl_ns = record.int64(())
        self._failed: Counter[str] = Counter()
        self._tokens = 0

    def note(self, timeline: record.Timeline) -> None:
        """Take the timeline of a request that has ended."""
        if isinstance(timeline.outcome, record.Failed):
            self._failed[timeline.outcome.error] += 1
        self._tokens += timeline.tokens.output
        at_ns = timeline.token_at_ns
        if timeline.completed and at_ns.size and timeline.start_at_ns is not None:
            self._ttft_ns.append(int(at_ns[0]) - timeline.start_at_ns)
            gaps_ns = (self._itl_ns, at_ns[1:] - at_ns[:-1])
            self._itl_ns = np.concatenate(gaps_ns)[-_REMEMBERED_GAPS:]

    def report(self, progress: record.Progress) -> None:
        """Take how the stage stands."""
        elapsed_ns = progress.elapsed_ns
        left_s = max((self._planned_s or 0) - s_from_ns(elapsed_ns), 0)
        self._show(
            [
                [progress.phase + (f", {_minutes(math.ceil(left_s))} left" if left_s else "")],
                [
                    *self._errors(),
                    f"{progress.in_flight} in flight",
                    f"{progress.ended} done",
                    f"{format_number(per_second(progress.ended, elapsed_ns))} req/s",
                    f"{format_number(per_second(self._tokens, elapsed_ns))} tok/s",
                ],
                [*_percentiles("TTFT", self._ttft_ns), *_percentiles("ITL", self._itl_ns)],
                [] if self._bill is None else [self._bill.said(left_s)],
            ],
            s_from_ns(elapsed_ns),
        )

    def _errors(self) -> list[str]:
        if not self._failed:
            return []
        named = ", ".join(f"{count} {error}" for error, count in self._failed.most_common(2))
        others = self._failed.total() - sum(count for _, count in self._failed.most_common(2))
        return [f"failed: {named}" + (f", {others} other errors" if others else "")]


def _percentiles(name: str, values_ns: Sequence[int] | record.Durations) -> list[str]:
    if not len(values_ns):
        return []
    median_ns, p90_ns = np.percentile(values_ns, (50, 90))
    said = f"{name} p50 {format_duration(float(median_ns))}"
    if supports(len(values_ns), 90):
        said += f", p90 {format_duration(float(p90_ns))}"
    return [said]
