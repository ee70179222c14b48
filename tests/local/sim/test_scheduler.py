"""The scheduler does what TGI's does, and takes the time that the hardware says."""

from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from llmperf_local.sim import Answers, Ask, Scheduler, ServerOptions, Ticket
from tests.local.sim.machines import (
    CHUNKING,
    MACHINE,
    STALLING,
    Load,
    instants,
    loads,
    play,
    run_out,
)

SHORT = Ask(input_tokens=10, max_new_tokens=30)
MS = 1_000_000


def admitted(scheduler: Scheduler, ask: Ask) -> Ticket:
    """Submit a request at the beginning, for which there is a permit."""
    ticket = scheduler.submit(ask, 0)
    assert ticket is not None
    return ticket


@pytest.mark.parametrize("options", [STALLING, ServerOptions()], ids=["stalling", "chunking"])
def test_alone_the_times_are_the_hardwares(options: ServerOptions) -> None:
    """A request alone has its first token after the prefill, and one more after each step."""
    scheduler = Scheduler(MACHINE, options)

    ticket = scheduler.submit(Ask(input_tokens=100, max_new_tokens=4), 1_000)
    at_ns = instants(run_out(scheduler), ticket)

    assert at_ns[0] == 1_000 + MACHINE.prefill_ns(100) == 1_000 + 105 * MS
    assert [b - a for a, b in pairwise(at_ns)] == [MACHINE.decode_ns(1, 100 + k) for k in (1, 2, 3)]


def test_a_ticket_has_the_times_of_tgi() -> None:
    """Queueing is apart; inference includes the prefill, and is divided by all tokens."""
    scheduler = Scheduler(MACHINE, STALLING)
    scheduler.submit(SHORT, 0)

    ticket = scheduler.submit(Ask(input_tokens=50, max_new_tokens=2), 5 * MS)
    assert ticket is not None
    assert (ticket.queue_ns, ticket.inference_ns, ticket.time_per_token_ns) == (None, None, None)
    run_out(scheduler)

    assert ticket.queue_ns == MACHINE.prefill_ns(10) - 5 * MS
    # The two of the batch leave one after the other, and this one is the second.
    step_ns = MACHINE.decode_ns(2, 11 + 51) + MACHINE.emit_ns
    assert ticket.inference_ns == MACHINE.prefill_ns(50) + step_ns
    assert ticket.time_per_token_ns == ticket.inference_ns // 2
    assert ticket.finish_reason == "length"


def gaps_of_a_running_request(options: ServerOptions) -> list[int]:
    """Return a request's gaps between tokens, while a long prompt comes in."""
    scheduler = Scheduler(MACHINE, options)
    running = scheduler.submit(SHORT, 0)
    scheduler.submit(Ask(input_tokens=1_000, max_new_tokens=2), 50 * MS)
    at_ns = instants(run_out(scheduler), running)
    return [b - a for a, b in pairwise(at_ns)]


def test_a_long_prompt_stalls_running_requests_only_without_chunks() -> None:
    """Without chunks one gap is as long as the whole prefill; with them each is a chunk longer."""
    whole_ns, chunk_ns = MACHINE.prefill_ns(1_000), MACHINE.prefill_ns(64)

    assert max(gaps_of_a_running_request(STALLING)) > whole_ns
    chunked = gaps_of_a_running_request(CHUNKING)
    assert max(chunked) < MACHINE.decode_ns(1, 100) + chunk_ns
    assert sum(gap > chunk_ns for gap in chunked) == 16  # 1,000 tokens in chunks of 63


def test_a_batch_is_not_stalled_for_too_few() -> None:
    """One waits for the batch to have run 20 steps; as many as it at a ratio of 1 do not."""
    options = evolve(STALLING, waiting_served_ratio=1.0)

    def started_after(waiting: int) -> int:
        scheduler = Scheduler(evolve(MACHINE, emit_ns=0), options)
        running = [scheduler.submit(SHORT, 0) for _ in range(3)]
        late, *_ = [scheduler.submit(SHORT, 200 * MS) for _ in range(waiting)]
        left = run_out(scheduler)
        assert late is not None
        assert late.started_at_ns is not None
        return sum(at_ns <= late.started_at_ns for at_ns in instants(left, running[-1]))

    # The first token is the prefill's; the loop counts from 1, so it stops after 19 steps.
    assert started_after(1) == 20
    assert started_after(3) < 10


def test_one_more_than_there_are_permits_is_refused() -> None:
    """Queued and running count alike, and an ended request makes room."""
    scheduler = Scheduler(MACHINE, evolve(CHUNKING, max_concurrent_requests=3))

    tickets = [scheduler.submit(SHORT, 0) for _ in range(4)]
    assert [ticket is None for ticket in tickets] == [False, False, False, True]
    assert scheduler.gauges.in_flight == 3
    run_out(scheduler)

    assert scheduler.submit(SHORT, 10**10) is not None


def test_a_cached_beginning_shortens_the_prefill() -> None:
    """A prompt that begins as a finished one did is computed from where it differs."""
    scheduler = Scheduler(MACHINE, ServerOptions(block_size=4))
    first = Ask(input_tokens=40, max_new_tokens=1, prefix=tuple(range(10)))
    same = evolve(first, prefix=(*range(5), *range(50, 55)))
    scheduler.submit(first, 0)
    run_out(scheduler)

    later = 10**9
    ticket, whole = scheduler.submit(same, later), evolve(first)
    assert ticket is not None
    assert instants(run_out(scheduler), ticket) == [later + MACHINE.prefill_ns(20)]
    assert ticket.cached_tokens == 20

    again = scheduler.submit(whole, 2 * later)
    # The last token of a prompt is computed, however much is cached.
    assert instants(run_out(scheduler), again) == [2 * later + MACHINE.prefill_ns(1)]


def test_who_does_not_fit_blocks_those_behind() -> None:
    """The queue is first come, first served, even where a later one would fit."""
    scheduler = Scheduler(evolve(MACHINE, kv_tokens=100), STALLING)
    asks = [evolve(SHORT, input_tokens=tokens) for tokens in (30, 60, 1)]
    running, large, small = (admitted(scheduler, ask) for ask in asks)

    scheduler.advance(300 * MS)
    assert scheduler.gauges.queue_size == 2
    assert scheduler.gauges.batch_tokens == 64
    run_out(scheduler)

    assert large.started_at_ns == running.ended_at_ns
    assert (small.started_at_ns or 0) > (large.started_at_ns or 0)


@pytest.mark.parametrize(
    ("ask", "options", "message"),
    [
        (Ask(input_tokens=4_000, max_new_tokens=200), ServerOptions(), "4199 KV tokens"),
        (
            Ask(input_tokens=70, max_new_tokens=1),
            evolve(STALLING, max_batch_prefill_tokens=64),
            "a pass takes 64",
        ),
    ],
)
def test_what_can_never_run_is_an_error(ask: Ask, options: ServerOptions, message: str) -> None:
    """It would block the queue for ever, and nothing is left of it."""
    scheduler = Scheduler(MACHINE, options)

    with pytest.raises(ValueError, match=message):
        scheduler.submit(ask, 0)

    assert scheduler.gauges.in_flight == 0


def test_an_answer_can_end_before_its_limit() -> None:
    """The chance of an end is that of each token; an end at the limit is one by length."""
    asks = [Ask(input_tokens=1, max_new_tokens=50, seed=seed) for seed in range(400)]
    scheduler = Scheduler(
        evolve(MACHINE, kv_tokens=10**6),
        ServerOptions(answers=Answers(eos_hazard=0.1), max_concurrent_requests=10**6),
    )
    tickets = [scheduler.submit(ask, 0) for ask in asks]
    stubborn = scheduler.submit(evolve(asks[0], ignore_eos=True), 0)
    run_out(scheduler)
    ended = [t for t in tickets if t is not None and t.finish_reason == "eos_token"]

    assert max(ticket.generated for ticket in ended) < 50
    assert sum(ticket.generated for ticket in ended) / len(ended) == pytest.approx(10, rel=0.15)
    assert len(ended) == pytest.approx(400 * (1 - 0.9**49), rel=0.01)
    assert stubborn is not None
    assert (stubborn.generated, stubborn.finish_reason) == (50, "length")


def test_speculation_brings_tokens_in_bursts() -> None:
    """Steps bring up to 1 + the speculated tokens, and answers are as long as without."""
    options = ServerOptions(speculate=3, answers=Answers(acceptance=0.8))
    scheduler = Scheduler(MACHINE, options)

    ticket = scheduler.submit(Ask(input_tokens=10, max_new_tokens=200), 0)
    left = run_out(scheduler)

    assert ticket is not None
    assert ticket.generated == sum(emission.tokens for emission in left) == 200
    assert {emission.tokens for emission in left} == {1, 2, 3, 4}
    # A step brings 1 + 0.8 + 0.8² + 0.8³ tokens on average.
    assert 199 / (len(left) - 1) == pytest.approx(2.952, rel=0.15)


def test_a_client_that_has_gone_gets_nothing_more() -> None:
    """Queued or running, it ends at once, and its place is free when the router comes to it."""
    scheduler = Scheduler(MACHINE, evolve(STALLING, max_batch_size=1))
    running, queued, last = (admitted(scheduler, SHORT) for _ in range(3))
    before = scheduler.advance(100 * MS)

    scheduler.cancel(queued, 100 * MS)
    scheduler.cancel(running, 100 * MS)
    assert scheduler.gauges.in_flight == 1
    after = run_out(scheduler)
    scheduler.cancel(last, 10**10)

    assert running.generated == len(before) > 0
    assert {emission.ticket for emission in after} == {last}
    assert (running.finish_reason, running.ended_at_ns) == ("cancelled", 100 * MS)
    assert queued.started_at_ns is None
    assert last.finish_reason == "length"
    assert last.started_at_ns is not None
    assert 100 * MS < last.started_at_ns < 100 * MS + MACHINE.decode_ns(1, 50)


def test_the_first_pass_of_a_size_is_tuned() -> None:
    """It takes longer by its size, and the next of that size does not."""
    machine = evolve(MACHINE, tuning_ns_per_token=MS)
    scheduler = Scheduler(machine, STALLING)
    first = [scheduler.submit(evolve(SHORT, input_tokens=100), at_ns) for at_ns in (0, 10**10)]
    left = run_out(scheduler)
    at_ns = [instants(left, ticket) for ticket in first]

    assert at_ns[0][0] == machine.prefill_ns(100) + 128 * MS
    assert at_ns[0][1] - at_ns[0][0] == machine.decode_ns(1, 101) + MS
    assert at_ns[1][0] - 10**10 == machine.prefill_ns(100)


@given(loads(), st.booleans())
def test_every_request_ends_once(load: Load, ahead: bool) -> None:  # noqa: FBT001 -- drawn
    """Each that was admitted finishes or is given up, with at most the tokens that it asked for."""
    record = play(load, ahead=ahead)

    assert len(record.tickets) == len(load.arrivals)
    admitted = [ticket for ticket in record.tickets if ticket is not None]
    ends = [reason for _, _, _, reason in record.left if reason is not None]
    assert len(ends) == sum(t.finish_reason in ("length", "eos_token") for t in admitted)
    for ticket in admitted:
        tokens = sum(tokens for id_, _, tokens, _ in record.left if id_ == ticket.id)
        assert tokens == ticket.generated <= ticket.ask.max_new_tokens
        assert ticket.ended_at_ns is not None
        if ticket.finish_reason == "length":
            assert ticket.generated == ticket.ask.max_new_tokens
        if ticket.finish_reason == "eos_token":
            assert ticket.generated < ticket.ask.max_new_tokens
            assert not ticket.ask.ignore_eos
    gauges = record.scheduler.gauges
    assert (gauges.in_flight, gauges.queue_size, gauges.batch_size, gauges.batch_tokens) == (0,) * 4


@given(loads())
def test_requests_start_in_the_order_of_coming(load: Load) -> None:
    """Nobody is put into a batch before somebody who came earlier."""
    started = [t.started_at_ns for t in play(load).tickets if t is not None]
    known = [at_ns for at_ns in started if at_ns is not None]

    assert known == sorted(known)


@given(loads())
def test_tokens_leave_in_order(load: Load) -> None:
    """Time never goes back, and the router writes one event after the other."""
    left = play(load).left

    assert all(
        later[1] - earlier[1] >= earlier[2] * load.hardware.emit_ns
        for earlier, later in pairwise(left)
    )


@given(loads(), st.integers(1, 100 * MS))
def test_the_same_seed_is_the_same_run_however_it_is_looked_at(load: Load, every_ns: int) -> None:
    """When the caller asks what has left does not change what leaves, nor does a second run."""
    once = play(load)

    assert play(load).left == once.left
    assert play(load, look_every_ns=every_ns).left == once.left


@given(loads())
def test_computing_a_pass_ahead_changes_nothing(load: Load) -> None:
    """Whoever comes while a pass lasts joins the next; whoever goes leaves it."""
    staying = evolve(load, arrivals=[evolve(a, cancelled_after_ns=None) for a in load.arrivals])
    # Who goes leaves a gap in the row of events, and the cache in another order: not so here.
    at_once = evolve(
        load,
        hardware=evolve(load.hardware, emit_ns=0),
        options=evolve(load.options, prefix_caching=False),
    )

    for either in (staying, at_once):
        assert play(either, ahead=True).left == play(either).left


@given(loads())
def test_no_more_than_the_limits(load: Load) -> None:
    """Permits, KV tokens and the batch are within the options at every instant."""
    scheduler, options = Scheduler(load.hardware, load.options), load.options
    for arrival in load.arrivals:
        scheduler.submit(arrival.ask, 0)
    while (at_ns := scheduler.next_at_ns()) is not None:
        gauges = scheduler.gauges
        assert gauges.in_flight <= options.max_concurrent_requests
        assert gauges.batch_tokens <= load.hardware.kv_tokens
        assert gauges.cached_tokens <= load.hardware.kv_tokens
        assert gauges.batch_size <= (options.max_batch_size or gauges.batch_size)
        scheduler.advance(at_ns)
