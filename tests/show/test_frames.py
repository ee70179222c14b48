"""Data frames: a row for each request or stage, in whichever library."""

import sys

import pytest
from attrs import evolve

from llmperf_core import StageResult
from llmperf_core.errors import MissingExtraError
from llmperf_core.timeline import Cancelled, Censored, Completed, Failed, Outcome
from llmperf_core.units import ms_from_ns
from tests.test_compare import run, stage

OUTCOMES: list[Outcome] = [
    *(Completed("length"), Failed("http_429"), Censored()),
    Cancelled("time"),
]


@pytest.fixture(scope="module")
def ended() -> StageResult:
    """A stage whose first requests ended in each way."""
    found = stage()
    timelines = [
        evolve(timeline, outcome=OUTCOMES[k]) if k < len(OUTCOMES) else timeline
        for k, timeline in enumerate(found.timelines)
    ]
    return StageResult.of(timelines, found.observation, load=found.load, spec=found.spec)


def test_pandas_has_every_request(ended: StageResult) -> None:
    """With its instants in seconds, its durations in milliseconds, and how it ended."""
    frame = ended.to_pandas()
    assert len(frame) == len(ended.timelines)
    assert [*frame["outcome"][:4]] == ["completed", "failed", "censored", "cancelled"]
    assert frame["error"][1] == "http_429"
    whole = frame[frame["in_window"] & (frame["outcome"] == "completed")]
    assert len(whole) == ended.summary.requests.completed
    mean = ended["ttft"].mean
    assert mean is not None
    last = ended.timelines[-1]
    assert frame["ttft_ms"].iloc[-1] == ms_from_ns(int(last.token_at_ns[0] - last.start_at_ns))
    assert frame["ttft_ms"].isna().sum() == 2


def test_the_three_say_the_same(ended: StageResult) -> None:
    """The same columns, the same number of rows, the same sum."""
    frame, table = ended.to_polars(), ended.to_arrow()
    assert frame.columns == table.column_names == [*ended.to_pandas().columns]
    assert frame.height == table.num_rows == len(ended.timelines)
    assert frame["e2e_ms"].sum() == pytest.approx(ended.to_pandas()["e2e_ms"].sum())


def test_a_run_has_a_row_for_each_stage(ended: StageResult) -> None:
    """With the keys of the JSON document, joined by dots."""
    both = run(ended, stage(seed=2))
    p50 = ended["ttft"].p50
    assert p50 is not None
    for frame in (both.to_pandas(), both.to_polars()):
        assert len(frame) == 2
        assert frame["metrics.ttft.p50"][0] == pytest.approx(p50.value, abs=1e-6)
        assert frame["metrics.ttft.ci95.p50.low"][0] < p50.value
        assert frame["verdict.status"][0] == ended.verdict.status
    assert both.to_arrow().num_rows == 2


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_without_the_extra_it_says_what_to_install(
    ended: StageResult, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line."""
    monkeypatch.setitem(sys.modules, library, None)
    make = {"pandas": ended.to_pandas, "polars": ended.to_polars, "pyarrow": ended.to_arrow}
    with pytest.raises(MissingExtraError, match=rf"'{library}'.*llmperf-toolkit\[frames\]"):
        make[library]()
