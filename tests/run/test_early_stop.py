"""A stage that may stop where the answer is clear, in virtual time."""

import pytest

from llmperf_core.judge import Precision, Summary, judge, summarize
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile
from llmperf_core.run.settings import Settings
from llmperf_core.timeline import Censored
from tests.run.virtual import Behaviour, Measured, run_stage, seconds

MEDIAN = Precision("e2e", 50)


def summary_of(measured: Measured, load: LoadProfile) -> Summary:
    """Return what the stage comes to."""
    return summarize(measured.timelines, measured.observation, load=load)


@pytest.mark.parametrize("load", [Concurrency(20), ConstantRate(20)], ids=str)
def test_a_clear_answer_ends_the_stage_early(load: LoadProfile) -> None:
    """Where all requests take a second, an eighth of the time says so; what is in flight drains."""
    measured = run_stage(load, duration_s=80, warmup_s=3, precision=MEDIAN)
    window = measured.observation.window
    assert seconds([window.open_at_ns, window.close_at_ns]) == pytest.approx([3, 13], abs=0.05)
    assert measured.observation.stopped_early == "e2e p50 ± 5 %"
    assert all(timeline.completed for timeline in measured.timelines)
    summary = summary_of(measured, load)
    assert summary["e2e"].percentiles[50] == pytest.approx(1e9, rel=0.02)
    reasons = judge(summary, measured.observation).reasons
    assert [reason.code for reason in reasons] == ["stopped_early", "user_stamps"]
    assert "e2e p50 ± 5 % was reached, so the window is 10.0 s long" in reasons[0].detail


def test_an_unclear_answer_takes_the_whole_time() -> None:
    """Where half of the requests take ten times as long, in long runs, no look has seen enough."""
    measured = run_stage(
        Concurrency(5),
        lambda index: Behaviour(first_s=0.1 if index // 200 % 2 else 6),
        duration_s=200,
        precision=MEDIAN,
    )
    assert measured.observation.stopped_early == ""
    assert measured.observation.window.duration_ns == 200e9


def test_a_stage_that_ends_by_its_requests_is_not_looked_at() -> None:
    """It drains when a look would be due, and its window stays as it is."""
    measured = run_stage(
        Concurrency(5), Behaviour(first_s=20), requests=5, duration_s=40, precision=MEDIAN
    )
    assert measured.observation.stopped_early == ""
    assert not any(isinstance(t.outcome, Censored) for t in measured.timelines)


def test_precision_needs_a_longest_duration() -> None:
    """Otherwise a stage that never gets so precise would never end."""
    with pytest.raises(ValueError, match="'precision' needs a 'duration_s'"):
        Settings(duration_s=None, requests=5, precision=MEDIAN)
