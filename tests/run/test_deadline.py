"""A short window over long requests, with a drain and with a hard deadline, in virtual time."""

import numpy as np
import pytest

from llmperf_core.judge import Summary, summarize
from llmperf_core.load import Concurrency
from tests.run.virtual import Behaviour, run_stage

_SLOTS = 60
# Log-normal around 5 s; the last token comes half a second after the first, as the model is made.
TAKES_S = np.random.default_rng(42).lognormal(np.log(5), 0.4, 5000)
TRUTH = {p: 5e9 * np.exp(0.4 * z) for p, z in ((50, 0.0), (90, 1.2816))}


def measured(drain_s: float) -> Summary:
    """Return the summary of a window of 30 s after a warm-up of two minutes."""
    stage = run_stage(
        Concurrency(_SLOTS),
        lambda index: Behaviour(first_s=float(TAKES_S[index]) - 0.5),
        warmup_s=120,
        duration_s=30,
        drain_s=drain_s,
    )
    return summarize(stage.timelines, stage.observation, load=Concurrency(_SLOTS))


@pytest.mark.parametrize("percentile", [50, 90])
def test_with_a_drain_percentiles_are_the_truth(percentile: int) -> None:
    """Every request that started in the window is waited for, so none is missing."""
    summary = measured(60)
    assert summary.requests.censored == 0
    interval = summary["e2e"].ci95[percentile]
    assert interval is not None
    assert interval[0] <= TRUTH[percentile] <= interval[1]
    assert summary["e2e"].percentiles[percentile] == pytest.approx(TRUTH[percentile], rel=0.1)


@pytest.mark.parametrize("percentile", [50, 90])
def test_with_a_deadline_the_estimate_counts_what_was_cut_off(percentile: int) -> None:
    """A sixth is in flight when 30 s end: it is shown, and the truth is within the interval."""
    summary = measured(0)
    assert 0.12 < summary.requests.censored_share < 0.22
    e2e = summary["e2e"]
    assert e2e.censored == summary.requests.censored
    interval, value = e2e.ci95[percentile], e2e.percentiles[percentile]
    assert interval is not None
    assert value is not None
    assert interval[0] <= TRUTH[percentile] <= interval[1]
    assert interval[0] <= value <= interval[1]
    assert value == pytest.approx(TRUTH[percentile], rel=0.1)
