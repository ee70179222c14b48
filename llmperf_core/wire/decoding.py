"""The two shapes that an answer comes in: a stream of events, or one whole body."""

from collections.abc import Callable, Sequence

from llmperf_core.errors import DecodeError
from llmperf_core.target import BulkDecoder, Decoder, Reply
from llmperf_core.wire.json_text import excerpt
from llmperf_core.wire.sse import SseDecoder

# What a line of an event stream may begin with, a comment and a byte order mark among them.
_BEGINNINGS = (b"data", b"event", b"id", b"retry", b":", b"\xef\xbb\xbf")
_HEAD_BYTES = 80


class StreamDecoder:
    """Decodes an event stream; what an event means is for `take` to say.

    Args:
        reply: grows with each event.
        take: takes the data of an event and the instant of its last byte into `reply`. It raises
            DecodeError and nothing else.
    """

    __slots__ = ("_events", "_head", "_silent", "_take", "reply")

    def __init__(self, reply: Reply, take: Callable[[bytes, int], None]) -> None:
        self.reply: Reply = reply
        self._take = take
        self._events = SseDecoder()
        self._silent = True  # no event has come
        self._head = b""

    def feed(self, data: bytes, at_ns: int) -> None:
        """Take the next bytes of the body, which arrived at `at_ns`.

        Raises:
            DecodeError: the bytes break the protocol; the events before are taken.
        """
        if self._silent:
            self._head += data[: _HEAD_BYTES - len(self._head)]
        for event in self._events.feed(data):
            self._silent = False
            self._take(event, at_ns)

    def feed_all(self, pieces: Sequence[bytes], at_ns: Sequence[int]) -> None:
        """Take many pieces, each with its instant: as `feed` one after the other, but quicker.

        Raises:
            DecodeError: the bytes break the protocol; those before are taken.
        """
        # The first piece may begin the stream, and the last often holds the end beside an event.
        middle = slice(1, len(pieces) - 1)
        if pieces:
            self.feed(pieces[0], at_ns[0])
        events = self._events.feed_plain(pieces[middle])
        if events is None:
            for piece, arrived_at_ns in zip(pieces[middle], at_ns[middle], strict=True):
                self.feed(piece, arrived_at_ns)
        else:
            self._silent = False
            for event, arrived_at_ns in zip(events, at_ns[middle], strict=True):
                self._take(event, arrived_at_ns)
        if len(pieces) > 1:
            self.feed(pieces[-1], at_ns[-1])

    def finish(self) -> None:
        """Say that the body has ended. One that was cut short leaves `reply.ended` False.

        Raises:
            DecodeError: what came is no event stream.
        """
        cut = self._events.unfinished
        if cut and not cut.endswith(b"[DONE]"):
            self.reply.ended = False
        head = self._head.lstrip()
        if self._silent and not _may_begin_stream(head):
            raise DecodeError(f"not an event stream: {excerpt(head)}")


class WholeDecoder:
    """Decodes an answer that comes in one piece of JSON, and so has no instants of tokens.

    Args:
        reply: is filled at the end.
        take: takes the body into `reply`. It raises DecodeError and nothing else.
    """

    __slots__ = ("_pieces", "_take", "reply")

    def __init__(self, reply: Reply, take: Callable[[bytes], None]) -> None:
        self.reply: Reply = reply
        self._take = take
        self._pieces: list[bytes] = []

    def feed(self, data: bytes, at_ns: int) -> None:  # noqa: ARG002 -- no token has an instant
        """Keep the next bytes of the body."""
        self._pieces.append(data)

    def finish(self) -> None:
        """Decode the body.

        Raises:
            DecodeError: it is not a whole answer.
        """
        self._take(b"".join(self._pieces))
        self.reply.ended = True


def feed_all(decoder: Decoder, pieces: Sequence[bytes], at_ns: Sequence[int]) -> None:
    """Feed a decoder many pieces, each with its instant, as quickly as it can take them.

    Raises:
        DecodeError: the bytes break the protocol; those before are taken.
    """
    if isinstance(decoder, BulkDecoder):
        decoder.feed_all(pieces, at_ns)
        return
    for piece, arrived_at_ns in zip(pieces, at_ns, strict=True):
        decoder.feed(piece, arrived_at_ns)


def _may_begin_stream(head: bytes) -> bool:
    return any(head.startswith(known) or known.startswith(head) for known in _BEGINNINGS)
