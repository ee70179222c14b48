"""A scheduler in real time: requests go in as they come, tokens go out when they are due."""

import heapq
import time
from collections.abc import Sequence
from itertools import count

from attrs import define, field

from llmperf_core.units import NS_PER_MS, NS_PER_S, NS_PER_US
from llmperf_local.sim.answers import Answer, Clock, Part, Streamed
from llmperf_local.sim.metrics import Metrics
from llmperf_local.sim.record import Logs
from llmperf_local.sim.refusal import OVERLOADED, Refused
from llmperf_local.sim.requests import Emission
from llmperf_local.sim.scheduler import Scheduler
from llmperf_local.sim.validation import Question, Validator
from llmperf_local.sim.voices import Spoken

KEEP_ALIVE_NS = 15 * NS_PER_S
"""Silence after which a stream says that it lives. Source: axum 0.7, `sse.rs`, `KeepAlive`."""
_TURN_NS = NS_PER_MS
"""How long tokens are written before somebody looks at the sockets again."""
_CLOSE_NS = 100 * NS_PER_US
"""A token that is due so soon is waited for: reading a request takes longer."""


@define(kw_only=True, eq=False)
class Engine:
    """What the routes ask, and what the loop drives."""

    scheduler: Scheduler
    validator: Validator
    clock: Clock = time.monotonic_ns
    keep_alive_ns: int = KEEP_ALIVE_NS
    metrics: Metrics = field(init=False)
    logs: Logs = field(factory=Logs, init=False)
    _parts: dict[int, tuple[Part, Answer, int]] = field(factory=dict, init=False)
    """By the id of the ticket: what is under way, and since when."""
    _silences: list[tuple[int, int, Streamed]] = field(factory=list, init=False)
    """Streams by the instant at which they may have to show that they live; a heap."""
    _order: "count[int]" = field(factory=count, init=False)

    @metrics.default
    def _metrics(self) -> Metrics:
        return Metrics(self.scheduler.options.max_total_tokens)

    def begin(
        self, questions: Sequence[Question], answer: Answer, *, route: str, began_at_ns: int
    ) -> None:
        """Ask everything that a request asks, or answer it with the first error."""
        answer.begin()
        try:
            for number, question in enumerate(questions):
                self._admit(question, number, answer, route, began_at_ns)
        except Refused as refused:
            self.cancel(answer)
            self.metrics.failed[refused.error_type] += 1
            answer.fail(refused)
            return
        if isinstance(answer, Streamed):
            self._listen_for_silence(answer)

    def cancel(self, answer: Answer) -> None:
        """Give up what is under way for an answer."""
        now_ns = self.clock()
        for part in answer.parts:
            if self._parts.pop(part.ticket.id, None) is not None:
                self.scheduler.cancel(part.ticket, now_ns)
                part.log.finish_reason = part.ticket.finish_reason

    def drop(self, answer: Answer) -> None:
        """Give an answer up whose client has gone."""
        self.metrics.failed["dropped"] += 1
        self.cancel(answer)

    @property
    def next_at_ns(self) -> int | None:
        """When there is something to write; None if nothing is under way."""
        due_at_ns = self.scheduler.next_at_ns()
        silent_at_ns = self._silences[0][0] if self._silences else None
        if due_at_ns is None or silent_at_ns is None:
            return silent_at_ns if due_at_ns is None else due_at_ns
        return min(due_at_ns, silent_at_ns)

    def prepare(self) -> None:
        """Do now what need not wait until the next token is due."""
        self.scheduler.prepare()

    def play(self) -> None:
        """Write what is due, or as much of it as a turn allows."""
        scheduler, clock = self.scheduler, self.clock
        now_ns = clock()
        until_ns = now_ns + _TURN_NS
        while (due_at_ns := scheduler.next_at_ns()) is not None and now_ns < until_ns:
            if due_at_ns > now_ns + _CLOSE_NS:
                break
            for emission in scheduler.advance(now_ns):
                self._emit(emission)
            now_ns = clock()
        while self._silences and self._silences[0][0] <= now_ns:
            self._break_silence(now_ns)

    def _admit(
        self, question: Question, number: int, answer: Answer, route: str, began_at_ns: int
    ) -> None:
        scheduler = self.scheduler
        # The permit comes before everything else, so a full server does not even validate.
        if scheduler.gauges.in_flight >= scheduler.options.max_concurrent_requests:
            raise Refused(OVERLOADED, "overloaded")
        ready = self.validator.check(question, ordinal=self.logs.opened)
        self.metrics.input_length.note(ready.ask.input_tokens)
        try:
            ticket = scheduler.submit(ready.ask, self.clock())
        except ValueError as error:
            raise Refused(str(error)) from error
        if ticket is None:
            raise Refused(OVERLOADED, "overloaded")
        log = self.logs.open(question.inputs, route)
        part = Part(Spoken(ready, number), ticket, log)
        answer.parts.append(part)
        self._parts[ticket.id] = part, answer, began_at_ns

    def _emit(self, emission: Emission) -> None:
        ticket = emission.ticket
        under_way = self._parts.get(ticket.id)
        if under_way is None:
            return  # its client went while the tokens before it were written
        part, answer, began_at_ns = under_way
        at_ns = emission.at_ns
        if emission.finish_reason is not None:
            del self._parts[ticket.id]
        for left in range(emission.tokens - 1, -1, -1):
            part.reach(at_ns, None if left else emission.finish_reason)
            answer.token(part)
            at_ns += self.scheduler.hardware.emit_ns
        if emission.finish_reason is not None:
            self.metrics.succeed(ticket, began_at_ns=began_at_ns, ended_at_ns=self.clock())

    def _listen_for_silence(self, answer: Streamed) -> None:
        entry = (answer.last_at_ns + self.keep_alive_ns, next(self._order), answer)
        heapq.heappush(self._silences, entry)

    def _break_silence(self, now_ns: int) -> None:
        _, _, answer = heapq.heappop(self._silences)
        if all(part.ticket.id not in self._parts for part in answer.parts):
            return
        if now_ns - answer.last_at_ns >= self.keep_alive_ns:
            answer.keep_alive(now_ns)
        self._listen_for_silence(answer)
