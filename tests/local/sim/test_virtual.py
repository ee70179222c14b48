"""A stage in virtual time is what a perfect client would have measured."""

from collections import Counter
from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import pytest
from attrs import evolve

from llmperf_core.judge import ITL, TTFT, all_values, summarize
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile, Poisson
from llmperf_core.timeline import Censored, Completed, Failed, Observation, Timeline
from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_local.sim import (
    Answers,
    Ask,
    Hardware,
    Scheduler,
    ServerOptions,
    VirtualStage,
    run_virtually,
)
from tests.local.sim.machines import MACHINE, STALLING

STAGE = VirtualStage(duration_ns=30 * NS_PER_S, overhead_ns=2 * NS_PER_MS + 1)


def asks(input_tokens: int = 10, max_new_tokens: int = 20) -> Iterator[Ask]:
    """Yield requests that are alike but for their seeds."""
    return (
        Ask(input_tokens=input_tokens, max_new_tokens=max_new_tokens, seed=seed) for seed in count()
    )


def played(
    load: LoadProfile,
    stage: VirtualStage = STAGE,
    options: ServerOptions = STALLING,
    hardware: Hardware = MACHINE,
) -> tuple[list[Timeline], Observation]:
    """Play a load of like requests."""
    return run_virtually(Scheduler(hardware, options), asks(), load=load, stage=stage)


def test_a_user_alone_sees_the_server_and_the_overhead() -> None:
    """TTFT is the prefill and the way there and back; a gap is a step; the next asks at once."""
    timelines, _ = played(Concurrency(1))
    first, second = timelines[:2]

    assert set(all_values(TTFT, timelines)) == {MACHINE.prefill_ns(10) + STAGE.overhead_ns}
    steps = {MACHINE.decode_ns(1, 10 + k) for k in range(1, 20)}
    assert set(all_values(ITL, timelines)) == steps
    assert second.sent_at_ns == first.ended_at_ns
    assert first.server_ns["queue"] == 0
    in_server_ns = first.ended_at_ns - (first.sent_at_ns or 0) - STAGE.overhead_ns
    assert first.server_ns["total"] == first.server_ns["inference"] == in_server_ns
    assert first.server_ns["time_per_token"] == in_server_ns // 20


def test_a_closed_loop_keeps_its_slots_busy() -> None:
    """As many are in flight as there are slots, and no more, until the window closes."""
    load = Concurrency(7)
    timelines, observation = played(load)
    summary = summarize(timelines, observation, load=load, detect_warmup=False)

    assert summary.mean_in_flight == pytest.approx(7, abs=0.01)
    assert [t.index for t in timelines] == list(range(len(timelines)))
    assert summary.requests.completed == len(timelines)
    assert summary.requests.drained == 7
    assert summary.stamps == "kernel"
    # Little's law, in a loop without a pause.
    e2e_s = float(np.mean([t.ended_at_ns - (t.sent_at_ns or 0) for t in timelines])) / NS_PER_S
    assert summary.requests_per_s is not None
    assert summary.requests_per_s.value * e2e_s == pytest.approx(7, rel=0.03)


@pytest.mark.parametrize("load", [ConstantRate(4.0), Poisson(4.0)])
def test_an_open_loop_starts_when_it_is_due(load: ConstantRate | Poisson) -> None:
    """Every instant of the plan within the window is a request, sent when it was due."""
    timelines, _ = played(load, evolve(STAGE, seed=3))
    plan = load.instants(np.random.default_rng(3))

    due = [timeline.due_at_ns for timeline in timelines]
    assert due == list(islice(plan, len(due)))
    assert next(plan) >= STAGE.duration_ns
    assert due == [timeline.sent_at_ns for timeline in timelines]


def test_an_overloaded_server_refuses_as_tgi_does() -> None:
    """The client sees an error in the stream, one overhead after it asked."""
    timelines, _ = played(ConstantRate(50.0), options=evolve(STALLING, max_concurrent_requests=4))
    refused = [t for t in timelines if isinstance(t.outcome, Failed)]

    assert {t.outcome for t in refused} == {Failed("in_band_error", "Model is overloaded")}
    assert {t.ended_at_ns - (t.sent_at_ns or 0) for t in refused} == {STAGE.overhead_ns}
    assert Counter(type(t.outcome) for t in timelines)[Completed] > 0


def test_what_is_in_flight_after_the_drain_is_censored() -> None:
    """A server that is slower than its load leaves requests behind."""
    stage = evolve(STAGE, duration_ns=NS_PER_S, drain_ns=NS_PER_S)
    timelines, observation = played(ConstantRate(100.0), stage)
    censored = [t for t in timelines if isinstance(t.outcome, Censored)]

    assert len(timelines) == 100
    assert censored
    assert {t.ended_at_ns for t in censored} == {2 * NS_PER_S} == {observation.ended_at_ns}
    assert max(t.token_at_ns[-1] for t in timelines if t.token_at_ns.size) <= 2 * NS_PER_S


def test_the_warm_up_is_before_the_window() -> None:
    """It is asked from the beginning, and the window has its whole length after it."""
    stage = evolve(STAGE, warm_up_ns=5 * NS_PER_S)
    timelines, observation = played(Concurrency(1), stage)

    assert timelines[0].sent_at_ns == 0
    assert observation.window.open_at_ns == 5 * NS_PER_S
    assert observation.window.duration_ns == STAGE.duration_ns
    assert 34 * NS_PER_S < (timelines[-1].sent_at_ns or 0) < 35 * NS_PER_S


def test_a_load_ends_with_the_asks() -> None:
    """Where nothing more is asked, nothing more happens."""
    for load in (Concurrency(3), ConstantRate(10.0)):
        timelines, _ = run_virtually(Scheduler(MACHINE), islice(asks(), 5), load=load, stage=STAGE)
        assert len(timelines) == 5


def test_speculated_tokens_arrive_one_after_the_other() -> None:
    """Each is an event of its own, which the router takes its time to write."""
    options = ServerOptions(speculate=3, answers=Answers(acceptance=0.9))
    timelines, _ = played(Concurrency(1), options=options)

    assert {t.token_at_ns.size for t in timelines} == {20}
    gaps = Counter(all_values(ITL, timelines).tolist())
    assert gaps.most_common(1)[0][0] == MACHINE.emit_ns
    assert min(gaps) == MACHINE.emit_ns


def test_a_slower_decode_is_seen_as_slower() -> None:
    """A machine scaled by 5 % has tokens 5 % further apart."""
    before, after = (
        all_values(ITL, played(Concurrency(4), hardware=hardware)[0]).mean()
        for hardware in (MACHINE, MACHINE.scaled(decode=1.05))
    )

    assert after / before == pytest.approx(1.05, rel=0.002)
