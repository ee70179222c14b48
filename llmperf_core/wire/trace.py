"""What the wire notes of one request while it happens."""

import anyio
from attrs import Factory, define, evolve, field

from llmperf_core.timeline import Connection

EXTENSION = "llmperf.trace"
"""Under this name a `Trace` travels in the extensions of an `httpx.Request`."""


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
    wake_bytes: int = 1 << 20
    """Whoever waits is woken when more than this is there to be taken."""
    noted: bool = False
    """Whether the wire saw this trace; any other transport leaves it alone."""
    connection: Connection = Factory(Connection)
    sent_at_ns: int | None = None
    ended_at_ns: int | None = None
    """When the last byte of the response arrived."""
    reads: list[tuple[int, int, bytes]] = Factory(list)
    """(arrived, read, bytes) for each piece of the body, in order; pieces of one read share both
    instants."""
    body_bytes: int = 0
    """Bytes that were read for the body, its framing included."""
    read_count: int = 0
    """Reads of the body; one may hold several pieces."""
    user_stamped: int = 0
    """Of those, the ones that the kernel had not stamped."""
    error: Exception | None = None
    ended: bool = False
    _waiting_bytes: int = 0
    _waiter: anyio.Event | None = field(default=None, repr=False)

    def grew(self, size: int) -> None:
        """Note that a read of this many bytes was appended to `reads`, in one piece or more."""
        self.read_count += 1
        self.body_bytes += size
        self._waiting_bytes += size
        if self._waiting_bytes > self.wake_bytes:
            self._wake()

    def take_reads(self) -> list[tuple[int, int, bytes]]:
        """Return the reads so far and forget them."""
        reads = self.reads.copy()
        self.reads.clear()
        self._waiting_bytes = 0
        return reads

    def end(self, at_ns: int, error: Exception | None = None) -> None:
        """Note that the response has ended, whole or not."""
        if not self.ended:
            self.ended, self.ended_at_ns, self.error = True, at_ns, error
            self._wake()

    def reopen(self) -> None:
        """Note that a kept-alive connection was found closed: the request starts over."""
        self.connection = evolve(self.connection, fresh=True, reopened=self.connection.reopened + 1)
        self.sent_at_ns = self.ended_at_ns = self.error = None
        self.ended = False

    async def wait(self) -> None:
        """Return when the response has ended, or enough of it has come to be taken."""
        if self.ended or self._waiting_bytes > self.wake_bytes:
            return
        self._waiter = anyio.Event()
        await self._waiter.wait()

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.set()
            self._waiter = None
