"""What the wire notes of one request while it happens."""

from typing import cast

import anyio
import httpx
from attrs import Factory, define, evolve, field

from llmperf_core.timeline import Connection

EXTENSION = "llmperf.trace"
"""Under this name a `Trace` travels in the extensions of an `httpx.Request`."""


class BodyTooLargeError(httpx.RemoteProtocolError):
    """The body outgrew what one response may hold in memory."""


@define(kw_only=True)
class Trace:
    """What the wire notes of one request. Instants are on the monotonic clock, in nanoseconds.

    The wire appends and never interprets; whoever owns the trace waits on it, takes the reads away
    and decodes them.
    """

    not_before_ns: int | None = None
    """Do not send before this instant. The connection is made ready ahead of it."""
    max_bytes: int = 1 << 26
    """A body that is larger is given up."""
    wake_bytes: int = 1 << 16
    """Whoever waits is woken when more than this has come since it was last: some hundred tokens,
    whose decoding takes less than a millisecond."""
    noted: bool = False
    """Whether the wire saw this trace; any other transport leaves it alone."""
    connection: Connection = Factory(Connection)
    sent_at_ns: int | None = None
    ended_at_ns: int | None = None
    """When the last byte of the response arrived."""
    pieces: list[int | bytes] = Factory(list)
    """Arrived, read and bytes of the first piece of the body, then those of the next, and so on;
    pieces of one read share both instants. Flat, as a tuple for each would keep the garbage
    collector busy."""
    body_bytes: int = 0
    """Bytes that were read for the body, its framing included."""
    read_count: int = 0
    """Reads of the body; one may hold several pieces."""
    user_stamped: int = 0
    """Reads, of the head or of the body, that the kernel had not stamped."""
    error: Exception | None = None
    ended: bool = False
    _attend_bytes: int = field(init=False)
    _waiter: anyio.Event | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self._attend()

    def begin(self) -> None:
        """Note that the wire has the request; what came of an earlier attempt is forgotten.

        Authentication may ask twice, and so does a redirection.
        """
        if self.noted:
            self.connection = Connection()
            self._forget()
        self.noted = True

    def grew(self, size: int) -> None:
        """Note that the pieces of a read of this many bytes were appended.

        Raises:
            BodyTooLargeError: the body has outgrown `max_bytes`.
        """
        self.read_count += 1
        self.body_bytes += size
        if self.body_bytes > self._attend_bytes:
            if self.body_bytes > self.max_bytes:
                raise BodyTooLargeError(f"more than {self.max_bytes:,} bytes of body")
            self._wake()

    def take_pieces(self) -> tuple[list[int], list[int], list[bytes]]:
        """Return when each piece so far arrived, when it was read, and its bytes; forget them."""
        taken = self.pieces.copy()
        self.pieces.clear()
        self._attend()
        # The flat list is the one place where the types of the three are not told apart.
        return cast(
            "tuple[list[int], list[int], list[bytes]]", (taken[::3], taken[1::3], taken[2::3])
        )

    def end(self, at_ns: int, error: Exception | None = None) -> None:
        """Note that the response has ended, whole or not."""
        if not self.ended:
            self.ended, self.ended_at_ns, self.error = True, at_ns, error
            self._wake()

    def reopen(self) -> None:
        """Note that a kept-alive connection was found closed: the request starts over."""
        self.connection = evolve(self.connection, fresh=True, reopened=self.connection.reopened + 1)
        self._forget()

    async def wait(self) -> None:
        """Return when the response has ended, or enough of it has come to be taken."""
        if not self.ended and self.body_bytes <= self._attend_bytes:
            self._waiter = anyio.Event()
            await self._waiter.wait()
        self._attend()  # also of one who takes nothing, or it would be woken without end

    def _attend(self) -> None:
        self._attend_bytes = min(self.max_bytes, self.body_bytes + self.wake_bytes)

    def _forget(self) -> None:
        self.sent_at_ns = self.ended_at_ns = self.error = None
        self.ended = False
        self.pieces.clear()
        self.body_bytes = self.read_count = self.user_stamped = 0
        self._attend()

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.set()
            self._waiter = None
