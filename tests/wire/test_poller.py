"""One epoll for all sockets, and the kernel's timer in it: on asyncio's event loop and uvloop's."""

import asyncio
import ctypes
import errno
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import pytest
from attrs import Factory, define

from llmperf_core.units import NS_PER_MS, NS_PER_S, NS_PER_US
from llmperf_core.wire.poller import READABLE, WRITABLE, Alarm, Poller
from tests.wire.scripted_server import BACKENDS, LIMIT_S, no_descriptor_left


@pytest.fixture(scope="module", params=BACKENDS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each test on both event loops."""
    return request.param


@pytest.fixture(autouse=True)
def _no_descriptor_left() -> Iterator[None]:
    with no_descriptor_left():
        yield


@asynccontextmanager
async def polling() -> AsyncIterator[Poller]:
    """Open a poller for the length of the block."""
    poller = Poller()
    try:
        yield poller
    finally:
        poller.close()


@define
class Watched:
    """A socket of a pair whose readiness is noted."""

    poller: Poller
    near: socket.socket
    far: socket.socket
    masks: list[int] = Factory(list)
    called: anyio.Event = Factory(anyio.Event)

    def on_ready(self, mask: int) -> None:
        """Note the event, and take what can be read."""
        self.masks.append(mask)
        if mask & READABLE:
            self.near.recv(1 << 16)
        self.called.set()
        self.called = anyio.Event()

    def close(self) -> None:
        """Forget the socket and close it."""
        self.poller.forget(self.near.fileno())
        self.near.close()


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Yield three connected pairs of sockets."""
    made = [socket.socketpair() for _ in range(3)]
    for near, _ in made:
        near.setblocking(False)  # noqa: FBT003 -- the socket module's own
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


Pairs = list[tuple[socket.socket, socket.socket]]


async def test_readable(pairs: Pairs) -> None:
    """A handler is called when its socket can be read, and not when another can."""
    async with polling() as poller:
        watched = [Watched(poller, *pair) for pair in pairs]
        for one in watched:
            poller.watch(one.near.fileno(), one.on_ready)
        called = watched[1].called
        watched[1].far.send(b"x")
        await called.wait()
        assert [one.masks for one in watched] == [[], [READABLE], []]
        for one in watched:
            one.close()


async def test_writable(pairs: Pairs) -> None:
    """A socket is watched for room to write only while that was asked for."""
    async with polling() as poller:
        one = Watched(poller, *pairs[0])
        fd = one.near.fileno()
        poller.watch(fd, one.on_ready)
        called = one.called
        poller.change(fd, READABLE | WRITABLE)
        await called.wait()
        poller.change(fd, READABLE)
        one.masks.clear()
        called = one.called
        one.far.send(b"x")
        await called.wait()
        assert one.masks == [READABLE]
        one.close()


async def test_forgotten(pairs: Pairs) -> None:
    """A socket that is forgotten calls nobody."""
    async with polling() as poller:
        one, other = (Watched(poller, *pair) for pair in pairs[:2])
        poller.watch(one.near.fileno(), one.on_ready)
        poller.watch(other.near.fileno(), other.on_ready)
        poller.forget(one.near.fileno())
        called = other.called
        one.far.send(b"x")
        other.far.send(b"x")
        await called.wait()
        assert one.masks == []
        other.close()


async def test_a_handler_closes_the_others_of_its_batch(pairs: Pairs) -> None:
    """A descriptor that was closed by a handler of the same batch is left alone."""
    async with polling() as poller:
        watched = [Watched(poller, *pair) for pair in pairs]
        called: list[Watched] = []

        def close_the_others(one: Watched, _mask: int) -> None:
            called.append(one)
            one.near.recv(1)
            for other in watched:
                if other is not one:
                    other.close()

        for one in watched:
            poller.watch(one.near.fileno(), partial(close_the_others, one))
        for one in watched:
            one.far.send(b"x")
        while not called:
            await anyio.lowlevel.checkpoint()
        assert len(called) == 1
        called[0].close()


async def test_each_batch_samples_the_clocks(pairs: Pairs) -> None:
    """Before a batch of reads, the offset of the clocks that turns their stamps is sampled."""
    async with polling() as poller:
        one = Watched(poller, *pairs[0])
        poller.watch(one.near.fileno(), one.on_ready)
        poller.wall._wall_ns = lambda: time.time_ns() + 60 * NS_PER_S
        called = one.called
        one.far.send(b"x")
        await called.wait()
        assert poller.wall.steps == 1
        one.close()


@define
class Busy:
    """A poller whose sockets are read as often as a test says, on a clock of the test's own."""

    poller: Poller
    watched: list[Watched]
    now_ns: int = NS_PER_S
    close: bool = False
    """Whether the reads of a connection are near to each other."""

    def sample(self) -> int:
        """Stand in for the sampling of the clocks."""
        return self.now_ns

    def on_ready(self, one: Watched, mask: int) -> None:
        """Take what came, and count as a connection does."""
        self.poller.close_reads += self.close
        one.on_ready(mask)

    def read(self, rounds: int) -> None:
        """Have each socket read so often within 100 ms."""
        for _ in range(rounds):
            for one in self.watched:
                one.far.send(b"x")
            self.poller._drain()
        self.now_ns += 100 * NS_PER_MS
        self.poller._drain()


@asynccontextmanager
async def busy(pairs: Pairs) -> AsyncIterator[Busy]:
    """Watch three sockets, none of which has been read."""
    async with polling() as poller:
        made = Busy(poller, [Watched(poller, *pair) for pair in pairs])
        poller.wall = made  # type: ignore[assignment]  # it is asked for samples only
        for one in made.watched:
            poller.watch(one.near.fileno(), partial(made.on_ready, one))
        poller._drain()
        yield made
        for one in made.watched:
            one.close()


async def arrive(one: Watched) -> None:
    """Return when what is sent now has been read."""
    called = one.called
    one.far.send(b"x")
    with anyio.fail_after(LIMIT_S):
        await called.wait()


async def test_many_reads_are_drained_at_a_pace(pairs: Pairs) -> None:
    """Where much comes on many connections, the poller pauses between drains; nothing is lost."""
    async with busy(pairs) as made:
        made.read(rounds=100)
        assert made.poller._pausing
        for one in made.watched:
            await arrive(one)
        made.read(rounds=100)
        assert made.poller._pausing


async def test_few_reads_end_the_pauses(pairs: Pairs) -> None:
    """Where little comes, each event is drained as it comes."""
    async with busy(pairs) as made:
        made.read(rounds=100)
        made.read(rounds=1)
        assert not made.poller._pausing
        await arrive(made.watched[0])
        made.read(rounds=100)
        assert made.poller._pausing


async def test_close_reads_end_the_pauses(pairs: Pairs) -> None:
    """Where the reads of a connection are near to each other, a pause would merge them."""
    async with busy(pairs) as made:
        made.close = True
        made.read(rounds=100)
        assert not made.poller._pausing
        made.close = False
        made.read(rounds=100)
        assert made.poller._pausing
        made.close = True
        made.read(rounds=100)
        assert not made.poller._pausing
        await arrive(made.watched[0])


def ring(alarm: Alarm, at_ns: int) -> None:
    """Have the alarm ring as if the clock had reached an instant."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "monotonic_ns", lambda: at_ns)
        alarm._ring()


FAR_NS = 3_600 * NS_PER_S


async def test_alarm_never_early() -> None:
    """Every task is woken, and none before its instant."""
    woken: list[tuple[int, int]] = []
    async with polling() as poller, anyio.create_task_group() as tasks:

        async def wait(at_ns: int) -> None:
            await poller.alarm.until(at_ns)
            woken.append((at_ns, time.monotonic_ns()))

        begun_ns = time.monotonic_ns()
        for delay_us in range(0, 40_000, 200):
            tasks.start_soon(wait, begun_ns + delay_us * 7919 % 40_009 * NS_PER_US)
    assert len(woken) == 200
    assert all(woken_ns >= at_ns for at_ns, woken_ns in woken)


async def test_alarm_in_order() -> None:
    """Tasks are woken in the order of their instants; those of one instant as they came."""
    woken: list[tuple[int, int]] = []
    async with polling() as poller, anyio.create_task_group() as tasks:
        now_ns = time.monotonic_ns()

        async def wait(index: int, at_ns: int) -> None:
            await poller.alarm.until(at_ns)
            woken.append((at_ns, index))

        for index in range(500):
            tasks.start_soon(wait, index, now_ns + FAR_NS + index * 7919 % 50)
        await asyncio.sleep(0)
        ring(poller.alarm, now_ns + FAR_NS + 24)
        await asyncio.sleep(0)
        assert len(woken) == 250
        ring(poller.alarm, now_ns + FAR_NS + 50)
    assert len(woken) == 500
    assert woken == sorted(woken)


async def test_alarm_for_the_past() -> None:
    """An instant that has passed is not waited for."""
    async with polling() as poller:
        await poller.alarm.until(time.monotonic_ns())
        assert poller.alarm._waiting == []


async def test_an_earlier_alarm_comes_first() -> None:
    """An alarm that is set later, for an earlier instant, is not kept waiting by the other."""
    async with polling() as poller, anyio.create_task_group() as tasks:
        tasks.start_soon(poller.alarm.until, time.monotonic_ns() + FAR_NS)
        await asyncio.sleep(0)
        with anyio.fail_after(LIMIT_S):
            await poller.alarm.until(time.monotonic_ns() + NS_PER_MS)
        tasks.cancel_scope.cancel()


async def test_cancelled_waiters_leave_nothing() -> None:
    """Who is cancelled is forgotten at once, however far off its instant; the others are woken."""
    async with polling() as poller:
        woken: list[int] = []
        at_ns = time.monotonic_ns() + FAR_NS

        async def wait(index: int) -> None:
            await poller.alarm.until(at_ns + index % 3)
            woken.append(index)

        async with anyio.create_task_group() as kept:
            async with anyio.create_task_group() as cancelled:
                for index in range(100):
                    (kept if index % 2 else cancelled).start_soon(wait, index)
                    cancelled.start_soon(poller.alarm.until, at_ns + FAR_NS)
                await asyncio.sleep(0)
                assert len(poller.alarm._waiting) == 200
                cancelled.cancel_scope.cancel()
            assert len(poller.alarm._waiting) == 50
            ring(poller.alarm, at_ns + 3)
        assert sorted(woken) == list(range(1, 100, 2))
        assert poller.alarm._waiting == []


async def test_alarm_that_rings_for_one_who_is_cancelled() -> None:
    """An alarm that rings between the cancelling of a task and its end rings for the others."""
    async with polling() as poller:
        at_ns = time.monotonic_ns() + NS_PER_MS
        tasks = [asyncio.ensure_future(poller.alarm.until(at_ns)) for _ in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        while poller.alarm._waiting:
            poller.alarm._ring()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await tasks[1]


async def test_cancelled_as_the_alarm_rings() -> None:
    """Who is cancelled right after its alarm rang is cancelled, and nothing breaks."""
    async with polling() as poller:
        task = asyncio.ensure_future(poller.alarm.until(time.monotonic_ns() + NS_PER_MS))
        await asyncio.sleep(0)
        while poller.alarm._waiting:
            poller.alarm._ring()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_waiters_of_a_closed_poller() -> None:
    """Whoever still waits when the poller is closed is told so, rather than left to wait."""
    poller = Poller()
    at_ns = time.monotonic_ns() + FAR_NS
    tasks = [asyncio.ensure_future(poller.alarm.until(at_ns)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    poller.close()
    with anyio.fail_after(LIMIT_S), pytest.raises(ConnectionAbortedError):
        await tasks[1]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


def refuse(*_: object) -> int:
    """Stand in for a function of the C library that fails."""
    ctypes.set_errno(errno.EMFILE)
    return -1


async def test_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that the kernel refuses is an error of the system, and nothing stays open."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(timerfd_create=refuse))
    with pytest.raises(OSError, match="timerfd_create"):
        Poller()


async def test_timer_that_cannot_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that cannot be set is an error of the system; nobody waits for it."""
    async with polling() as poller:
        libc = SimpleNamespace(timerfd_settime=refuse)
        monkeypatch.setattr(poller.alarm._timer, "_libc", libc)
        with pytest.raises(OSError, match="timerfd_settime"):
            await poller.alarm.until(time.monotonic_ns() + NS_PER_S)
        assert poller.alarm._waiting == []
