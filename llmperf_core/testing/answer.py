"""One answer of the reference server: what leaves when, as moves that a fault may change."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from attrs import frozen

from llmperf_core.testing.dialects import Dialect

Data: TypeAlias = Callable[[int], bytes]
"""Returns what to send, given the present instant, which is stamped on it."""
Then: TypeAlias = Literal["go on", "close", "reset"]
"""What becomes of the connection: it is kept, closed (FIN) or broken off (RST)."""

END = b"0\r\n\r\n"
"""The end of a chunked body."""


def just(data: bytes) -> Data:
    """Return data that hold no stamp."""
    return lambda _: data


class Move(NamedTuple):
    """One write, and what follows it."""

    after_ns: int
    """Since the planned instant of the move before; of the first: since the request came."""
    data: Data = just(b"")
    tokens: int = 0
    """How many tokens this completes for whoever reads by the protocol."""
    then: Then = "go on"


Moves: TypeAlias = Iterator[Move]


@frozen(kw_only=True)
class Answer:
    """What is to be answered, and when."""

    dialect: Dialect
    tokens: int
    """How many the client asked for."""
    first_ns: int
    """From the request to the first token."""
    gap_ns: int
    usage: bool = False
    """Whether the client asked for the usage."""
    timeline: Sequence[tuple[int, bytes | int]] = ()
    """Instead of all that: what to send, bytes or a number of tokens, and how long after the
    request."""

    def head(self, *headers: bytes, status: bytes = b"200 OK") -> bytes:
        """Return the head of a response; its body is chunked unless headers are given."""
        lines = headers or (b"transfer-encoding: chunked",)
        return b"\r\n".join(
            (
                b"HTTP/1.1 " + status,
                b"content-type: " + self.dialect.media_type,
                b"cache-control: no-cache",
                *lines,
                b"\r\n",
            )
        )

    def event(self, index: int, text: bytes = b" tok") -> Data:
        """Return the event of a token that is not the last."""
        template = self.dialect.token

        def data(now_ns: int) -> bytes:
            return template % {b"index": index, b"text": text, b"sent_ns": now_ns}

        return data

    def last_event(self, text: bytes = b" tok") -> Data:
        """Return the event of the last token, and those that end the answer."""
        template, tokens = self.dialect.last + self.ending(), self.tokens

        def data(now_ns: int) -> bytes:
            return template % {
                b"index": tokens,
                b"text": text,
                b"tokens": tokens,
                b"total": tokens + 1,
                b"sent_ns": now_ns,
            }

        return data

    def ending(self) -> bytes:
        """Return the template of the events that come after the last token."""
        dialect = self.dialect
        return dialect.finish + (dialect.usage if self.usage else b"") + dialect.done

    def error(self, message: bytes) -> bytes:
        """Return the chunk of an error in the stream, and what ends the stream after it."""
        dialect = self.dialect
        return chunk(dialect.wrap_error(dialect.error % {b"message": message}) + dialect.done)

    def events(self, text: bytes = b" tok") -> Moves:
        """Yield the events of the answer, each at its time."""
        if self.timeline:
            yield from self._scripted(text)
            return
        if self.dialect.opening:
            yield Move(0, just(self.dialect.opening))
        after_ns = self.first_ns
        for index in range(1, self.tokens):
            yield Move(after_ns, self.event(index, text), 1)
            after_ns = self.gap_ns
        yield Move(after_ns, self.last_event(text), 1)

    def begun(self, events: Iterable[Move]) -> Moves:
        """Yield a response with these events whose body goes on."""
        yield Move(0, just(self.head()))
        for event in events:
            yield Move(event.after_ns, self._chunked(event.data), event.tokens)

    def framed(self, events: Iterable[Move]) -> Moves:
        """Yield a whole response with these events; the last comes with the body's end."""
        moves = self.begun(events)
        held = next(moves)
        for move in moves:
            yield held
            held = move
        data = held.data
        yield held._replace(data=lambda now_ns: data(now_ns) + END)

    def _chunked(self, data: Data) -> Data:
        wrap = self.dialect.wrap
        if wrap is bytes:  # nothing to pack: this is done for every token
            return lambda now_ns: chunk(data(now_ns))
        return lambda now_ns: chunk(wrap(data(now_ns)))

    def _scripted(self, text: bytes) -> Moves:
        """Yield what the timeline says; a token at its end is the last of the answer."""
        before_ns, index, total = 0, 0, len(self.timeline)
        for ordinal, (at_ns, what) in enumerate(self.timeline, start=1):
            if isinstance(what, bytes):
                yield Move(at_ns - before_ns, just(what))
            else:
                events = [self.event(index + k, text) for k in range(1, what + 1)]
                if ordinal == total:
                    events[-1] = self.last_event(text)
                index += what
                yield Move(at_ns - before_ns, joined(events), what)
            before_ns = at_ns


def joined(parts: Sequence[Data]) -> Data:
    """Return the data of all parts, as one."""
    return lambda now_ns: b"".join(part(now_ns) for part in parts)


def chunk(data: bytes) -> bytes:
    """Return the data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
