"""Server-sent events out of bytes that may be cut anywhere."""

from collections.abc import Iterator, Sequence

from llmperf_core.errors import DecodeError

MAX_EVENT_BYTES = 1 << 20
"""Far above any event of a token stream (hundreds of bytes), far below what fills the memory."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseDecoder:
    """Takes the pieces of an event stream and yields the data of each event that they complete.

    Line ends may be LF, CRLF or CR, also mixed. A CR ends its line at once; the LF of a CRLF that
    was cut in two is skipped when it comes. Comments and fields other than `data` are ignored:
    what engines put into `event`, `id` and `retry` says nothing that the data does not say.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

    Args:
        max_event_bytes: the most bytes that the lines of one event may have together.
    """

    __slots__ = ("_at_rest", "_data", "_held", "_max_event_bytes", "_size", "_skip_lf", "_started")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._data: list[bytes] = []
        self._held: list[bytes] = []  # the pieces of a line that has not ended
        self._size = 0  # bytes of the event so far, its open line included
        self._started = False  # a first line has come, which alone may begin with a mark
        self._skip_lf = False  # a CR ended the last piece: an LF that follows belongs to it
        self._at_rest = False  # the next byte begins an event that is not the first

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take the next bytes, and yield the data of the events that they complete, in order.

        Raises:
            DecodeError: an event is larger than allowed; those before it have been yielded.
        """
        if self._skip_lf and piece:
            self._skip_lf = False
            piece = piece.removeprefix(b"\n")
        # `bytes.splitlines` ends a line at LF, CRLF and CR, and nowhere else (`str` does).
        lines = piece.splitlines(keepends=True)
        open_line = lines.pop() if lines and lines[-1][-1:] not in b"\r\n" else b""
        for line in lines:
            event = self._end_line(line.rstrip(b"\r\n"))
            if event is not None:
                yield event
        self._hold(open_line)
        self._skip_lf = self._skip_lf or piece[-1:] == b"\r"
        self._at_rest = self._started and not (self._size or self._skip_lf)

    def feed_plain(self, pieces: Sequence[bytes]) -> list[bytes] | None:
        """Take pieces that are one event of one line each, and return the data of each.

        So come nearly all, as a server writes a token at a time. Looking at all of them together
        costs less than half of feeding them one by one.

        Returns:
            None if they are not so plain: nothing was taken, and they are to be fed.
        """
        joined = b"".join(pieces)
        if (
            self._at_rest
            and joined.startswith(b"data:")
            and joined.count(b"\n\ndata:") == len(pieces) - 1
            # Each ends in two line ends, and there are no others.
            and all([piece[-2:] == b"\n\n" for piece in pieces])  # noqa: C419 -- twice as fast
            and joined.count(b"\n") == 2 * len(pieces)
            and b"\r" not in joined
            and len(joined) <= self._max_event_bytes
        ):
            return [piece[5:-2].removeprefix(b" ") for piece in pieces]
        return None

    @property
    def unfinished(self) -> bytes:
        """What has come of an event that no blank line has ended; empty if there is none.

        Its data, then the line that is still open as it came, comments left out.
        """
        open_line = b"".join(self._held)
        pending = self._data if open_line[:1] == b":" else [*self._data, open_line]
        return b"\n".join(pending).strip()

    def _hold(self, part: bytes) -> None:
        """Keep a part of a line whose end has not come."""
        self._size += len(part)
        if self._size > self._max_event_bytes:
            raise DecodeError(f"an event is larger than {self._max_event_bytes} bytes")
        if part:
            self._held.append(part)

    def _end_line(self, rest: bytes) -> bytes | None:
        """Take the rest of a line; return the event's data if the line was blank and ended one."""
        self._hold(rest)
        line = b"".join(self._held)
        self._held.clear()
        if not self._started:
            self._started = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            event = b"\n".join(self._data) if self._data else None
            self._data.clear()
            self._size = 0
            return event
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        return None
