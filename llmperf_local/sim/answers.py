"""Answers under way: as a stream, or whole at the end."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from attrs import define, field

from llmperf_core.target import Json
from llmperf_core.testing.connection import LAST_CHUNK, Connection, chunk
from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_local.sim.bodies import ErrorBody
from llmperf_local.sim.record import Log
from llmperf_local.sim.refusal import Refused
from llmperf_local.sim.requests import FinishReason, Ticket
from llmperf_local.sim.voices import Spoken, Voice

COMPUTE_TYPE = "simulated"
Clock = Callable[[], int]


@define(eq=False)
class Part:
    """One prompt of a request, from its admission to its last token."""

    spoken: Spoken
    ticket: Ticket
    log: Log

    def reach(self, at_ns: int, reason: FinishReason | None) -> None:
        """Go on by a token, planned for an instant; a reason makes it the last."""
        spoken = self.spoken
        spoken.tokens += 1
        self.log.planned_at_ns.append(at_ns)
        if reason is not None:
            by_stop = reason == "length" and spoken.ready.ends_with_stop
            spoken.reason = self.log.finish_reason = "stop_sequence" if by_stop else reason


class Answer(Protocol):
    """What the tokens of a request go to."""

    parts: list[Part]

    def begin(self) -> None:
        """Get ready, before anything is admitted."""
        ...

    def token(self, part: Part) -> None:
        """Take the token that the part has just reached."""
        ...

    def fail(self, refused: Refused) -> None:
        """End with an error."""
        ...


@define(kw_only=True, eq=False)
class Streamed:
    """An event for each token, inside HTTP 200 whatever happens."""

    connection: Connection
    voice: Voice
    field_name: bytes
    characters: int
    clock: Clock
    note_lateness: Callable[[int], None]
    parts: list[Part] = field(factory=list, init=False)
    last_at_ns: int = field(default=0, init=False)
    """When something was last sent."""
    _behind: list[deque[tuple[Part, bytes]]] = field(factory=list, init=False)
    """Of several prompts, for each, events that wait for their turn."""
    _turn: int = field(default=0, init=False)
    _open: int = field(default=0, init=False)

    def begin(self) -> None:
        """Send the head, as TGI does before it even looks at the request."""
        self.last_at_ns = self.clock()
        self.connection.begin_stream(
            {
                "content-type": "text/event-stream",
                "cache-control": "no-cache",
                "x-compute-type": COMPUTE_TYPE,
                "x-compute-characters": self.characters,
                "x-accel-buffering": "no",
            }
        )

    def token(self, part: Part) -> None:
        """Send its event, or let it wait for those of the prompts before it."""
        spoken = part.spoken
        voice = self.voice
        event = voice.event(spoken) if spoken.reason is None else voice.last_event(spoken)
        data = b"%x\r\n%b%b\n\n\r\n" % (
            len(event) + len(self.field_name) + 2,
            self.field_name,
            event,
        )
        if len(self.parts) == 1:
            self._send(part, data)
            if spoken.reason is not None:
                self._end(self.voice.closing(spoken))
        else:
            self._take_turns(part, data)

    def fail(self, refused: Refused) -> None:
        """Send the error as an event, and end."""
        self._end(self.voice.error(refused))

    def keep_alive(self, now_ns: int) -> None:
        """Send a comment, as nothing else was sent for long."""
        self.last_at_ns = now_ns
        self.connection.write(chunk(b":\n\n"))

    def _send(self, part: Part, data: bytes) -> None:
        log = part.log
        self.last_at_ns = now_ns = self.clock()
        self.connection.write(data)
        log.sent_at_ns.append(now_ns)
        self.note_lateness(now_ns - log.planned_at_ns[len(log.sent_at_ns) - 1])

    def _end(self, events: Sequence[bytes]) -> None:
        chunks = [chunk(b"%b%b\n\n" % (self.field_name, event)) for event in events]
        self.connection.write(b"".join([*chunks, LAST_CHUNK]))
        self.connection.end()

    def _take_turns(self, part: Part, data: bytes) -> None:
        """Send an event of each prompt in turn: TGI waits for the slowest."""
        if not self._behind:
            self._behind = [deque[tuple[Part, bytes]]() for _ in self.parts]
            self._open = len(self.parts)
        self._behind[part.spoken.number].append((part, data))
        while self._open and (waiting := self._behind[self._turn]):
            sent, data = waiting.popleft()
            self._send(sent, data)
            if sent.spoken.reason is not None and not waiting:
                self._open -= 1
            self._turn = self._after(self._turn)
        if not self._open:
            self._end(self.voice.closing(part.spoken))

    def _after(self, turn: int) -> int:
        """Return whose turn is next: of those that have more to say."""
        for step in range(1, len(self.parts) + 1):
            number = (turn + step) % len(self.parts)
            if self._behind[number] or self.parts[number].spoken.reason is None:
                return number
        return turn


@define(kw_only=True, eq=False)
class Whole:
    """One body when all tokens are there, with TGI's own timings in its headers."""

    connection: Connection
    voice: Voice
    characters: int
    began_at_ns: int
    clock: Clock
    note_lateness: Callable[[int], None]
    counted: bool
    """Say how many tokens there are in headers, too (1.4.0 and later)."""
    with_compute_time: bool = True
    """`/v1/completions` leaves it out."""
    parts: list[Part] = field(factory=list, init=False)
    _ended: list[Part] = field(factory=list, init=False)

    def begin(self) -> None:
        """Do nothing."""

    def token(self, part: Part) -> None:
        """Write the answer if this was the last token of the last prompt."""
        if part.spoken.reason is None:
            return
        self._ended.append(part)
        if len(self._ended) < len(self.parts):
            return
        body = self.voice.whole([ended.spoken for ended in self._ended])
        now_ns = self.clock()
        self.connection.answer(200, self._headers(now_ns), body)
        for ended in self._ended:
            ended.log.sent_at_ns.append(now_ns)
        self.note_lateness(now_ns - part.log.planned_at_ns[-1])

    def fail(self, refused: Refused) -> None:
        """Answer with the error."""
        refuse(self.connection, refused)

    def _headers(self, now_ns: int) -> dict[str, Json]:
        durations = [self._durations_ns(part.ticket, now_ns) for part in self._ended]
        sums = [sum(column) for column in zip(*durations, strict=True)]
        headers: dict[str, Json] = {
            "content-type": "application/json",
            "x-compute-type": COMPUTE_TYPE,
        }
        if self.with_compute_time:
            headers["x-compute-time"] = f"{sums[0] / NS_PER_S:.9f}"
        headers["x-compute-characters"] = self.characters
        names = ("total", "validation", "queue", "inference")
        for name, duration_ns in zip(names, sums, strict=False):
            headers[f"x-{name}-time"] = duration_ns // NS_PER_MS
        headers["x-time-per-token"] = sums[-1] // NS_PER_MS
        if self.counted:
            asks = [part.ticket.ask for part in self._ended]
            headers["x-prompt-tokens"] = sum(ask.input_tokens for ask in asks)
            headers["x-generated-tokens"] = sum(part.spoken.tokens for part in self._ended)
        return headers

    def _durations_ns(self, ticket: Ticket, now_ns: int) -> tuple[int, ...]:
        """Return total, validation, queue and inference time, and the time per token.

        Source: text-generation-inference, `router/src/server.rs`: `start_time`, `queued`, `start`.
        """
        started_at_ns = ticket.started_at_ns or now_ns
        inference_ns = now_ns - started_at_ns
        return (
            now_ns - self.began_at_ns,
            ticket.queued_at_ns - self.began_at_ns,
            started_at_ns - ticket.queued_at_ns,
            inference_ns,
            inference_ns // max(1, ticket.generated),
        )


def refuse(connection: Connection, refused: Refused) -> None:
    """Answer with an error, before or without a stream."""
    body = msgspec.json.encode(ErrorBody(refused.message, refused.error_type))
    connection.answer(refused.status, {"content-type": "application/json"}, body)
