"""One stage from warm-up to drain, in virtual time."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from llmperf_core.errors import UsageError
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile, Poisson
from llmperf_core.target import Json, Prompt
from llmperf_core.timeline import Censored, Failed
from llmperf_core.units import NS_PER_S
from tests.run.virtual import Behaviour, now_ns, run_stage, seconds

pytestmark = pytest.mark.usefixtures("deadline")


SLOW = Behaviour(first_s=100)
REFUSES = Behaviour(status=500)
HANGS = Behaviour(whole=False)


def test_closed_loop_keeps_exactly_its_slots_in_flight() -> None:
    """Never more, and never fewer: a slot asks again in the instant in which its answer ends."""
    rng = np.random.default_rng(1)
    measured = run_stage(Concurrency(4), lambda _: Behaviour(first_s=rng.uniform(0.1, 0.4)))

    assert measured.model.levels[:3] == [1, 2, 3]
    assert set(measured.model.levels[3:]) == {4}
    assert len(measured.timelines) > 40


def test_closed_loop_has_no_plan() -> None:
    """Nothing is due, so nothing can lag."""
    assert {timeline.due_at_ns for timeline in run_stage(Concurrency(2)).timelines} == {None}


def test_constant_rate_starts_when_due() -> None:
    """At exactly equal gaps, and in virtual time without any lag."""
    timelines = run_stage(ConstantRate(4), SLOW, drain_s=2000).by_index

    assert seconds(t.due_at_ns or 0 for t in timelines) == [k / 4 for k in range(40)]
    assert [t.sent_at_ns for t in timelines] == [t.due_at_ns for t in timelines]


def test_poisson_starts_when_due() -> None:
    """The instants are those that the profile plans with the stage's seed, without any lag."""
    load = Poisson(5)
    timelines = run_stage(load, SLOW, drain_s=2000, duration_s=60).by_index
    planned = takewhile(
        lambda at_ns: at_ns < 60 * NS_PER_S, load.instants(np.random.default_rng(7))
    )

    assert [timeline.due_at_ns for timeline in timelines] == list(planned)
    assert [t.sent_at_ns for t in timelines] == [t.due_at_ns for t in timelines]


def test_nothing_starts_before_it_is_due() -> None:
    """Also where timers wake early: a plan that is met early is a wrong one."""
    measured = run_stage(ConstantRate(4), clock=lambda: round(0.99 * now_ns()))

    assert len(measured.timelines) == 40
    assert all((t.sent_at_ns or 0) >= (t.due_at_ns or 0) for t in measured.timelines)


@pytest.mark.parametrize("load", [ConstantRate(20), Poisson(20)])
def test_open_loop_drops_nothing_when_the_server_is_slow(load: LoadProfile) -> None:
    """However many are in flight, the next starts when it is due."""
    measured = run_stage(load, SLOW, drain_s=2000)

    assert max(measured.model.levels) == len(measured.timelines) > 150
    assert all(timeline.completed for timeline in measured.timelines)


def test_window_is_as_planned() -> None:
    """It opens after the warm-up, and lasts as long as was asked."""
    window = run_stage(Concurrency(3), warmup_s=2, duration_s=7).observation.window

    assert seconds([window.open_at_ns, window.close_at_ns]) == [2, 9]


def test_nothing_starts_after_the_window() -> None:
    """What starts in the drain would be load that nothing counts."""
    measured = run_stage(Concurrency(3), warmup_s=1, duration_s=6.5)

    assert max(seconds(measured.model.asked_at_ns)) < 7.5


def test_warm_up_is_load_too() -> None:
    """Requests start from the run's zero on, and their timelines are kept."""
    measured = run_stage(ConstantRate(1), warmup_s=3, duration_s=4)

    assert seconds(measured.model.asked_at_ns) == [0, 1, 2, 3, 4, 5, 6]
    assert len(measured.timelines) == 7
    assert len(measured.inside) == 4


def test_requests_alone_end_a_closed_loop() -> None:
    """So many start in the window; it closes with the end of the last."""
    measured = run_stage(Concurrency(2), duration_s=None, requests=6)

    assert len(measured.timelines) == len(measured.inside) == 6
    assert measured.observation.window.close_at_ns / NS_PER_S == pytest.approx(3)
    ended = [timeline.ended_at_ns in measured.observation.window for timeline in measured.timelines]
    assert all(ended)


def test_requests_count_from_the_opening_of_the_window() -> None:
    """Those of the warm-up come on top."""
    measured = run_stage(Concurrency(2), duration_s=None, requests=6, warmup_s=1.5)

    assert len(measured.inside) == 6
    assert len(measured.timelines) == 10


@pytest.mark.parametrize(
    ("requests", "expected"), [(4, 4), (1000, 20)], ids=["requests-first", "duration-first"]
)
def test_whichever_is_first_ends_the_stage(requests: int, expected: int) -> None:
    """A window of 10 s takes twenty requests of one second from two slots."""
    assert len(run_stage(Concurrency(2), requests=requests).timelines) == expected


@pytest.mark.parametrize("duration_s", [None, 1000])
def test_requests_end_an_open_loop_when_the_next_would_be_due(duration_s: float | None) -> None:
    """Its window is that of the plan: so many requests at this rate take so long to start."""
    measured = run_stage(ConstantRate(4), SLOW, duration_s=duration_s, requests=6, drain_s=200)

    assert len(measured.timelines) == len(measured.inside) == 6
    assert measured.observation.window.close_at_ns == 1.5 * NS_PER_S
    assert all(timeline.completed for timeline in measured.timelines)


def test_window_of_a_low_rate_lasts_as_long_as_asked() -> None:
    """That the next request is due after the window does not close it early."""
    measured = run_stage(
        ConstantRate(0.1), Behaviour(first_s=4), duration_s=25, requests=100, drain_s=2
    )

    assert measured.observation.window.close_at_ns == 25 * NS_PER_S
    assert [timeline.completed for timeline in measured.timelines] == [True] * 3
    drained = [report.elapsed_ns for report in measured.progress if report.phase == "draining"]
    assert all(at_ns >= 25 * NS_PER_S for at_ns in drained)


def test_drain_waits_for_what_is_in_flight() -> None:
    """A slow answer is not cut off: otherwise only the quick ones would count."""
    measured = run_stage(Concurrency(2), Behaviour(first_s=25), drain_s=60)

    assert [timeline.completed for timeline in measured.timelines] == [True, True]
    assert measured.observation.ended_at_ns / NS_PER_S == pytest.approx(25.5)
    assert measured.observation.window.close_at_ns == 10 * NS_PER_S
    assert not measured.observation.interrupted


@pytest.mark.parametrize("load", [Concurrency(3), ConstantRate(1)])
def test_drain_ends_at_its_deadline(load: LoadProfile) -> None:
    """A server that hangs cannot hold the stage; what hung is censored, tokens and all."""
    measured = run_stage(load, HANGS, drain_s=5)

    assert {timeline.outcome for timeline in measured.timelines} == {Censored()}
    assert {len(timeline.token_at_ns) for timeline in measured.timelines} == {5}
    assert measured.observation.ended_at_ns == 15 * NS_PER_S
    assert measured.model.in_flight == 0


def test_without_drain_the_stage_ends_with_the_window() -> None:
    """What is in flight is censored at once."""
    measured = run_stage(Concurrency(3), SLOW, drain_s=0)

    assert [timeline.outcome for timeline in measured.timelines] == [Censored()] * 3
    assert measured.observation.ended_at_ns == 10 * NS_PER_S


@pytest.mark.parametrize("load", [Concurrency(3), ConstantRate(3), Poisson(3)])
def test_stop_ends_the_stage_at_once(load: LoadProfile) -> None:
    """What had ended is kept, what is in flight is censored, and the window ends there."""
    measured = run_stage(load, stop_after_s=4.25)

    assert measured.observation.interrupted
    assert measured.observation.ended_at_ns == 4.25 * NS_PER_S
    assert measured.observation.window.close_at_ns == 4.25 * NS_PER_S
    outcomes = Counter(type(timeline.outcome).__name__ for timeline in measured.timelines)
    assert outcomes["Completed"] > 0
    assert outcomes["Censored"] > 0


def test_stop_in_the_warm_up_leaves_an_empty_window() -> None:
    """Nothing was measured, and that is what the window says."""
    window = run_stage(Concurrency(3), warmup_s=5, stop_after_s=2).observation.window

    assert window.duration_ns == 0


def test_stop_in_the_drain_leaves_the_window() -> None:
    """Giving up on the slow ones does not shorten what was measured."""
    measured = run_stage(Concurrency(3), SLOW, stop_after_s=30)

    assert measured.observation.window.close_at_ns == 10 * NS_PER_S
    assert measured.observation.ended_at_ns == 30 * NS_PER_S


def test_failing_closed_loop_backs_off() -> None:
    """A server that refuses at once is not asked thousands of times a second."""
    measured = run_stage(Concurrency(1), REFUSES)

    gaps = np.diff(seconds(measured.model.asked_at_ns))
    assert gaps[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert max(gaps) == pytest.approx(1.0)
    assert {type(timeline.outcome) for timeline in measured.timelines} == {Failed}


def test_success_ends_the_backing_off() -> None:
    """A server that has recovered is asked at full speed again."""
    measured = run_stage(Concurrency(1), lambda k: REFUSES if k < 3 else Behaviour(first_s=0.5))

    assert np.diff(seconds(measured.model.asked_at_ns))[3:] == pytest.approx(1.0)


def test_failing_open_loop_does_not_back_off() -> None:
    """Its users do not know of each other: the plan holds."""
    measured = run_stage(ConstantRate(10), REFUSES)

    assert len(measured.model.asked_at_ns) == 100


def test_progress_says_where_the_stage_is() -> None:
    """Warm-up, measuring, draining; started, ended and in flight agree at every moment."""
    progress = run_stage(Concurrency(2), Behaviour(first_s=3), warmup_s=2, duration_s=3).progress

    phases = {report.phase: seconds([report.elapsed_ns])[0] for report in progress}
    assert list(phases) == ["warm-up", "measuring", "draining"]
    assert phases["warm-up"] < 2
    assert 2 <= phases["measuring"] <= 5
    assert all(report.in_flight == report.started - report.ended for report in progress)
    assert progress[-1].started == 4


def test_listener_hears_of_each_request_when_it_ends() -> None:
    """And not only when all have ended: a crash must not cost them all."""
    measured = run_stage(Concurrency(2), lambda k: Behaviour(first_s=1 + k))

    ended = [timeline.ended_at_ns for timeline in measured.timelines]
    assert ended == sorted(ended)


@frozen
class Three:
    """A workload that ends, as none may."""

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield three prompts."""
        return iter([Prompt(text=f"llama {k + seed}") for k in range(3)])

    def describe(self) -> Mapping[str, Json]:
        """Return the kind."""
        return {"kind": "three"}


@pytest.mark.parametrize("load", [Concurrency(2), ConstantRate(2)])
def test_workload_that_ends_is_a_usage_error(load: LoadProfile) -> None:
    """The message says what to do; `StopIteration` would not."""
    said = pytest.RaisesExc(UsageError, match="no prompt after the first 3")
    with pytest.RaisesGroup(said, flatten_subgroups=True):
        run_stage(load, workload=Three())


behaviours = st.builds(
    Behaviour,
    # Never at once: in virtual time a closed loop would then ask for ever in one instant.
    first_s=st.sampled_from([0.05, 0.5, 3.0, 500.0]),
    gap_s=st.sampled_from([0.0, 0.1]),
    status=st.sampled_from([200, 200, 200, 503]),
    whole=st.booleans(),
)
loads = (
    st.integers(1, 5).map(Concurrency)
    | st.sampled_from([0.3, 2.0, 7.0]).map(ConstantRate)
    | st.sampled_from([0.3, 2.0, 7.0]).map(Poisson)
)


@examples(max_examples=60)
@given(
    load=loads,
    plan=st.lists(behaviours, min_size=1, max_size=6),
    warmup_s=st.sampled_from([0, 1.5]),
    drain_s=st.sampled_from([0, 2, 1000]),
    requests=st.none() | st.integers(1, 12),
    stop_after_s=st.none() | st.sampled_from([0.0, 0.5, 4.0, 11.0]),
)
def test_every_request_that_started_has_one_timeline(
    load: LoadProfile,
    plan: list[Behaviour],
    warmup_s: float,
    drain_s: float,
    requests: int | None,
    stop_after_s: float | None,
) -> None:
    """Whatever becomes of them: none is lost, none is noted twice, none stays in flight."""
    measured = run_stage(
        load,
        lambda k: plan[k % len(plan)],
        duration_s=6,
        warmup_s=warmup_s,
        drain_s=drain_s,
        requests=requests,
        stop_after_s=stop_after_s,
    )

    assert [timeline.index for timeline in measured.by_index] == list(
        range(len(measured.timelines))
    )
    sent = [timeline for timeline in measured.timelines if timeline.sent_at_ns is not None]
    assert len(sent) == len(measured.model.asked_at_ns)
    assert measured.model.in_flight == 0
    assert len(measured.inside) <= (requests or len(measured.inside))
    window = measured.observation.window
    assert 0 <= window.open_at_ns <= window.close_at_ns <= 7.5 * NS_PER_S


def test_the_time_of_day_is_taken_beside_the_zero() -> None:
    """What another machine recorded meanwhile is found by it: it is the first thing after it."""
    read_at: list[datetime] = []

    def clock() -> int:
        read_at.append(datetime.now(UTC))
        return now_ns()

    observation = run_stage(Concurrency(1), clock=clock).observation

    zero_at, then_at = read_at[:2]
    assert zero_at <= datetime.fromisoformat(observation.started_at) <= then_at
