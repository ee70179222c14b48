"""Kernel receive stamps: when TCP data arrived, whenever the program came to read it.

The kernel stamps received data with the wall clock (`SO_TIMESTAMPNS`). The run's clock is the
monotonic one, so the offset between the two is sampled again with every batch of reads: a slewed
clock is followed, and a stepped one is noticed.

Source: Linux Documentation/networking/timestamping.rst; TCP hands out the stamp of the newest
segment that a `recvmsg` consumed.
"""

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from llmperf_core.units import NS_PER_S

Clock: TypeAlias = Callable[[], int]
"""Returns the instant in nanoseconds on a monotonic clock."""

# Linux's number; the socket module has no name for it. Source: asm-generic/socket.h.
SO_TIMESTAMPNS = 35
ANCILLARY_BYTES = socket.CMSG_SPACE(16) if hasattr(socket, "CMSG_SPACE") else 0
_TIMESPEC = struct.Struct("@qq")
# Slewing moves the offset far less than this between two samples of a loaded run: by 500 ppm at
# most, and on Linux, which slews both clocks alike, not at all. A step that matters is far above.
_STEP_NS = 500_000
# A worker thread of the kernel switches the stamps on: at once, but on a machine that is so busy
# that the worker has to wait for a processor. A kernel that has none is not waited for any longer.
_PATIENCE_NS = 2 * NS_PER_S
_LOOK_AGAIN_S = 0.0005


def stamp_receives(sock: socket.socket) -> None:
    """Ask the kernel to stamp what this socket receives."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def wall_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Return the kernel's stamp in nanoseconds of wall-clock time.

    Args:
        ancillary: what `recvmsg` gave, not empty: stamps are the only thing that is asked for.
    """
    seconds: int
    nanoseconds: int
    seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
    return seconds * NS_PER_S + nanoseconds


class WallOffset:
    """Wall clock − monotonic clock, followed while a run goes on."""

    __slots__ = ("_monotonic_ns", "_quickest_ns", "_took_ns", "_wall_ns", "offset_ns", "steps")

    def __init__(
        self, monotonic_ns: Clock = time.monotonic_ns, wall_ns: Clock = time.time_ns
    ) -> None:
        self._monotonic_ns, self._wall_ns = monotonic_ns, wall_ns
        self._quickest_ns = self._took_ns = 1 << 62
        self.offset_ns: int = 0
        """What to take from a wall-clock stamp to have it on the monotonic clock."""
        self.steps: int = 0
        """How often the wall clock jumped."""
        self.sample()

    def sample(self) -> int:
        """Read both clocks, and return the instant on the monotonic one."""
        before = self._monotonic_ns()
        wall = self._wall_ns()
        after = self._monotonic_ns()
        took = after - before
        self._quickest_ns = min(self._quickest_ns, took)
        # A preemption between the readings would shift the offset by as long as it lasted, so a
        # slow sample is used only if it shows a jump that the preemption cannot explain.
        offset = wall - (before + after) // 2
        change = abs(offset - self.offset_ns)
        if took <= 4 * self._quickest_ns or change > _STEP_NS + took:
            # Nor is it a step if the sample in use so far was itself as wrong as that.
            self.steps += change > _STEP_NS + self._took_ns
            self.offset_ns, self._took_ns = offset, took
        return after


@contextmanager
def stamping() -> Iterator[bool]:
    """Keep the kernel stamping for the length of the block; yield whether it does.

    The kernel stamps nothing while no socket asks for it, and starts a moment after the first one
    does: a wire that opened then would have its first reads unstamped.
    """
    with ExitStack() as sockets:
        stamped = False
        if sys.platform == "linux":
            try:
                server = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
                client = sockets.enter_context(socket.create_connection(server.getsockname()))
                stamp_receives(client)
                accepted = sockets.enter_context(server.accept()[0])
                stamped = _are_stamped_soon(accepted, client)
            except OSError:
                stamped = False
        yield stamped


def _are_stamped_soon(sender: socket.socket, receiver: socket.socket) -> bool:
    deadline_ns = time.monotonic_ns() + _PATIENCE_NS
    while not _is_stamped(sender, receiver):
        if time.monotonic_ns() > deadline_ns:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def _is_stamped(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.send(b"x")
    _, ancillary, _, _ = receiver.recvmsg(1, ANCILLARY_BYTES)
    return bool(ancillary) and wall_ns(ancillary) > 0
