"""Signals that end a process wait until what it has brought up is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest

from llmperf_core.interrupts import bounded, heeded, reminding

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.fixture(autouse=True)
def as_in_a_script() -> Iterator[None]:
    """Have the handlers that Python starts with, and put the present ones back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers() -> list[object]:
    """Return what the ending signals do."""
    return [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_two_come_through_and_no_more(capfd: pytest.CaptureFixture[str]) -> None:
    """Who goes on is told what is still there."""
    before = handlers()
    with bounded(), reminding("an endpoint bills 7.09 USD/h"):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    assert handlers() == before
    assert capfd.readouterr().err == "llmperf: an endpoint bills 7.09 USD/h\n" * 2


KILLED = """
import os
from llmperf_core.interrupts import bounded

with bounded():
    try:
        os.kill(os.getpid(), {number})
    except KeyboardInterrupt:
        print("taken down", flush=True)
print("went on", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_kills_does_so_after_the_block(number: signal.Signals) -> None:
    """Whoever sent it sees that it worked, and what was brought up is gone."""
    command = [sys.executable, "-c", KILLED.format(number=int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == -number
    assert ended.stderr == ""
    assert ended.stdout == "taken down\n"


def test_what_is_ignored_stays_ignored() -> None:
    """As SIGHUP under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with bounded():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_block_is_cancelled_and_its_shield_holds(backend: str) -> None:
    """However often the signal comes; then it does what it would have done."""
    before = handlers()
    done = []

    async def main() -> None:
        async with heeded():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                        os.kill(os.getpid(), number)
                        await anyio.lowlevel.checkpoint()
                    done.append("taken down")
        done.append("went on")

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main, backend=backend)

    assert done == ["taken down"]
    assert handlers() == before


def test_a_signal_cancels_all_blocks() -> None:
    """Two targets may be open at once; neither takes the other's signals."""
    done = []

    async def block(*, ends_first: bool) -> None:
        async with heeded():
            try:
                if ends_first:
                    await anyio.lowlevel.checkpoint()
                    return
                await anyio.sleep(0.01)
                os.kill(os.getpid(), signal.SIGTERM)
                await anyio.sleep_forever()
            finally:
                done.append(ends_first)

    async def main() -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: block(ends_first=True))
            tasks.start_soon(lambda: block(ends_first=False))

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        anyio.run(main)

    assert done == [True, False]


def test_an_error_of_the_block_stays_what_it_was() -> None:
    """No signal came."""

    async def main() -> None:
        async with heeded():
            raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        anyio.run(main)


def test_another_thread_hears_no_signals() -> None:
    """So nothing is changed there."""

    async def main() -> None:
        before = handlers()
        async with heeded():
            assert handlers() == before

    async def in_thread() -> None:
        await anyio.to_thread.run_sync(anyio.run, main)

    anyio.run(in_thread)
