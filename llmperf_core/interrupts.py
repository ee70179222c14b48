"""Signals that end a process, held off until what it has brought up is gone again.

A handler belongs to the whole process, so what is known here does, too.
"""

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import Any

import anyio
import anyio.lowlevel
from attrs import define, field

_reminders: list[str] = []


@contextmanager
def reminding(words: str) -> Iterator[None]:
    """Have whoever ends us once more told what is still there."""
    _reminders.append(words)
    try:
        yield
    finally:
        _reminders.remove(words)


def tell(words: str) -> None:
    """Write a line to the standard error, also from within a signal handler."""
    # It may have interrupted a write of `sys.stderr`, which cannot be entered again.
    with suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"llmperf: {words}\n".encode())


@contextmanager
def bounded(most: int = 2) -> Iterator[None]:
    """Let the first ending signals through, and none after those: what goes on is taking down.

    A signal that would kill the process where it stands raises `KeyboardInterrupt` first, and kills
    the process after the block. Outside the main thread, where no signal arrives, it changes
    nothing.

    Args:
        most: how many come through.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came, killer = 0, None

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal came, killer
        came += 1
        if came > 1:
            _remind()
        if came > most:
            return
        before = handlers.before[number]
        if not callable(before):
            killer = number
            raise KeyboardInterrupt
        before(number, frame)

    handlers = _Handlers(hear)
    handlers.install()
    try:
        yield
    finally:
        handlers.restore()
        if killer is not None:
            signal.raise_signal(killer)


@asynccontextmanager
async def heeded() -> AsyncIterator[None]:
    """Cancel the block when an ending signal comes, as often as it likes, and then pass that on.

    Only a cancel scope is used: unlike the cancellation of a task, it respects a shield inside.
    Several blocks at once are fine. Outside the main thread it changes nothing.

    Raises:
        KeyboardInterrupt: a signal came, and passing it on did not end us.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    wake = _waker()
    with anyio.CancelScope() as scope:

        def hear(number: int) -> None:
            came.append(number)
            wake(scope.cancel)

        _listeners.add(hear)
        try:
            yield
        finally:
            _listeners.remove(hear)
    if came:
        if not _listeners.listening:
            signal.raise_signal(came[0])
        await anyio.lowlevel.checkpoint()
        raise KeyboardInterrupt


@define
class _Handlers:
    """One handler for all signals that end us, and what was there before."""

    hear: Callable[[int, FrameType | None], None]
    before: dict[int, Any] = field(factory=dict)

    def install(self) -> None:
        for number in _ending():
            self.before[number] = signal.signal(number, self.hear)

    def restore(self) -> None:
        while self.before:
            number, handler = self.before.popitem()
            signal.signal(number, handler)


@define
class _Listeners:
    """The blocks that a signal cancels; while there are some, the handlers are installed."""

    listening: list[Callable[[int], None]] = field(factory=list)
    handlers: _Handlers | None = None
    came: int = 0

    def add(self, hear: Callable[[int], None]) -> None:
        self.listening.append(hear)
        if self.handlers is None:
            self.came = 0
            self.handlers = _Handlers(self._hear)
            self.handlers.install()

    def remove(self, hear: Callable[[int], None]) -> None:
        self.listening.remove(hear)
        if not self.listening and self.handlers is not None:
            self.handlers.restore()
            self.handlers = None

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self.came += 1
        for hear in self.listening:
            hear(number)
        if self.came > 1:
            _remind()


_listeners = _Listeners()


def _ending() -> list[signal.Signals]:
    """Return the signals that end a process, without those that it ignores, as under nohup."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [signal.Signals[name] for name in names if name in signal.Signals.__members__]
    # None: a handler that Python did not install, and could not put back.
    return [n for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)]


def _waker() -> Callable[[Callable[[], None]], object]:
    """Return what calls a function soon on the running event loop, from a signal handler."""
    native: Any = anyio.lowlevel.current_token().native_token
    wake: Callable[[Callable[[], None]], object] = (
        native.run_sync_soon if hasattr(native, "run_sync_soon") else native.call_soon_threadsafe
    )
    return wake


def _remind() -> None:
    for words in [*_reminders] or ["what was brought up is being taken down"]:
        tell(words)
