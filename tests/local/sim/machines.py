"""Machines and loads that the tests of the simulator draw from, and how they are played."""

from attrs import evolve, field, frozen
from hypothesis import strategies as st

from llmperf_local.sim import (
    Answers,
    Ask,
    Emission,
    FinishReason,
    Hardware,
    Scheduler,
    ServerOptions,
    Ticket,
)

MACHINE = Hardware(
    prefill_tokens_per_s=1_000,
    prefill_base_ns=5_000_000,
    decode_base_ns=20_000_000,
    decode_per_sequence_ns=1_000_000,
    decode_per_context_token_ns=1_000,
    kv_tokens=4_096,
)
"""A round one: a token of a prompt takes 1 ms, a token of an answer a little more than 21 ms."""

STALLING = ServerOptions(prefill_chunking=False, prefix_caching=False, block_size=16)
CHUNKING = ServerOptions(prefix_caching=False, max_batch_prefill_tokens=64)


def run_out(scheduler: Scheduler) -> list[Emission]:
    """Let a scheduler finish all it has; return what leaves."""
    left = []
    while (at_ns := scheduler.next_at_ns()) is not None:
        left += scheduler.advance(at_ns)
    return left


def instants(left: list[Emission], ticket: Ticket | None) -> list[int]:
    """Return when the tokens of one request left."""
    return [emission.at_ns for emission in left if emission.ticket is ticket]


@frozen
class Arrival:
    """A request of a drawn load."""

    after_ns: int
    """Since the one before it."""
    ask: Ask
    cancelled_after_ns: int | None
    """Since it was submitted; None if its client stays."""


@frozen
class Load:
    """A machine, and what is asked of it."""

    hardware: Hardware
    options: ServerOptions
    arrivals: list[Arrival]


@frozen
class Record:
    """What a played load came to."""

    left: list[tuple[int, int, int, FinishReason | None]] = field(factory=list)
    """Of each emission: the request, the instant, the tokens and the reason."""
    tickets: list[Ticket | None] = field(factory=list)
    """In the order of submitting; None for the refused."""
    scheduler: Scheduler = field(factory=lambda: Scheduler(MACHINE))


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """Draw a small machine and requests that it can run."""
    options = ServerOptions(
        max_concurrent_requests=draw(st.integers(1, 8)),
        max_batch_prefill_tokens=draw(st.integers(64, 160)),
        max_batch_size=draw(st.none() | st.integers(1, 4)),
        prefill_chunking=draw(st.booleans()),
        waiting_served_ratio=draw(st.sampled_from([0.0, 0.3, 1.2])),
        max_waiting_tokens=draw(st.sampled_from([0, 3, 20])),
        block_size=draw(st.sampled_from([1, 4, 16])),
        prefix_caching=draw(st.booleans()),
        speculate=draw(st.sampled_from([0, 0, 2])),
        answers=Answers(eos_hazard=draw(st.sampled_from([0.0, 0.2])), acceptance=0.5),
    )
    hardware = evolve(
        MACHINE,
        kv_tokens=draw(st.integers(128, 400)),
        jitter=draw(st.sampled_from([0.0, 0.1])),
        tuning_ns_per_token=draw(st.sampled_from([0.0, 1e5])),
        emit_ns=draw(st.sampled_from([0, 8_000, 5_000_000])),
    )
    return Load(hardware, options, draw(st.lists(arrivals(), max_size=12)))


@st.composite
def arrivals(draw: st.DrawFn) -> Arrival:
    """Draw a request: many come at once, and begin alike."""
    input_tokens = draw(st.integers(1, 64))
    ask = Ask(
        input_tokens=input_tokens,
        max_new_tokens=draw(st.integers(1, 30)),
        prefix=tuple(draw(st.lists(st.integers(0, 1), max_size=input_tokens))),
        seed=draw(st.integers(0, 5)),
        ignore_eos=draw(st.booleans()),
    )
    gap_ns = st.integers(0, 300_000_000)
    cancelled_after_ns = draw(st.none() | st.none() | gap_ns)
    return Arrival(draw(st.just(0) | gap_ns), ask, cancelled_after_ns)


def play(load: Load, *, look_every_ns: int | None = None, ahead: bool = False) -> Record:
    """Play a load to its end, and advance at each event of the scheduler or at fixed instants.

    With `ahead` each pass is prepared as soon as it has begun, before others come and go.
    """
    record = Record(scheduler=Scheduler(load.hardware, load.options, seed=7))
    scheduler, at_ns = record.scheduler, 0
    happenings: list[tuple[int, int, Ask | None]] = []
    for number, arrival in enumerate(load.arrivals):
        at_ns += arrival.after_ns
        happenings.append((at_ns, number, arrival.ask))
        if arrival.cancelled_after_ns is not None:
            happenings.append((at_ns + arrival.cancelled_after_ns, number, None))
    for happens_at_ns, number, ask in sorted(happenings, key=lambda h: (h[0], h[2] is None)):
        _look(record, happens_at_ns, look_every_ns, ahead=ahead)
        if ask is not None:
            record.tickets.append(scheduler.submit(ask, happens_at_ns))
        elif (ticket := record.tickets[number]) is not None:
            scheduler.cancel(ticket, happens_at_ns)
    _look(record, None, look_every_ns, ahead=ahead)
    return record


def _look(record: Record, until_ns: int | None, every_ns: int | None, *, ahead: bool) -> None:
    scheduler = record.scheduler
    while (next_ns := scheduler.next_at_ns()) is not None:
        if ahead:
            scheduler.prepare()
        if until_ns is not None and next_ns >= until_ns:
            return
        # Never past what happens next: the scheduler does not go back.
        to_ns = next_ns + (every_ns or 0)
        for emission in scheduler.advance(to_ns if until_ns is None else min(to_ns, until_ns - 1)):
            record.left.append(
                (emission.ticket.id, emission.at_ns, emission.tokens, emission.finish_reason)
            )
