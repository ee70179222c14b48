"""How each fault is played: functions that turn an answer into moves.

Before a fault in mid-stream half of the tokens come, and at least one.
"""

import gzip
import random
import time
from collections.abc import Callable, Iterator
from itertools import accumulate, count
from typing import TypeAlias

from attrs import evolve

from llmperf_core.testing.answer import END, Answer, Data, Move, Moves, chunk, joined, just
from llmperf_core.units import NS_PER_MS

Play: TypeAlias = Callable[[Answer], Moves]

MULTIBYTE = "ö\N{LLAMA}".encode()
"""The text of each token of `split-utf8`: characters of two and of four bytes."""

_PAUSE_NS = 20 * NS_PER_MS
"""Between what is sent and an RST, so that the former is read by itself."""
_BYTE_NS = NS_PER_MS
"""Between two bytes of `slow-loris`."""
_NOISE = random.Random(3).randbytes(64)  # noqa: S311 -- no secret
LINE_OF_NOISE = b"".join(_NOISE.split()).replace(b":", b"") + b"\n"


def some(answer: Answer) -> list[Move]:
    """Return the events up to half of the tokens, and never the last event."""
    *events, _ = evolve(answer, tokens=max(2, answer.tokens)).events()
    tokens = list(accumulate(event.tokens for event in events))
    half = max(1, answer.tokens // 2)
    return [event for event, come in zip(events, tokens, strict=True) if come <= half]


def broken_off(how: Callable[[Answer], Moves], last: Move) -> Play:
    """Return a play that begins in one way and is broken off by the last move."""

    def play(answer: Answer) -> Moves:
        yield from how(answer)
        yield last

    return play


def silence(answer: Answer) -> Moves:  # noqa: ARG001 -- whatever was asked
    """Take the request, and send nothing."""
    yield Move(0)


def part_of_head(answer: Answer) -> Moves:
    """Send half of the head."""
    yield Move(0, just(answer.head()[:40]))


def head(answer: Answer) -> Moves:
    """Send the head alone."""
    return answer.begun([])


def half(answer: Answer) -> Moves:
    """Send the head and half of the tokens."""
    return answer.begun(some(answer))


def half_and(event: bytes) -> Play:
    """Return a play whose body is half of the tokens and then this event."""

    def play(answer: Answer) -> Moves:
        return answer.framed([*some(answer), Move(answer.gap_ns, just(event))])

    return play


RESET = Move(_PAUSE_NS, then="reset")
CLOSE = Move(0, then="close")


def slow_loris(answer: Answer) -> Moves:
    """Send the whole answer, each byte by itself."""

    def bytes_of(data: bytes, last: int, tokens: int = 0) -> Iterator[Move]:
        for index in range(len(data)):
            byte = just(data[index : index + 1])
            yield Move(_BYTE_NS, byte, tokens if index == last else 0)

    for move in answer.begun(answer.events()):
        data = move.data(time.monotonic_ns())
        # A token is whole with the last byte of its event, before the line end of the chunk.
        yield from bytes_of(data, len(data) - 3, move.tokens)
    yield from bytes_of(END, 0)


def half_a_frame(answer: Answer) -> Moves:
    """Send half of the tokens and half a chunk."""
    yield from half(answer)
    event = answer.event(answer.tokens)(time.monotonic_ns())
    frame = chunk(answer.dialect.wrap(event))
    yield Move(answer.gap_ns, just(frame[: len(frame) // 2]))


def half_an_event(answer: Answer) -> Moves:
    """Send a body that ends properly, but within an event."""
    event = answer.event(answer.tokens)(time.monotonic_ns())
    return half_and(event[: len(event) // 2])(answer)


def garbage(answer: Answer) -> Moves:
    """Send what is no HTTP."""
    yield Move(answer.first_ns, just(_NOISE))


def _with_length(
    answer: Answer, announced: Callable[[list[bytes]], int]
) -> tuple[bytes, list[Move]]:
    """Return the head with a content-length, and the events as the body is then to be sent."""
    now_ns = time.monotonic_ns()
    moves = [
        event._replace(data=just(answer.dialect.wrap(event.data(now_ns))))
        for event in answer.events()
    ]
    length = announced([move.data(now_ns) for move in moves])
    return answer.head(b"content-length: %d" % length), moves


def too_long(answer: Answer) -> Moves:
    """Announce a longer body than comes, and close."""
    head, moves = _with_length(answer, lambda body: sum(map(len, body)) + 100)
    yield Move(0, just(head))
    yield from moves
    yield CLOSE


def too_short(answer: Answer) -> Moves:
    """Announce a shorter body than comes: it ends within an event."""
    # What is announced ends within the last event but one: neither that one nor the last counts.
    longer = evolve(answer, tokens=max(2, answer.tokens))
    head, moves = _with_length(longer, lambda body: max(0, sum(map(len, body[:-1])) - 3))
    yield Move(0, just(head))
    for move in moves[:-2]:
        yield move
    for move in moves[-2:]:
        yield move._replace(tokens=0)


def refusal(status: int, body: str, *headers: bytes) -> Play:
    """Return a play that refuses the request, in `json`, `plain` words or `empty`."""
    words = b"the reference server was told to fail"
    reason = {400: b"Bad Request", 429: b"Too Many Requests", 503: b"Service Unavailable"}

    def play(answer: Answer) -> Moves:
        said = {
            "json": answer.dialect.refusal % {b"message": words},
            "plain": words,
            "empty": b"",
        }[body]
        kind = b"application/json" if body == "json" else b"text/plain; charset=utf-8"
        line = b"%d %b" % (status, reason.get(status, b"Refused"))
        yield Move(0, just(_response(line, said, b"content-type: " + kind, *headers)))

    return play


def _response(status: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = (b"HTTP/1.1 " + status, *headers, b"content-length: %d" % len(body), b"")
    return b"\r\n".join((*lines, body))


def redirect(answer: Answer) -> Moves:  # noqa: ARG001 -- whatever was asked
    """Send the client elsewhere."""
    yield Move(0, just(_response(b"307 Temporary Redirect", b"", b"location: /elsewhere")))


def page(answer: Answer) -> Moves:  # noqa: ARG001 -- whatever was asked
    """Send an HTML page as if it were the answer."""
    page = b"<!doctype html><html><head><title>Log in</title></head></html>"
    yield Move(0, just(_response(b"200 OK", page, b"content-type: text/html")))


def compressed(answer: Answer) -> Moves:
    """Send a body in gzip."""
    now_ns = time.monotonic_ns()
    body = gzip.compress(b"".join(event.data(now_ns) for event in answer.events()))
    yield Move(0, just(answer.head(b"content-encoding: gzip", b"content-length: %d" % len(body))))
    yield Move(answer.first_ns, just(body))


def endless_head(answer: Answer) -> Moves:
    """Send headers without end."""
    yield Move(0, just(answer.head()[:-2]))
    for index in count():
        yield Move(NS_PER_MS, just(b"x-%d: %b\r\n" % (index, b"x" * 1000)))


def endless(answer: Answer) -> Moves:
    """Send tokens without end."""
    gap_ns = max(answer.gap_ns, NS_PER_MS)
    return answer.begun(Move(gap_ns, answer.event(index), 1) for index in count(1))


def in_band_error(before: Callable[[Answer], list[Move]]) -> Play:
    """Return a play whose stream has an error in it, after these events."""

    def play(answer: Answer) -> Moves:
        yield from answer.begun(before(answer))
        yield Move(answer.gap_ns, just(answer.error(b"told to fail") + END))

    return play


def without_final_event(answer: Answer) -> Moves:
    """Send everything but the event that ends the answer."""
    if answer.dialect.finish:
        unsaid = evolve(answer.dialect, finish=b"")
        return without_done(evolve(answer, dialect=unsaid, usage=False))
    return answer.framed(some(evolve(answer, tokens=2 * answer.tokens)))


def without_reason(answer: Answer) -> Moves:
    """Send the answer without the event that says why it ended."""
    return whole(evolve(answer, dialect=evolve(answer.dialect, finish=b"")))


def without_done(answer: Answer) -> Moves:
    """Send the answer without `[DONE]`."""
    return whole(evolve(answer, dialect=evolve(answer.dialect, done=b"")))


def no_token(answer: Answer) -> Moves:
    """Send an answer that ends properly, without a token."""
    return answer.framed([Move(0, just(answer.dialect.opening + answer.dialect.done))])


def whole(answer: Answer) -> Moves:
    """Send the answer as it should be."""
    return answer.framed(answer.events())


def with_usage(answer: Answer) -> Moves:
    """Send the answer with the usage."""
    return whole(evolve(answer, usage=True))


def at_once(answer: Answer) -> Moves:
    """Send all tokens in one write."""
    head, *moves = whole(answer)
    yield head
    tokens = sum(move.tokens for move in moves)
    yield Move(answer.first_ns, joined([move.data for move in moves]), tokens)


def rewritten(rewrite: Callable[[bytes], bytes]) -> Play:
    """Return a play with each event written in another way."""

    def anew(data: Data) -> Data:
        return lambda now_ns: rewrite(data(now_ns))

    return lambda answer: answer.framed(
        event._replace(data=anew(event.data)) for event in answer.events()
    )


def split_characters(answer: Answer) -> Moves:
    """Send tokens whose characters are cut between two writes."""

    def events() -> Iterator[Move]:
        for event in answer.events(MULTIBYTE):
            before, found, after = event.data(time.monotonic_ns()).partition(MULTIBYTE)
            # Within the first character, and within the second.
            pieces = (before + found[:1], found[1:4], found[4:] + after) if found else (before,)
            *parts, last = (just(piece) for piece in pieces)
            yield from (event._replace(data=part, tokens=0) for part in parts)
            yield event._replace(data=last)

    return answer.framed(events())
