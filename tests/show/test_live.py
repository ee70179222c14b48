"""The line that shows how a run stands: on a terminal, and nowhere else."""

import io
import re

import pytest
from attrs import evolve
from rich.console import Console
from rich.text import Text

from llmperf_core.show.live import Live
from llmperf_core.timeline import Completed, Failed, Outcome, Progress, Timeline, TokenCount
from llmperf_core.units import NS_PER_MS, NS_PER_S

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def terminal(width: int = 80) -> Console:
    """Return a console that takes itself for a terminal."""
    return Console(force_terminal=True, width=width, file=io.StringIO())


def said(console: Console) -> str:
    """Return what was written to a console, without what moves the cursor."""
    assert isinstance(console.file, io.StringIO)
    return _CONTROL.sub("", console.file.getvalue())


def request(outcome: Outcome | None = None, ttft_ms: int = 250) -> Timeline:
    """Return a request of 100 tokens."""
    return Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=0,
        token_at_ns=[ttft_ms * NS_PER_MS],
        ended_at_ns=NS_PER_S,
        outcome=outcome or Completed(),
        tokens=TokenCount(output=100),
    )


def progress(elapsed_s: float = 5, in_flight: int = 3, ended: int = 7) -> Progress:
    """Return how a stage stands."""
    return Progress(
        phase="measuring",
        elapsed_ns=round(elapsed_s * NS_PER_S),
        in_flight=in_flight,
        started=in_flight + ended,
        ended=ended,
    )


def show(live: Live, *timelines: Timeline, state: Progress | None = None) -> None:
    """Show a stage with these requests in this state."""
    with live.waiting("bringing up http://model …") as report:
        report("loading")
    with live.stage("20 concurrent", 12.0) as stage:
        for timeline in timelines:
            stage.note(timeline)
        stage.report(state or progress())


@pytest.mark.parametrize(
    ("forced", "quiet"), [(False, False), (False, True), (True, True)], ids=str
)
def test_nothing_is_written_unless_to_a_terminal_that_wants_it(
    *, forced: bool, quiet: bool
) -> None:
    """Logs and pipes stay clean, and so does the terminal of who asked for quiet."""
    console = Console(force_terminal=forced, width=80, file=io.StringIO())
    show(Live(console=console, quiet=quiet), request())

    assert said(console) == ""


def test_standard_error_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the results; under pytest neither is a terminal."""
    show(Live(), request())

    assert capfd.readouterr() == ("", "")


def test_line_says_how_the_stage_stands() -> None:
    """The load, the phase, what is in flight and done, the speed, and the TTFT of late."""
    console = terminal(width=120)
    show(Live(console=console), *[request()] * 7, request(Failed("http_500")))
    shown = said(console)

    assert "bringing up http://model" in shown
    for part in (
        "20 concurrent",
        "measuring",
        "3 in flight",
        "7 done",
        "160 tok/s",
        "TTFT p50 250 ms",
        "failed: 1 http_500",
        "1.40 req/s",
    ):
        assert part in shown


def test_ttft_of_failed_requests_is_not_shown() -> None:
    """A request that failed quickly was not quick."""
    console = terminal(width=120)
    show(Live(console=console), request(Failed("http_500")))

    assert "TTFT" not in said(console)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Also with large numbers: a line that wraps would scroll the terminal away."""
    console = terminal(width)
    many = [request(Failed("http_500"))] * 1234 + [request(ttft_ms=12_345)] * 1234
    show(
        Live(console=console),
        *many,
        state=progress(elapsed_s=4000, in_flight=1024, ended=123_456),
    )
    lines = re.split(r"[\r\n]+", said(console))

    assert max(Text(line.rstrip()).cell_len for line in lines) < width
    assert "20 concurrent" in said(console)
    assert "failed: 1234 http_500" in said(console)
    assert "TTFT p50 12.3 s, p90 12.3 s" in said(console)


def test_gaps_between_tokens_are_shown() -> None:
    """The ITL percentiles of late, once there are two tokens; p90 from 36 gaps on."""
    console = terminal()
    at_ns = [round(ms * NS_PER_MS) for ms in range(100, 1000, 20)]
    show(Live(console=console), evolve(request(), token_at_ns=at_ns))

    assert "TTFT p50 100 ms · ITL p50 20.0 ms, p90 20.0 ms" in said(console)


def test_errors_are_named_and_the_rest_counted() -> None:
    """The two most frequent first: they are what to look into."""
    console = terminal()
    kinds = ["http_500"] * 3 + ["refused"] * 2 + ["truncated", "stalled"]
    show(Live(console=console), *[request(Failed(kind)) for kind in kinds])

    assert "failed: 3 http_500, 2 refused, 2 other errors" in said(console)


def test_time_and_money_that_are_left_are_shown() -> None:
    """The time until the window closes, and of what costs money what it has and will cost."""
    console = terminal()
    live = Live(console=console)
    live.spend(3600)
    show(live, request())

    assert "measuring, 0:07 left" in said(console)
    assert re.search(r"[\d.]+ USD spent, 7\.00 USD to go", said(console))


def test_load_in_brackets_is_no_markup() -> None:
    """What is shown is shown as it is."""
    console = terminal(width=120)
    with Live(console=console).stage("[bold]5 req/s[/bold]", None) as stage:
        stage.report(progress())
    with Live(console=console).waiting("bringing up [red]http://[::1]:80[/red]") as report:
        report("[bold]loading[/bold]")

    assert "[bold]5 req/s[/bold]" in said(console)
    assert "[red]http://[::1]:80[/red]" in said(console)
    assert "[bold]loading[/bold]" in said(console)


def test_stage_without_a_planned_length_is_shown() -> None:
    """Requests alone may end it; nobody knows when."""
    console = terminal()
    with Live(console=console).stage("5 concurrent", None) as stage:
        stage.report(progress())

    assert "5 concurrent" in said(console)
