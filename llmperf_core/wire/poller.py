"""Readiness of many sockets, handed to an event loop as one.

An event loop spends more on each ready socket than the reading costs. Here all sockets of the wire
sit in one epoll, and the loop watches that epoll alone: it wakes once for a batch, and the batch
is drained by a bare loop.

Waking up costs more than reading. As the kernel stamps what arrives, it is no matter when it is
read, so under many streams the poller drains at a steady pace and not at every event. It does so
only while a pause is short against the gaps between the reads of a stream: two segments that meet
in a socket are merged, and only the stamp of the later one survives.
"""

import asyncio
import ctypes
import errno
import heapq
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_core.wire.stamps import WallOffset

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT

PAUSE_NS = 2 * NS_PER_MS
"""Between two drains, while there is much to read."""
CLOSE_NS = 8 * PAUSE_NS
"""Reads of a connection that are nearer to each other than this speak against pauses."""
_CLOSE_SHARE = 0.1
"""More such reads than this, of all, end the pauses. The end of each answer brings a few."""
_BUSY_READS_PER_S = 2_000
_REVIEW_NS = 50 * NS_PER_MS


class Poller:
    """One epoll for all sockets of a wire, drained by the running event loop."""

    def __init__(self) -> None:
        self.wall: WallOffset = WallOffset()
        self.alarm: Alarm = Alarm()
        self.close_reads: int = 0
        """Counted by the connections: reads within `CLOSE_NS` of the one before, or of several
        pieces."""
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._pace = Timer()
        self._pausing = False
        self._reads = 0
        self._review_at_ns = 0
        self._loop.add_reader(self._epoll.fileno(), self._drain)

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with the event mask whenever `fd` can be read, or is broken."""
        self._handlers[fd] = handler
        self._epoll.register(fd, READABLE)

    def change(self, fd: int, mask: int) -> None:
        """Set what is watched for: `READABLE`, or `READABLE | WRITABLE`."""
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """Stop watching. Must be called before the descriptor is closed."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def close(self) -> None:
        """Give the epoll and the timers back."""
        self._loop.remove_reader(self._pace.fd if self._pausing else self._epoll.fileno())
        self._epoll.close()
        self._pace.close()
        self.alarm.close()

    def _drain(self) -> None:
        now_ns = self.wall.sample()
        handlers = self._handlers
        ready = self._epoll.poll(0)
        for fd, mask in ready:
            # A handler of this batch may have closed a later descriptor of it.
            handler = handlers.get(fd)
            if handler is not None:
                handler(mask)
        self._reads += len(ready)
        if now_ns >= self._review_at_ns:
            self._review(now_ns)

    def _drain_at_pace(self) -> None:
        self._pace.acknowledge()
        self._drain()

    def _review(self, now_ns: int) -> None:
        """Decide whether to pause between drains until the next review."""
        busy = self._reads * NS_PER_S >= _BUSY_READS_PER_S * _REVIEW_NS
        pause = busy and self.close_reads <= _CLOSE_SHARE * self._reads
        if pause and not self._pausing:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop.add_reader(self._pace.fd, self._drain_at_pace)
            self._pace.start(now_ns + PAUSE_NS, every_ns=PAUSE_NS)
        elif self._pausing and not pause:
            self._pace.stop()
            self._loop.remove_reader(self._pace.fd)
            self._loop.add_reader(self._epoll.fileno(), self._drain)
        self._pausing = pause
        self._reads = self.close_reads = 0
        self._review_at_ns = now_ns + _REVIEW_NS


class Alarm:
    """Wakes tasks at planned instants, tens of microseconds after them and never before."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._timer = Timer()
        self._loop.add_reader(self._timer.fd, self._ring)

    async def until(self, at_ns: int) -> None:
        """Return once the monotonic clock has reached `at_ns`.

        Raises:
            ConnectionAbortedError: the wire was closed before that.
        """
        if at_ns <= time.monotonic_ns():
            return
        if not self._waiting or at_ns < self._waiting[0][0]:
            self._timer.start(at_ns)
        waiter = (at_ns, next(self._order), self._loop.create_future())
        heapq.heappush(self._waiting, waiter)
        try:
            await waiter[2]
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)
            raise

    def close(self) -> None:
        """Give the timer back. Whoever still waits has waited in vain."""
        for _, _, future in self._waiting:
            if not future.done():
                error = ConnectionAbortedError(errno.ECONNABORTED, "the wire was closed")
                future.set_exception(error)
        self._waiting.clear()
        self._loop.remove_reader(self._timer.fd)
        self._timer.close()

    def _ring(self) -> None:
        self._timer.acknowledge()
        now_ns = time.monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now_ns:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():  # its task may have been cancelled just now
                future.set_result(None)
        if self._waiting:
            self._timer.start(self._waiting[0][0])


class Timer:
    """A timer of the kernel that can be watched like a socket; those of event loops tick in ms.

    Source: timerfd_create(2). `os.timerfd_create` needs Python 3.13.
    """

    _TFD_TIMER_ABSTIME = 1

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        """Readable from when the timer has gone off until that is acknowledged."""
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def start(self, at_ns: int, *, every_ns: int = 0) -> None:
        """Go off at an instant of the monotonic clock, and then every so often if that is said."""
        self._set(at_ns, every_ns)

    def stop(self) -> None:
        """Do not go off any more."""
        self._set(0, 0)

    def acknowledge(self) -> None:
        """Say that it was seen to have gone off."""
        # It may have been stopped, or started anew, between going off and now.
        with suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def _set(self, at_ns: int, every_ns: int) -> None:
        when = (ctypes.c_long * 4)(*divmod(every_ns, NS_PER_S), *divmod(at_ns, NS_PER_S))
        if self._libc.timerfd_settime(self.fd, self._TFD_TIMER_ABSTIME, when, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")
