"""What a calibration says against a host, and what it makes of a stage that was measured there."""

from typing import Any

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.judge import Calibration, Reason, Spread, as_calibrated, judge
from llmperf_core.judge.calibration import WORSE_FACTOR
from llmperf_core.load import Concurrency, ConstantRate
from llmperf_core.timeline import Timeline, int64
from llmperf_core.units import NS_PER_MS
from tests.calibrated import GOOD, spread
from tests.judge.test_verdict import OBSERVATION, stage, summary_of

GAP_NS = GOOD.gap_ns


def codes(calibration: Calibration) -> list[str]:
    """Return the codes of what speaks against a calibration."""
    return [reason.code for reason in calibration.reasons]


def said(timelines: list[Timeline], calibration: Calibration = GOOD) -> list[Reason]:
    """Return what the calibration makes of a stage."""
    is_open_loop = timelines[0].due_at_ns is not None
    load = ConstantRate(10) if is_open_loop else Concurrency(1)
    verdict = judge(summary_of(timelines, load), OBSERVATION, checks=[as_calibrated(calibration)])
    return list(verdict.reasons)


def test_a_good_calibration_has_no_reasons() -> None:
    """Nothing speaks against the host."""
    assert (GOOD.status, GOOD.reasons) == ("good", ())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reference_late": spread(0.26 * GAP_NS)}, "reference_late"),
        ({"read_lag": spread(0.26 * GAP_NS)}, "read_lag"),
        ({"read_lag": spread(0.26 * GAP_NS, count=10)}, "read_lag"),
        ({"stamp_error": spread(0.06 * GAP_NS)}, "stamp_error"),
        ({"coalesced_share": 0.011}, "coalesced"),
        ({"lag": spread(11 * NS_PER_MS)}, "lag"),
        ({"lag": None}, "lag"),
        ({"failed": 1}, "errors"),
    ],
)
def test_each_figure_can_degrade_it(changes: dict[str, Any], code: str) -> None:
    """Just above its threshold, and by a reason of its own."""
    found = evolve(GOOD, **changes)

    assert (found.status, codes(found)) == ("degraded", [code])


@pytest.mark.parametrize(
    "changes",
    [
        {"reference_late": spread(0.25 * GAP_NS)},
        {"read_lag": spread(0.25 * GAP_NS)},
        {"read_lag": None, "stamps": "user"},
        {"stamp_error": spread(0.05 * GAP_NS)},
        {"coalesced_share": 0.01},
        {"lag": spread(10 * NS_PER_MS)},
    ],
)
def test_up_to_its_threshold_a_figure_is_good(changes: dict[str, Any]) -> None:
    """What is not known speaks against nothing, either."""
    assert codes(evolve(GOOD, **changes)) == []


def test_reasons_say_what_was_seen() -> None:
    """The figure, which one it is, and what it is held against."""
    (reason,) = evolve(GOOD, read_lag=spread(0.5 * GAP_NS)).reasons

    assert reason.detail == "tokens were read late by 10.0 ms (p99), 50.0 % of a gap"


def test_a_stage_as_good_as_calibrated_is_not_spoken_against() -> None:
    """In a closed loop and in an open one."""
    assert said(stage(read_lag_ns=400_000)) == []
    assert said(stage(read_lag_ns=400_000, open_loop_lag_ns=NS_PER_MS)) == []


def test_a_degraded_calibration_speaks_against_every_stage() -> None:
    """However good the stage looks: the instrument was bad, and says why."""
    (reason,) = said(stage(), evolve(GOOD, coalesced_share=0.5))

    assert (reason.code, reason.status) == ("degraded_instrument", "suspect")
    assert reason.detail == "when calibrated, 50.0 % of the tokens came together"


def test_reads_that_became_much_later_are_said() -> None:
    """Both figures are named."""
    (reason,) = said(stage(read_lag_ns=4 * NS_PER_MS))

    assert reason.code == "degraded_instrument"
    assert "read lag p99 4.00 ms, 400 µs (p99) when calibrated" in reason.detail


def test_read_lag_that_harms_nothing_is_not_held_against_a_stage() -> None:
    """Many times what was calibrated, and still a small part of the gap between tokens."""
    calibration = evolve(GOOD, read_lag=spread(1_000))

    assert said(stage(read_lag_ns=int(0.15 * GAP_NS)), calibration) == []
    assert len(said(stage(read_lag_ns=int(0.16 * GAP_NS)), calibration)) == 1


def test_read_lag_that_was_calibrated_is_not_worse() -> None:
    """A stage is held against its host as that was found, not against a better one."""
    lag_ns = int(0.2 * GAP_NS)

    assert (
        said(stage(read_lag_ns=lag_ns), evolve(GOOD, read_lag=spread(lag_ns / WORSE_FACTOR))) == []
    )


def test_tokens_that_came_together_are_said_where_reads_were_late() -> None:
    """Where they were prompt, the server sent them so."""
    late, prompt = int(0.16 * GAP_NS), 1_000
    calibration = evolve(GOOD, read_lag=spread(late))

    (reason,) = said(stage(read_lag_ns=late, coalesced=1), calibration)
    assert reason.detail == "10.0 % of the tokens came together, 0 % when calibrated"
    assert said(stage(read_lag_ns=prompt, coalesced=1), calibration) == []
    assert said(stage(read_lag_ns=late), calibration) == []


def test_requests_that_were_sent_much_later_are_said() -> None:
    """From 10 ms on: timers of general-purpose systems are no better."""
    (reason,) = said(stage(open_loop_lag_ns=11 * NS_PER_MS))

    assert "lag max 11.0 ms, 300 µs (p99) when calibrated" in reason.detail
    assert said(stage(open_loop_lag_ns=10 * NS_PER_MS)) == []
    (degraded,) = said(stage(open_loop_lag_ns=11 * NS_PER_MS), evolve(GOOD, lag=None))
    assert "no request of an open loop was sent" in degraded.detail
    assert (
        said(stage(open_loop_lag_ns=11 * NS_PER_MS), evolve(GOOD, lag=spread(4 * NS_PER_MS))) == []
    )


def test_what_was_not_stamped_by_the_kernel_cannot_be_compared() -> None:
    """On either side."""
    assert said(stage(kernel=False)) == []
    assert said(stage(read_lag_ns=4 * NS_PER_MS), evolve(GOOD, read_lag=None)) == []


def test_no_values_have_no_spread() -> None:
    """An empty distribution says nothing."""
    assert Spread.of(int64(())) is None


@given(st.lists(st.integers(min_value=-(10**12), max_value=10**12), min_size=1, max_size=400))
def test_spread_is_of_the_values(values: list[int]) -> None:
    """Its percentiles are NumPy's, in whatever order the values come, and not of too few."""
    found = Spread.of(int64(values))

    assert found is not None
    assert (found.count, found.max_ns) == (len(values), max(values))
    assert (found.p50_ns is None, found.p99_ns is None) == (len(values) < 6, len(values) < 368)
    assert found.p99_9_ns is None
    if found.p99_ns is not None:
        assert found.p99_ns == pytest.approx(np.percentile(values, 99), abs=1)
    assert found.high == ("max", max(values)) if found.p99_ns is None else ("p99", found.p99_ns)
