"""The terminal's table at every width, with and without colours."""

import io
from collections.abc import Callable

import pytest
from attrs import evolve
from rich.cells import cell_len
from rich.console import Console

from llmperf_core.judge import Reason, Slo, Verdict
from llmperf_core.load import Concurrency, Poisson
from llmperf_core.show import RunView, StageView, render

Make = Callable[..., StageView]
LONG = "http://inference.example.com:8080/a/rather/long/path?with=a&query=that&does=not&end=soon"


def printed(view: RunView, width: int = 120, **options: object) -> str:
    """Return what is printed on a console of this width."""
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    render(view, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture(scope="module")
def run(stage: Make) -> RunView:
    """Return a run of four stages: a valid one, a small one, one of errors, an empty one."""
    stages = [
        stage(load=Concurrency(1)),
        stage(load=Concurrency(10), count=20),
        stage(load=Concurrency(100), failed=100),
        stage(load=Poisson(8.5), count=0),
    ]
    return RunView(LONG, stages, simulated=True)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_row_is_broken(run: RunView, width: int) -> None:
    """Each stage has one row, whole, beginning with its load and its verdict."""
    lines = printed(run, width).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    for load, verdict in [
        ("concurrency 1", "valid"),
        ("concurrency 10", "suspect"),
        ("concurrency 100", "invalid"),
        ("poisson 8.5/s", "invalid"),
    ]:
        rows = [line.split() for line in lines if line.startswith(f"{load} ")]
        assert [row[:3] for row in rows] == [[*load.split(), verdict]]
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_single_stage_fits_too(stage: Make, width: int) -> None:
    """The distributions with their intervals are no wider than the terminal."""
    lines = printed(RunView("t", [stage()]), width).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    assert any(line.startswith("ttft ms") for line in lines)


def test_a_wide_terminal_has_every_column(run: RunView) -> None:
    """Units are in the headings, and what cannot be supported is a dash."""
    lines = printed(run, 200).splitlines()
    first, second, _, valid, *_ = lines[1:]
    assert first.split() == ["TTFT"] * 3 + ["ITL"] * 2 + ["TPOT"] + ["E2E"] * 2
    assert second.split() == [
        *("load", "verdict", "req/s", "tok/s"),
        *("p50", "ms", "p95", "ms", "p99", "ms", "p50", "ms", "p99", "ms"),
        *("p50", "ms", "p50", "ms", "p95", "ms", "errors"),
    ]
    assert valid.split() == [
        *("concurrency", "1", "valid", "38.8", "391", "124", "147", "149"),
        *("20.0", "20.0", "20.0", "304", "327", "0"),
    ]
    assert "a wider terminal" not in "\n".join(lines)


def test_a_narrow_terminal_says_what_it_leaves_out(run: RunView) -> None:
    """The load, the verdict and the throughput stay; what went is named."""
    text = printed(run, 60)
    assert "tok/s" in text
    assert "a wider terminal also shows" in text
    assert "E2E p95 ms" in " ".join(text.split())


def test_reasons_and_the_instruments_own_error_are_in_words(run: RunView) -> None:
    """Under the table, for each stage."""
    text = " ".join(printed(run, 200).split())
    assert "errors: 25.0 % of the requests failed: http_429 100×" in text
    assert "too_few_samples: 20 completed requests" in text
    assert "stamps: kernel, read lag p99 40.0 µs, 0 % of tokens coalesced" in text
    assert "read lag max 40.0 µs" in text
    assert "stamps: none, read lag unknown" in text
    assert "400 completed, 0 failed, 4,000 output tokens (counted by usage)" in text


def test_a_simulation_says_so(stage: Make) -> None:
    """In the title, so no screenshot of a table can be taken for a measurement."""
    view = RunView("sim:x", [stage()], simulated=True)
    assert printed(view).splitlines()[0] == "sim:x · SIMULATED"
    assert "SIMULATED" not in printed(evolve(view, simulated=False))


def test_goodput_is_shown_where_there_is_an_slo(stage: Make) -> None:
    """Without one there is no such column."""
    assert "goodput" in printed(RunView("t", [stage(slo=Slo(ttft_ms=200))]), 200)
    assert "goodput" not in printed(RunView("t", [stage()]), 200)


def test_intervals_are_shown_for_a_single_stage(stage: Make) -> None:
    """Each percentile has its interval under it; metrics without a value are left out."""
    lines = printed(RunView("t", [stage()]), 200).splitlines()
    row = next(k for k, line in enumerate(lines) if line.startswith("ttft ms"))
    assert lines[row].split()[2:5] == ["400", "124", "124"]
    assert lines[row + 1].split()[:2] == ["[120,", "129]"]
    assert not any(line.startswith(("lag ms", "service_ttft ms")) for line in lines)


def test_censored_requests_are_named(stage: Make) -> None:
    """Requests that never ended are not passed over."""
    view = stage()
    requests = evolve(view.summary.requests, censored=7)
    view = evolve(view, summary=evolve(view.summary, requests=requests))
    assert "400 completed, 0 failed, 7 censored" in printed(RunView("t", [view]))


def test_a_summary_of_other_metrics_can_be_shown(stage: Make) -> None:
    """Columns without their metric hold dashes."""
    view = stage()
    view = evolve(view, summary=evolve(view.summary, metrics={}))
    assert "–" in printed(RunView("t", [view, view]))


def test_markup_in_names_is_text(stage: Make) -> None:
    """A target or a reason with brackets is printed as it is."""
    view = evolve(stage(), verdict=Verdict("suspect", (Reason("x", "[red]seen[/red] [/]"),)))
    text = printed(RunView("[bold]t[/bold] :smile:", [view]))
    assert text.startswith("[bold]t[/bold] :smile:\n")
    assert "x: [red]seen[/red] [/]" in text


def test_no_stages() -> None:
    """A run that was interrupted at once has nothing, and says so."""
    assert printed(RunView("t", [])) == "t\nno stages\n"


def test_colours_are_the_consoles_to_give(run: RunView, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets them, a file and NO_COLOR do not."""
    green = "\x1b[32m"
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert green in printed(run, force_terminal=True, color_system="standard")
    assert "\x1b" not in printed(run)
    monkeypatch.setenv("NO_COLOR", "1")
    assert green not in printed(run, force_terminal=True, color_system="standard")
