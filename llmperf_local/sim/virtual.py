"""A stage in virtual time: a load asks a scheduler, and timelines come out as from a real stage."""

import heapq
from collections.abc import Iterable, Iterator

import numpy as np
from attrs import define, field, frozen
from attrs.validators import ge, gt

from llmperf_core.load import LoadProfile, OpenLoop
from llmperf_core.timeline import (
    Censored,
    Completed,
    Connection,
    Failed,
    Observation,
    Outcome,
    Timeline,
    TokenCount,
    Window,
)
from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_local.sim.requests import Ask, Emission, Ticket
from llmperf_local.sim.scheduler import Scheduler

OVERLOADED = "Model is overloaded"
"""What TGI says of a request for which it has no permit."""

_NO_WALL_CLOCK = "1970-01-01T00:00:00+00:00"


@frozen(kw_only=True)
class VirtualStage:
    """How long to ask, and what lies between the client and the server.

    Raises:
        ValueError: a length of time is out of its range.
    """

    duration_ns: int = field(default=90 * NS_PER_S, validator=gt(0))
    """The window's length. No request starts after it."""
    warm_up_ns: int = field(default=0, validator=ge(0))
    """Asked for before the window opens."""
    drain_ns: int = field(default=30 * NS_PER_S, validator=ge(0))
    """How long requests in flight may take after the window; then they are censored."""
    overhead_ns: int = field(default=NS_PER_MS, validator=gt(0))
    """Network, gateway and client, of each request: half on the way there, half on the way back."""
    seed: int = 0
    """Decides an open loop's instants."""

    @property
    def window(self) -> Window:
        """The stretch that counts, on the run's clock."""
        return Window(open_at_ns=self.warm_up_ns, close_at_ns=self.warm_up_ns + self.duration_ns)


def run_virtually(
    scheduler: Scheduler, asks: Iterable[Ask], *, load: LoadProfile, stage: VirtualStage
) -> tuple[list[Timeline], Observation]:
    """Return what a client would have measured of a server that works as the scheduler says.

    The load runs out early where there are no more asks.

    Args:
        scheduler: a fresh one; it is used up.
        asks: what is asked, in the order of starting.
        load: how requests start.
        stage: how long, and what lies between.
    """
    run = _Run(scheduler, iter(asks), load, stage)
    run.play()
    timelines = sorted(run.timelines, key=lambda timeline: timeline.index)
    observation = Observation(
        window=stage.window,
        ended_at_ns=max((t.ended_at_ns for t in timelines), default=stage.window.close_at_ns),
        started_at=_NO_WALL_CLOCK,
        client_cpu_ns=0,
        reads=sum(t.token_at_ns.size for t in timelines),
    )
    return timelines, observation


@define(eq=False)
class _Flight:
    """A request under way."""

    index: int
    ask: Ask
    due_at_ns: int | None
    sent_at_ns: int
    ticket: Ticket | None = None
    token_at_ns: list[int] = field(factory=list)


@define(eq=False)
class _Run:
    scheduler: Scheduler
    asks: Iterator[Ask]
    load: LoadProfile
    stage: VirtualStage
    timelines: list[Timeline] = field(factory=list, init=False)
    _started: int = field(default=0, init=False)
    _arriving: list[tuple[int, int, _Flight]] = field(factory=list, init=False)
    """Requests on their way to the server, by the instant they get there; a heap."""
    _running: dict[int, _Flight] = field(factory=dict, init=False)
    """By the id of the ticket."""
    _plan: Iterator[int] = field(init=False)
    """The instants of an open loop that lie ahead."""
    _there_ns: int = field(init=False)
    _back_ns: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._there_ns = self.stage.overhead_ns // 2
        self._back_ns = self.stage.overhead_ns - self._there_ns

    def play(self) -> None:
        """Play the whole stage."""
        self._begin()
        stage, scheduler = self.stage, self.scheduler
        ends_at_ns = stage.window.close_at_ns + stage.drain_ns
        while True:
            arrives_at_ns = self._arriving[0][0] if self._arriving else ends_at_ns + 1
            next_at_ns = scheduler.next_at_ns()
            if next_at_ns is None or arrives_at_ns <= next_at_ns:
                if arrives_at_ns > ends_at_ns:
                    break
                self._arrive(heapq.heappop(self._arriving)[2], arrives_at_ns)
                continue
            if next_at_ns > ends_at_ns:
                break
            # What ends now asks again one overhead later: nothing can arrive before that.
            to_ns = min(next_at_ns + stage.overhead_ns, arrives_at_ns) - 1
            for emission in scheduler.advance(min(max(to_ns, next_at_ns), ends_at_ns)):
                self._receive(emission)
        for flight in [*self._running.values(), *(flight for _, _, flight in self._arriving)]:
            self._end(flight, ends_at_ns, Censored())

    def _begin(self) -> None:
        if isinstance(self.load, OpenLoop):
            self._plan = self.load.instants(np.random.default_rng(self.stage.seed))
            self._start_due()
        else:
            for _ in range(self.load.slots):
                self._start(0)

    def _start_due(self) -> None:
        due_at_ns = next(self._plan, None)
        if due_at_ns is not None:
            self._start(due_at_ns, due_at_ns=due_at_ns)

    def _start(self, at_ns: int, *, due_at_ns: int | None = None) -> None:
        if at_ns >= self.stage.window.close_at_ns:
            return
        ask = next(self.asks, None)
        if ask is None:
            return
        flight = _Flight(self._started, ask, due_at_ns, at_ns)
        self._started += 1
        heapq.heappush(self._arriving, (at_ns + self._there_ns, flight.index, flight))

    def _arrive(self, flight: _Flight, at_ns: int) -> None:
        if flight.due_at_ns is not None:
            self._start_due()
        flight.ticket = self.scheduler.submit(flight.ask, at_ns)
        if flight.ticket is None:
            # As TGI says it in a stream: HTTP 200, and an event that is an error.
            self._end(flight, at_ns + self._back_ns, Failed("in_band_error", OVERLOADED))
        else:
            self._running[flight.ticket.id] = flight

    def _receive(self, emission: Emission) -> None:
        flight = self._running[emission.ticket.id]
        at_ns = emission.at_ns + self._back_ns
        flight.token_at_ns.append(at_ns)
        if emission.tokens > 1:
            for _ in range(emission.tokens - 1):
                at_ns += self.scheduler.hardware.emit_ns
                flight.token_at_ns.append(at_ns)
        if emission.finish_reason is not None:
            del self._running[emission.ticket.id]
            self._end(flight, at_ns, Completed(emission.finish_reason))

    def _end(self, flight: _Flight, at_ns: int, outcome: Outcome) -> None:
        ticket = flight.ticket
        self.timelines.append(
            Timeline(
                index=flight.index,
                due_at_ns=flight.due_at_ns,
                sent_at_ns=flight.sent_at_ns,
                token_at_ns=flight.token_at_ns,
                read_lag_ns=np.zeros(len(flight.token_at_ns), dtype=np.int64),
                ended_at_ns=at_ns,
                outcome=outcome,
                tokens=_tokens(ticket),
                asked_tokens=flight.ask.max_new_tokens,
                connection=Connection(fresh=False),
                server_ns=_server_ns(ticket),
                stamps="kernel",
            )
        )
        if flight.due_at_ns is None:
            self._start(at_ns)


def _tokens(ticket: Ticket | None) -> TokenCount:
    if ticket is None:
        return TokenCount()
    return TokenCount(
        output=ticket.generated, input=ticket.ask.input_tokens, cached=ticket.cached_tokens
    )


def _server_ns(ticket: Ticket | None) -> dict[str, int]:
    """Return the durations that TGI reports of a request; nothing of one that did not finish."""
    if ticket is None or ticket.queue_ns is None or ticket.inference_ns is None:
        return {}
    return {
        "total": ticket.queue_ns + ticket.inference_ns,
        "validation": 0,
        "queue": ticket.queue_ns,
        "inference": ticket.inference_ns,
        "time_per_token": ticket.time_per_token_ns or 0,
    }
