"""What a stage does with plans that change, burst, end or are held back, in virtual time."""

from itertools import takewhile

import numpy as np
import pytest

from llmperf_core.load import ConstantRate, Gamma, OpenLoop, Poisson, Ramp, Replay, Steps
from llmperf_core.timeline import Censored
from llmperf_core.units import NS_PER_S, ns_from_s
from tests.run.virtual import Behaviour, run_stage, seconds

pytestmark = pytest.mark.usefixtures("deadline")

SLOW = Behaviour(first_s=3.5)
"""With its six tokens, four seconds in all."""


@pytest.mark.parametrize(
    "load",
    [
        Gamma(5, 0.3),
        Ramp(1, 9, duration_s=10),
        Ramp(9, 0, duration_s=10),
        Steps([(2, 4), (9, 2)], spread="constant"),
        Replay([ns_from_s(at_s) for at_s in (0, 0.5, 0.5, 3, 9, 30)]),
    ],
    ids=lambda load: load.label,
)
def test_requests_start_when_the_plan_says(load: OpenLoop) -> None:
    """At the instants that the profile plans with the stage's seed, without any lag."""
    timelines = run_stage(load, SLOW).by_index
    planned = takewhile(
        lambda at_ns: at_ns < 10 * NS_PER_S, load.instants(np.random.default_rng(7))
    )

    assert [timeline.due_at_ns for timeline in timelines] == list(planned)
    assert [t.sent_at_ns for t in timelines] == [t.due_at_ns for t in timelines]


@pytest.mark.parametrize("load", [Replay([0, ns_from_s(4)]), Ramp(4, 0, duration_s=4)])
def test_a_plan_that_ends_closes_the_window(load: OpenLoop) -> None:
    """With its last request inside: an empty rest would dilute every rate."""
    measured = run_stage(load)
    window = measured.observation.window

    assert measured.by_index[-1].due_at_ns == window.close_at_ns - 1
    assert len(measured.inside) == len(measured.timelines)
    assert all(timeline.completed for timeline in measured.timelines)


def test_a_plan_that_ends_in_the_warm_up_leaves_an_empty_window() -> None:
    """Nothing was measured, and that is what the window says."""
    assert run_stage(Replay([0]), warmup_s=5).observation.window.duration_ns == 0


@pytest.mark.parametrize("load", [ConstantRate(5), Poisson(5)])
def test_at_the_cap_requests_wait_and_the_wait_counts(load: OpenLoop) -> None:
    """Never more are in flight; none is dropped, all go in their order, and start stays due."""
    measured = run_stage(load, SLOW, max_in_flight=4, drain_s=1000)
    free = run_stage(load, SLOW, drain_s=1000)

    assert max(measured.model.levels) == 4
    assert [t.due_at_ns for t in measured.by_index] == [t.due_at_ns for t in free.by_index]
    sent = [t.sent_at_ns or 0 for t in measured.by_index]
    assert sent == sorted(sent)
    assert all(t.completed and t.start_at_ns == t.due_at_ns for t in measured.timelines)
    last = measured.by_index[-1]
    assert last.due_at_ns is not None
    assert sent[-1] - last.due_at_ns > 30 * NS_PER_S


def test_what_still_waits_at_the_end_is_censored() -> None:
    """It was due, so it is counted; and it was never sent."""
    measured = run_stage(ConstantRate(5), SLOW, max_in_flight=4, drain_s=0)

    waiting = [t for t in measured.timelines if t.sent_at_ns is None]
    assert len(measured.timelines) == 50
    assert len(waiting) > 30
    assert {t.outcome for t in waiting} == {Censored()}


def test_a_cap_that_is_not_reached_changes_nothing() -> None:
    """As many as there are at most may be in flight without a wait."""
    measured = run_stage(ConstantRate(2), SLOW, max_in_flight=9)

    assert [t.sent_at_ns for t in measured.by_index] == [t.due_at_ns for t in measured.by_index]
    assert seconds(t.due_at_ns or 0 for t in measured.by_index) == [k / 2 for k in range(20)]
