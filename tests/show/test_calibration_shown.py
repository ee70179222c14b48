"""A calibration stands beside results in every form of output."""

import json
from collections.abc import Callable

from attrs import evolve
from rich.console import Console

from llmperf_core.show import (
    RunView,
    StageView,
    calibration_document,
    calibration_lines,
    render,
    run_document,
    run_html,
)
from llmperf_core.show.calibration import calibrated
from tests.calibrated import GOOD, spread

LINE = (
    "instrument: stamps ±9.00 µs (p99), reads within 400 µs, at 100 streams × 50.0 tokens/s; "
    "calibrated 2026-01-01T00:00:00+00:00"
)
DEGRADED = evolve(GOOD, read_lag=spread(9_000_000), coalesced_share=0.2, held_events_per_s=None)


def shown(view: RunView) -> str:
    """Return what a terminal that is wide enough shows."""
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        render(view, console)
    return captured.get()


def test_one_line_says_how_wrong_and_since_when() -> None:
    """And whether that is too wrong."""
    assert calibrated(GOOD) == LINE
    assert calibrated(DEGRADED).endswith("; DEGRADED: read_lag, coalesced")


def test_what_is_not_known_is_left_out_of_the_line() -> None:
    """Without kernel stamps no read lag is known; of one stream there is one."""
    line = calibrated(evolve(GOOD, read_lag=None, streams=1))

    assert "reads" not in line
    assert "at 1 stream ×" in line


def test_table_and_page_have_the_line(stage: Callable[..., StageView]) -> None:
    """Only where there is a calibration."""
    with_it = RunView("http://model", [stage()], calibration=GOOD)
    without = RunView("http://model", [stage()])

    assert LINE in shown(with_it)
    assert LINE in run_html(with_it)
    assert "calibrated" not in shown(without) + run_html(without)


def test_document_has_it_in_the_environment(stage: Callable[..., StageView]) -> None:
    """As plain JSON."""
    view = RunView("http://model", [stage()], environment={"cores": 2}, calibration=GOOD)
    document = json.loads(json.dumps(run_document(view)))

    assert document["environment"]["cores"] == 2
    assert document["environment"]["calibration"] == calibration_document(GOOD)
    assert run_document(evolve(view, calibration=None))["environment"] == {"cores": 2}


def test_document_is_in_the_units_that_it_names() -> None:
    """Milliseconds like the metrics; what is not known is null."""
    document = calibration_document(DEGRADED)

    assert document["stamp_error"] == {
        "unit": "ms",
        "count": 4000,
        "p50": 0.0045,
        "p99": 0.009,
        "p99_9": 0.009,
        "max": 0.009,
    }
    assert (document["gap_ms"], document["cpu_per_token_us"]) == (20.0, 15.0)
    assert document["status"] == "degraded"
    assert [reason["code"] for reason in document["reasons"]] == ["read_lag", "coalesced"]  # type: ignore[index, union-attr, call-overload]  # JSON

    few = calibration_document(evolve(GOOD, read_lag=None, lag=spread(1e6, count=5)))
    assert few["read_lag"] is None
    assert few["lag"] == {
        "unit": "ms", "count": 5, "p50": 0.5, "p99": None, "p99_9": None, "max": 1.0
    }  # fmt: skip


def test_lines_say_each_figure_and_what_it_is() -> None:
    """First what it comes to."""
    lines = list(calibration_lines(GOOD))

    assert lines[0] == "concurrency 100: good"
    assert lines[2].startswith("  read lag     p50 200 µs, p99 400 µs, p99.9 400 µs  ")
    assert lines[2].endswith("read by the program − received by the kernel")
    assert any("40,000 tokens/s" in line and "could not keep up" in line for line in lines)


def test_lines_of_a_degraded_one_give_the_reasons() -> None:
    """In words, before the figures."""
    lines = list(calibration_lines(evolve(DEGRADED, lag=None, stamp_error=spread(9e3, count=5))))

    assert lines[:3] == [
        "concurrency 100: degraded",
        "  read_lag: tokens were read late by 9.00 ms (p99), 45.0 % of a gap",
        "  coalesced: 20.0 % of the tokens came together",
    ]
    assert any("not known" in line for line in lines)
    assert any("max 9.00 µs" in line for line in lines)
    assert any("less than this load" in line for line in lines)
