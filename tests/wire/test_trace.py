"""What is noted of a request, and when whoever owns the notes is woken."""

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.timeline import Connection
from llmperf_core.wire.trace import BodyTooLargeError, Trace

WAKE_BYTES = 100


def read(trace: Trace, *pieces: bytes, at_ns: int = 0) -> None:
    """Note a read as a connection does."""
    for piece in pieces:
        trace.pieces.extend((at_ns, at_ns + 1, piece))
    trace.grew(sum(map(len, pieces)))


async def is_woken(trace: Trace) -> bool:
    """Return whether one who waits need not."""
    with anyio.move_on_after(0) as waiting:
        await trace.wait()
    return not waiting.cancelled_caught


@given(reads=st.lists(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4)))
def test_pieces_are_kept_in_order(reads: list[list[bytes]]) -> None:
    """Bytes come out in the order in which they went in, each with the instants of its read."""
    trace = Trace()
    taken: list[tuple[int, int, bytes]] = []
    for at_ns, pieces in enumerate(reads):
        read(trace, *pieces, at_ns=at_ns)
        if at_ns % 3 == 0:
            taken += zip(*trace.take_pieces(), strict=True)
    taken += zip(*trace.take_pieces(), strict=True)
    assert taken == [(ns, ns + 1, piece) for ns, pieces in enumerate(reads) for piece in pieces]
    assert trace.take_pieces() == ([], [], [])
    assert trace.read_count == len(reads)
    assert trace.body_bytes == sum(len(piece) for _, _, piece in taken)


async def test_woken_by_size() -> None:
    """Who waits is woken by the byte that is more than it wants to let pile up."""
    trace = Trace(wake_bytes=WAKE_BYTES)
    read(trace, b"x" * WAKE_BYTES)
    assert not await is_woken(trace)
    read(trace, b"x")
    assert await is_woken(trace)


async def test_woken_while_waiting() -> None:
    """Who has begun to wait is woken, by size and by the end."""
    trace = Trace(wake_bytes=WAKE_BYTES)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trace.wait)
        await anyio.wait_all_tasks_blocked()
        read(trace, b"x" * (WAKE_BYTES + 1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trace.wait)
        await anyio.wait_all_tasks_blocked()
        trace.end(7)


async def test_taking_counts_anew() -> None:
    """What was taken is not waited for."""
    trace = Trace(wake_bytes=WAKE_BYTES)
    read(trace, b"x" * 3 * WAKE_BYTES)
    trace.take_pieces()
    assert not await is_woken(trace)
    read(trace, b"x" * WAKE_BYTES)
    assert not await is_woken(trace)
    read(trace, b"x")
    assert await is_woken(trace)


async def test_one_who_takes_nothing_is_not_woken_without_end() -> None:
    """Who leaves the bytes where they are is woken once for so many more: no loop can spin."""
    trace = Trace(wake_bytes=WAKE_BYTES)
    read(trace, b"x" * 3 * WAKE_BYTES)
    assert await is_woken(trace)
    assert not await is_woken(trace)
    read(trace, b"x" * (WAKE_BYTES + 1))
    assert await is_woken(trace)
    assert not await is_woken(trace)


async def test_an_end_is_not_waited_for() -> None:
    """Once the response has ended, there is nothing to wait for, however often one asks."""
    trace = Trace()
    trace.end(7)
    assert await is_woken(trace)
    assert await is_woken(trace)


async def test_wait_that_was_cancelled() -> None:
    """Who was cancelled while waiting may wait again."""
    trace = Trace(wake_bytes=WAKE_BYTES)
    assert not await is_woken(trace)
    read(trace, b"x" * (WAKE_BYTES + 1))
    assert await is_woken(trace)


@pytest.mark.parametrize("wake_bytes", [0, WAKE_BYTES, 1 << 20])
def test_body_that_is_too_large(wake_bytes: int) -> None:
    """A body may be as large as its limit, taken or not, and not larger."""
    trace = Trace(max_bytes=1_000, wake_bytes=wake_bytes)
    read(trace, b"x" * 999)
    trace.take_pieces()
    read(trace, b"x")
    with pytest.raises(BodyTooLargeError, match="1,000"):
        read(trace, b"x")


def test_the_first_end_counts() -> None:
    """A response ends once: what happens to its connection later is another matter."""
    trace = Trace()
    trace.end(7)
    trace.end(8, httpx.ReadError("late"))
    assert (trace.ended_at_ns, trace.error) == (7, None)


def used() -> Trace:
    """Return the trace of a request that has been answered."""
    trace = Trace(wake_bytes=WAKE_BYTES)
    trace.begin()
    trace.connection = Connection(connect_ns=5)
    trace.sent_at_ns = 3
    trace.user_stamped = 1
    read(trace, b"x" * (WAKE_BYTES + 1))
    trace.end(9, httpx.ReadError("broken"))
    return trace


async def test_reopened() -> None:
    """A request that starts over has been sent by nobody; that it did is counted."""
    trace = used()
    trace.connection = Connection(fresh=False)
    trace.reopen()
    assert trace == Trace(wake_bytes=WAKE_BYTES, noted=True, connection=Connection(reopened=1))
    trace.reopen()
    assert trace.connection == Connection(reopened=2)


async def test_begun_again() -> None:
    """A request that is made once more, as authentication does, is noted from the start."""
    trace = used()
    trace.begin()
    assert trace == Trace(wake_bytes=WAKE_BYTES, noted=True)
    assert not await is_woken(trace)
