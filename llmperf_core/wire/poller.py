"""Readiness of many sockets, handed to an event loop as one.

An event loop spends more on each ready socket than the reading costs. Here all sockets of the wire
sit in one epoll, and the loop watches that epoll alone: it wakes once for a batch, and the batch
is drained by a bare loop. A timer of the kernel sits there too, since the timers of event loops
tick in milliseconds.
"""

import asyncio
import ctypes
import heapq
import os
import select
import time
from collections.abc import Callable
from itertools import count

from llmperf_core.units import NS_PER_S
from llmperf_core.wire.stamps import WallOffset

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT

# Source: timerfd_create(2). `os.timerfd_create` needs Python 3.13.
_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class Poller:
    """One epoll for all sockets of a wire, drained whenever the running event loop says so."""

    def __init__(self) -> None:
        self.wall = WallOffset()
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._loop.add_reader(self._epoll.fileno(), self._drain)
        self.alarm = Alarm(self)

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
        """Give the epoll and the timer back."""
        self.alarm.close()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _drain(self) -> None:
        self.wall.sample()
        handlers = self._handlers
        for fd, mask in self._epoll.poll(0):
            # A handler of this batch may have closed a later descriptor of it.
            handler = handlers.get(fd)
            if handler is not None:
                handler(mask)


class Alarm:
    """Wakes tasks at planned instants, tens of microseconds after them and never before."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        poller.watch(self._fd, self._ring)

    async def until(self, at_ns: int) -> None:
        """Return once the monotonic clock has reached `at_ns`."""
        if at_ns <= time.monotonic_ns():
            return
        future = self._loop.create_future()
        heapq.heappush(self._waiting, (at_ns, next(self._order), future))
        if self._waiting[0][2] is future:
            self._set(at_ns)
        await future

    def close(self) -> None:
        """Give the timer back."""
        self._poller.forget(self._fd)
        os.close(self._fd)

    def _set(self, at_ns: int) -> None:
        seconds, nanoseconds = divmod(at_ns, NS_PER_S)
        when = (ctypes.c_long * 4)(0, 0, seconds, nanoseconds)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, when, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def _ring(self, _mask: int) -> None:
        os.read(self._fd, 8)
        now_ns = time.monotonic_ns()
        while self._waiting and (self._waiting[0][0] <= now_ns or self._waiting[0][2].done()):
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
        if self._waiting:
            self._set(self._waiting[0][0])
