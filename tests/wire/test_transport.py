"""The wire as httpx's transport: kept-alive connections, deadlines, cancellation, ordinary use."""

import errno
import gzip
import json
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Event

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest

from llmperf_core.run.failures import failure_of
from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_core.wire import Wire
from llmperf_core.wire.trace import EXTENSION, Trace
from llmperf_core.wire.transport import _origin, _reading
from tests.wire.scripted_server import (
    BACKENDS,
    LIMIT_S,
    SMALL,
    Peer,
    Server,
    answering,
    fetch,
    no_descriptor_left,
    serving,
    wait,
    wire_of,
    wired,
)

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
TOO_MUCH = bytes(1 << 25)
"""More than the kernel takes before somebody reads it."""
SOON_S = 0.05
"""A deadline that is meant to pass."""


@pytest.fixture(scope="module", params=BACKENDS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each test on both event loops."""
    return request.param


@pytest.fixture(autouse=True)
def _no_descriptor_left() -> Iterator[None]:
    with no_descriptor_left():
        yield


def answer(body: bytes, *headers: bytes) -> bytes:
    """Return a response."""
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


# Connections that are kept alive.


async def test_connections_are_used_again() -> None:
    """Requests that follow each other share a connection."""
    with serving(answering(SMALL)) as server:
        async with wired() as client:
            got = [await fetch(client, server.url) for _ in range(20)]
    assert [one.trace.connection.fresh for one in got] == [True] + [False] * 19
    assert got[0].trace.connection.connect_ns > 0
    assert all(one.trace.connection.connect_ns == 0 for one in got[1:])
    assert len(server.peers) == 1


async def test_no_connection_is_waited_for() -> None:
    """Any number of requests are in flight at once, and later ones use the same connections."""
    count = 300
    barrier = Barrier(count)

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            barrier.wait(LIMIT_S)  # nobody is answered before everybody has asked
            peer.send(SMALL)

    traces: list[Trace] = []

    async def ask(client: httpx.AsyncClient, url: str) -> None:
        got = await fetch(client, url)
        assert got.body == b"ok"
        traces.append(got.trace)

    with serving(script) as server:
        async with wired() as client:
            for _ in range(2):
                async with anyio.create_task_group() as tasks:
                    for _ in range(count):
                        tasks.start_soon(ask, client, server.url)
    assert len(server.peers) == count
    assert [trace.connection.fresh for trace in traces] == [True] * count + [False] * count
    assert all(trace.connection.reopened == 0 for trace in traces)


async def test_each_server_has_its_connections() -> None:
    """A connection to one server is not used for another."""
    with (
        serving(answering(answer(b"one"))) as one,
        serving(answering(answer(b"other"))) as other,
    ):
        async with wired() as client:
            for _ in range(2):
                assert (await fetch(client, one.url)).body == b"one"
                assert (await fetch(client, other.url)).body == b"other"
        assert len(one.peers) == len(other.peers) == 1


def test_ports_that_are_not_said() -> None:
    """A URL without a port means the one of its scheme."""
    assert _origin(httpx.URL("http://x/y")) == (b"http", b"x", 80)
    assert _origin(httpx.URL("https://x")) == (b"https", b"x", 443)
    assert _origin(httpx.URL("https://[::1]:8443")) == (b"https", b"::1", 8443)


def closing_idle(closed: Event, end: Callable[[Peer], None]) -> Callable[[Peer], None]:
    """Return a script that ends its first connection after one answer, unannounced."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SMALL)
        if peer.index == 0:
            end(peer)
            closed.set()
        peer.request()
        peer.send(SMALL)

    return script


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_closed_while_idle(end: Callable[[Peer], None], seen: bool, method: str) -> None:  # noqa: FBT001
    """An idle connection that the server closed is replaced and counted; no request fails."""
    closed = Event()
    with serving(closing_idle(closed, end)) as server:
        async with wired() as client:
            await fetch(client, server.url)
            [connection] = wire_of(client)._connections
            wait(closed)
            while seen and not connection.closed:
                await anyio.lowlevel.checkpoint()
            got = await fetch(client, server.url, method=method)
            assert (got.body, got.trace.error) == (b"ok", None)
            assert (got.trace.connection.fresh, got.trace.connection.reopened) == (True, 1)
            again = await fetch(client, server.url, method=method)
            assert (again.trace.connection.fresh, again.trace.connection.reopened) == (False, 0)


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
async def test_closed_as_the_request_is_sent(end: Callable[[Peer], None]) -> None:
    """A connection that is closed instead of an answer's first byte costs a fresh one."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SMALL)
        peer.request()
        if peer.index == 0:
            end(peer)
        peer.send(SMALL)

    with serving(script) as server:
        async with wired() as client:
            first = await fetch(client, server.url)
            got = await fetch(client, server.url, method="POST", content=b"x" * 10_000)
            assert (got.body, got.trace.error) == (b"ok", None)
            assert (got.trace.connection.fresh, got.trace.connection.reopened) == (True, 1)
            assert first.trace.ended_at_ns is not None
            assert got.trace.sent_at_ns is not None
            assert got.trace.sent_at_ns > first.trace.ended_at_ns
        assert len(server.peers) == 2


async def test_closed_before_the_request_is_due() -> None:
    """A kept connection that is closed while its next request waits to be due is replaced."""
    closed = Event()
    with serving(closing_idle(closed, Peer.close)) as server:
        async with wired() as client:
            await fetch(client, server.url)
            [connection] = wire_of(client)._connections
            is_stale = connection.is_stale

            def closed_after_the_look() -> bool:
                stale = is_stale()
                connection.close()
                return stale

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(connection, "is_stale", closed_after_the_look)
                got = await fetch(client, server.url)
    assert (got.body, got.trace.error) == (b"ok", None)
    assert (got.trace.connection.fresh, got.trace.connection.reopened) == (True, 1)


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", SMALL[:-1]])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_was_answered_is_not_sent_again(said: bytes, method: str) -> None:
    """A request of whose answer a single byte came is not sent a second time."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SMALL)
        peer.request()
        peer.send(said)

    with serving(script) as server:
        async with wired() as client:
            await fetch(client, server.url)
            with pytest.raises(httpx.RemoteProtocolError, match="closed before"):
                await client.request(method, server.url)
        assert len(server.peers) == 1


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
async def test_a_fresh_connection_is_not_replaced(end: Callable[[Peer], None]) -> None:
    """A server that breaks off every connection fails each request once."""

    def script(peer: Peer) -> None:
        peer.request()
        end(peer)

    with serving(script) as server:
        async with wired() as client:
            for count in (1, 2, 3):
                with pytest.raises(httpx.ReadError) as raised:
                    await client.get(server.url)
                assert failure_of(raised.value).error == "reset"
                assert len(server.peers) == count


async def test_a_connection_is_replaced_once() -> None:
    """A server that breaks off the second connection, too, fails the request."""

    def script(peer: Peer) -> None:
        peer.request()
        if peer.index == 0:
            peer.send(SMALL)
            peer.request()

    with serving(script) as server:
        async with wired() as client:
            await fetch(client, server.url)
            trace = Trace()
            with pytest.raises(httpx.ReadError):
                await fetch(client, server.url, trace=trace)
        assert len(server.peers) == 2
    assert trace.connection.reopened == 1


async def test_no_other_connection() -> None:
    """Where a closed connection cannot be replaced, the reason is why there is no other."""
    running: list[Server] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SMALL)
        peer.request()
        running[0].refuse()

    with serving(script) as server:
        running.append(server)
        async with wired() as client:
            await fetch(client, server.url)
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get(server.url)
    assert failure_of(raised.value).error == "refused"


async def test_fresh_connection_that_is_closed_before_the_request_is_due() -> None:
    """A connection that is made ahead of time and closed before that fails like any other."""
    closed = Event()

    def script(peer: Peer) -> None:
        peer.close()
        closed.set()

    with serving(script) as server:
        async with wired() as client:
            trace = Trace(not_before_ns=time.monotonic_ns() + 100 * NS_PER_MS)
            with pytest.raises(httpx.ReadError) as raised:
                await fetch(client, server.url, trace=trace)
    assert failure_of(raised.value).error == "reset"
    assert trace.connection.reopened == 0


async def test_not_before() -> None:
    """A request is sent when it is due, and its connection is made before."""
    asked_ns: list[int] = []

    def script(peer: Peer) -> None:
        peer.request()
        asked_ns.append(time.monotonic_ns())
        peer.send(SMALL)

    with serving(script) as server:
        async with wired() as client:
            due_ns = time.monotonic_ns() + 50 * NS_PER_MS
            trace = (await fetch(client, server.url, trace=Trace(not_before_ns=due_ns))).trace
    assert trace.sent_at_ns is not None
    assert due_ns <= trace.sent_at_ns <= asked_ns[0]


async def test_body_that_is_left() -> None:
    """A connection whose answer was not read to its end is closed; one that was is kept."""
    first_piece = CHUNKED + b"5\r\nhello\r\n"
    with serving(lambda peer: answering(first_piece if peer.index == 0 else SMALL)(peer)) as server:
        async with wired() as client:
            async with client.stream("GET", server.url) as response:
                assert await anext(response.aiter_raw()) == b"hello"
            [connection] = wire_of(client)._connections
            assert connection.closed
            async with client.stream("GET", server.url):
                pass  # a body that has come is not lost with one who does not look at it
            assert not (await fetch(client, server.url)).trace.connection.fresh
        assert len(server.peers) == 2


# Deadlines, of an ordinary client.


@contextmanager
def full_backlog() -> Iterator[str]:
    """Yield the URL of a server to which nobody can connect, as too many wait to be accepted."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)  # noqa: FBT003 -- the socket module's own
            sock.connect_ex(listener.getsockname())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for sock in waiting:
                sock.close()


def silent(peer: Peer) -> None:
    """Read, and never answer."""
    peer.until_gone()


async def resolve_never(*_: object, **__: object) -> None:
    """Stand in for a resolver that does not answer."""
    await anyio.sleep_forever()


async def test_connect_timeout() -> None:
    """A connection that does not come about in time is httpx's ConnectTimeout."""
    with full_backlog() as url:
        async with wired() as client:
            with pytest.raises(httpx.ConnectTimeout, match=re.escape(f"within {SOON_S} s")):
                await client.get(url, timeout=httpx.Timeout(None, connect=SOON_S))


async def test_slow_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up of a name is part of connecting."""
    monkeypatch.setattr(anyio, "getaddrinfo", resolve_never)
    async with wired() as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("http://name.invalid", timeout=httpx.Timeout(None, connect=SOON_S))


async def test_slow_handshake() -> None:
    """The TLS handshake is part of connecting."""
    with serving(silent) as server:
        async with wired() as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(
                    server.url.replace("http:", "https:"),
                    timeout=httpx.Timeout(None, connect=SOON_S),
                )


async def test_the_system_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says when it gives up is not taken for a deadline of ours."""
    gave_up = TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    async def resolve(*_: object, **__: object) -> None:
        raise gave_up

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    async with wired() as client:
        with pytest.raises(httpx.ConnectTimeout, match="Connection timed out"):
            await client.get("http://name.invalid", timeout=None)
    with pytest.raises(httpx.ReadError, match="Connection timed out"), _reading(None):
        raise gave_up


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\n", CHUNKED, CHUNKED + b"5\r\nhello\r\n"]
)
async def test_read_timeout(said: bytes) -> None:
    """A server that falls silent is httpx's ReadTimeout, before the head and after it."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(said)
        peer.until_gone()

    with serving(script) as server:
        async with wired() as client:
            with pytest.raises(httpx.ReadTimeout, match=re.escape(f"for {SOON_S} s")):
                await client.get(server.url, timeout=httpx.Timeout(None, read=SOON_S))
        assert len(server.peers) == 1


async def test_read_timeout_of_a_kept_connection() -> None:
    """A kept connection over which no answer comes is not replaced: the request was taken up."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SMALL)
        peer.until_gone()

    with serving(script) as server:
        async with wired() as client:
            await client.get(server.url)
            with pytest.raises(httpx.ReadTimeout):
                await client.get(server.url, timeout=httpx.Timeout(None, read=SOON_S))
        assert len(server.peers) == 1


async def test_read_timeout_is_not_that_of_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of reading does not run while a connection is made."""
    deadlines: list[float] = []

    async def resolve(*_: object, **__: object) -> None:
        deadlines.append(anyio.current_effective_deadline())
        raise OSError(errno.EHOSTUNREACH, "unreachable")

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    async with wired() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://name.invalid", timeout=httpx.Timeout(None, read=1))
    assert deadlines == [float("inf")]


# Cancellation.


async def test_cancelled_while_resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is cancelled while a name is looked up leaves nothing."""
    async with wired() as client:
        with monkeypatch.context() as patched:
            patched.setattr(anyio, "getaddrinfo", resolve_never)
            await cancelled(client.get("http://name.invalid"))
        await still_works(client)


async def still_works(client: httpx.AsyncClient) -> None:
    """Assert that a request succeeds, and nothing but its connection is left."""
    with serving(answering(SMALL)) as server:
        assert (await fetch(client, server.url)).body == b"ok"
        poller = wire_of(client)._poller
        assert poller is not None
        assert len(poller._handlers) == 1
        assert poller.alarm._waiting == []


async def cancelled(asking: Awaitable[object]) -> None:
    """Cancel what is awaited after a moment."""
    with anyio.move_on_after(SOON_S) as moment:
        await asking
    assert moment.cancelled_caught


async def test_cancelled_while_connecting() -> None:
    """A request that is cancelled while it connects leaves nothing, and the wire goes on."""
    async with wired() as client:
        with full_backlog() as url:
            await cancelled(client.get(url))
        await still_works(client)


async def test_cancelled_while_shaking_hands() -> None:
    """A request that is cancelled in the TLS handshake leaves nothing, and the wire goes on."""
    async with wired() as client:
        with serving(silent) as server:
            await cancelled(client.get(server.url.replace("http:", "https:")))
            await still_works(client)


async def test_cancelled_while_sending() -> None:
    """A request that is cancelled while it is sent leaves nothing, and the wire goes on."""
    done = Event()
    async with wired() as client:
        with serving(lambda _: wait(done)) as server:
            await cancelled(client.post(server.url, content=TOO_MUCH))
            done.set()
            await still_works(client)


async def test_cancelled_while_waiting_to_be_due() -> None:
    """A request that is cancelled before it is due leaves nothing, and the wire goes on."""
    async with wired() as client:
        with serving(silent) as server:
            trace = Trace(not_before_ns=time.monotonic_ns() + 3_600 * NS_PER_S)
            await cancelled(fetch(client, server.url, trace=trace))
            await still_works(client)
    assert trace.sent_at_ns is None


@pytest.mark.parametrize("said", [b"", CHUNKED[:20], CHUNKED, CHUNKED + b"5\r\nhello\r\n"])
async def test_cancelled_while_waiting_for_the_answer(said: bytes) -> None:
    """A request that is cancelled at any point of its answer leaves nothing; the wire goes on."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(said)
        peer.until_gone()

    async with wired() as client:
        with serving(script) as server:
            await cancelled(client.get(server.url))
            await still_works(client)
            await cancelled(fetch(client, server.url))
            await still_works(client)


async def test_cancelled_while_a_connection_is_replaced() -> None:
    """A request that is cancelled while it starts over leaves nothing, and the wire goes on."""
    started_over = Event()

    def script(peer: Peer) -> None:
        peer.request()
        if peer.index == 0:
            peer.send(SMALL)
            peer.request()
        else:
            started_over.set()
            peer.until_gone()

    async with wired() as client:
        with serving(script) as server:
            await fetch(client, server.url)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.get, server.url)
                await anyio.to_thread.run_sync(wait, started_over)
                tasks.cancel_scope.cancel()
            await still_works(client)


async def test_many_are_cancelled_at_once() -> None:
    """Requests in flight that are cancelled together leave nothing, and the wire goes on."""
    arrived = Barrier(51)

    def script(peer: Peer) -> None:
        peer.request()
        arrived.wait(LIMIT_S)
        peer.until_gone()

    async with wired() as client:
        with serving(script) as server:
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(client.get, server.url)
                await anyio.to_thread.run_sync(arrived.wait, LIMIT_S)
                tasks.cancel_scope.cancel()
            await still_works(client)


# The end of a wire.


async def test_closing_ends_what_is_on_its_way() -> None:
    """When the wire is closed, whoever waits for anything is told so."""
    arrived = Barrier(4)
    failed: list[str] = []

    def script(peer: Peer) -> None:
        in_handshake = peer.sock.recv(1, socket.MSG_PEEK) == b"\x16"
        if not in_handshake and b"/body" in peer.request():
            peer.send(CHUNKED)
        arrived.wait(LIMIT_S)
        peer.until_gone()

    async def ask(client: httpx.AsyncClient, url: str, due_ns: int | None = None) -> None:
        with pytest.raises((httpx.ReadError, httpx.ConnectError)) as raised:
            await client.get(url, extensions={EXTENSION: Trace(not_before_ns=due_ns)})
        assert isinstance(raised.value.__cause__, ConnectionAbortedError)
        failed.append(url)

    with serving(script) as server:
        async with wired() as client, anyio.create_task_group() as tasks:
            tasks.start_soon(ask, client, server.url + "/head")
            tasks.start_soon(ask, client, server.url + "/body")
            tasks.start_soon(ask, client, server.url.replace("http:", "https:"))
            tasks.start_soon(ask, client, server.url + "/due", 1 << 62)
            await anyio.to_thread.run_sync(arrived.wait, LIMIT_S)
            while not (poller := wire_of(client)._poller) or not poller.alarm._waiting:
                await anyio.lowlevel.checkpoint()
            await wire_of(client).aclose()
    assert len(failed) == 4


async def test_closing_changes_no_trace_that_was_left() -> None:
    """A response that was given up before the wire is closed stays as it was."""
    trace = Trace()
    with serving(answering(CHUNKED + b"5\r\nhello\r\n")) as server:
        async with (
            wired() as client,
            client.stream("GET", server.url, extensions={EXTENSION: trace}),
        ):
            pass
    assert (trace.ended, trace.error) == (False, None)


async def test_closing_with_an_answer_open() -> None:
    """A response that is still open when the client is closed can be closed after it."""
    with serving(answering(CHUNKED + b"5\r\nhello\r\n")) as server:
        async with wired() as client:
            request = client.build_request("GET", server.url)
            response = await client.send(request, stream=True)
        await response.aclose()


async def test_closed_unused_and_twice() -> None:
    """A wire may be closed without having been used, and more than once."""
    wire = Wire()
    assert wire.clock_steps == 0
    await wire.aclose()
    await wire.until(time.monotonic_ns() + NS_PER_MS)
    assert wire.clock_steps == 0
    await wire.aclose()
    await wire.aclose()


# Names and addresses.


Addresses = list[tuple[int, int, int, str, tuple[str, int]]]


def resolving(monkeypatch: pytest.MonkeyPatch, *found: tuple[int, str]) -> None:
    """Have every name resolved to these (family, address)."""

    async def resolve(_host: str, port: int, **_: object) -> Addresses:
        return [(family, socket.SOCK_STREAM, 0, "", (address, port)) for family, address in found]

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)


async def test_addresses_are_tried_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that refuses, or of a kind that the system does not have, is passed over."""
    with serving(answering(SMALL)) as server:
        resolving(
            monkeypatch,
            (socket.AF_INET, "127.0.0.2"),
            (socket.AF_APPLETALK, "127.0.0.1"),
            (socket.AF_INET, "127.0.0.1"),
        )
        async with wired() as client:
            assert (await fetch(client, server.url)).body == b"ok"


async def test_no_address_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no address can be reached, the failure is the last one's."""
    with serving(answering(SMALL)) as server:
        resolving(monkeypatch, (socket.AF_APPLETALK, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"))
        async with wired() as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get(server.url)
    assert failure_of(raised.value).error == "refused"


async def test_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without an address cannot be connected to."""
    resolving(monkeypatch)
    async with wired() as client:
        with pytest.raises(httpx.ConnectError, match=r"no address for name\.invalid"):
            await client.get("http://name.invalid")


async def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not known is the system's error, kept as the cause."""

    async def resolve(*_: object, **__: object) -> Addresses:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    async with wired() as client:
        with pytest.raises(httpx.ConnectError, match="not known") as raised:
            await client.get("http://name.invalid")
    assert failure_of(raised.value).error == "unresolved"


async def test_authority_that_is_none(tmp_path: Path) -> None:
    """A file of authorities that is missing or holds none is no connection."""
    (tmp_path / "empty.pem").write_text("nothing")
    with serving(silent) as server:
        for name, cause in (("missing.pem", FileNotFoundError), ("empty.pem", ssl.SSLError)):
            async with wired(verify=str(tmp_path / name)) as client:
                with pytest.raises(httpx.ConnectError) as raised:
                    await client.get(server.url.replace("http:", "https:"))
                assert isinstance(raised.value.__cause__, cause)


# An ordinary transport.


async def test_lines() -> None:
    """A stream is read line by line, as clients of OpenAI's protocol do."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED)
        for index in range(100):
            line = b"data: %d\n\n" % index
            peer.send(b"%x\r\n" % len(line), line, b"\r\n")
        peer.send(b"0\r\n\r\n")

    with serving(script) as server:
        async with wired() as client, client.stream("GET", server.url) as response:
            lines = [line async for line in response.aiter_lines() if line]
    assert lines == [f"data: {index}" for index in range(100)]


async def test_json() -> None:
    """A body is read whole, and decoded by httpx."""
    with serving(answering(answer(b'{"x": [1, 2]}'))) as server:
        async with wired() as client:
            response = await client.get(server.url)
    assert response.json() == {"x": [1, 2]}
    assert response.http_version == "HTTP/1.1"


async def test_gzip() -> None:
    """A compressed body is decompressed by httpx."""
    text = b"llama " * 10_000
    packed = answer(gzip.compress(text), b"content-encoding: gzip")
    with serving(answering(packed)) as server:
        async with wired() as client:
            assert (await client.get(server.url)).content == text


async def test_what_is_asked() -> None:
    """The request line, the headers and the body are sent as httpx has them."""
    asked: list[bytes] = []

    def script(peer: Peer) -> None:
        asked.append(peer.request())
        peer.send(SMALL)

    with serving(script) as server:
        async with wired() as client:
            await client.post(server.url + "/a b?q=ü", json={"x": 1}, headers={"X-Name": "value"})
    head, _, body = asked[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /a%20b?q=%C3%BC HTTP/1.1"
    assert b"X-Name: value" in lines
    assert f"Host: {server.url.removeprefix('http://')}".encode() in lines
    assert json.loads(body) == {"x": 1}


async def test_body_from_a_generator() -> None:
    """A body of which nobody knows the length is sent whole, with its length."""
    asked: list[bytes] = []

    def script(peer: Peer) -> None:
        asked.append(peer.request())
        peer.send(SMALL)

    async def body() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            yield piece

    with serving(script) as server:
        async with wired() as client:
            await client.post(server.url, content=body())
    head, _, sent = asked[0].partition(b"\r\n\r\n")
    assert sent == b"onetwo"
    assert b"content-length: 6" in head.lower()
    assert b"transfer-encoding" not in head.lower()


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n", "\0"])
async def test_headers_stay_in_their_line(ending: str) -> None:
    """A header or a method that would break out of its line is refused before anything is sent."""
    with serving(answering(SMALL)) as server:
        async with wired() as client:
            for headers in ({"x": f"1{ending}y: 2"}, {f"x{ending}y": "2"}):
                with pytest.raises(httpx.LocalProtocolError, match="line end"):
                    await client.get(server.url, headers=headers)
            for method in (f"GET{ending}X", "GET /other", "GET / HTTP/1.1\r\nx: 1\r\n\r\nGET"):
                with pytest.raises(httpx.LocalProtocolError, match="no method"):
                    await client.request(method, server.url)
        assert server.peers == []


async def test_redirection() -> None:
    """A request that is sent on is noted as the last one, from its start."""
    there = b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 5\r\n\r\nthere"
    with serving(answering(there, SMALL)) as server:
        async with wired() as client:
            client.follow_redirects = True
            got = await fetch(client, server.url)
    assert (got.body, got.trace.error) == (b"ok", None)
    assert (got.trace.connection.fresh, got.trace.read_count) == (False, 1)


class Challenged(httpx.Auth):
    """Answers a challenge, with the same request."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Ask, and ask again with what the server wants to hear."""
        response = yield request
        request.headers["authorization"] = response.headers["www-authenticate"]
        yield request


async def test_authentication_in_two_steps() -> None:
    """A request that is sent twice, to answer a challenge, is noted as the second."""
    challenge = b"HTTP/1.1 401 No\r\nwww-authenticate: sesame\r\ncontent-length: 2\r\n\r\nno"
    asked: list[bytes] = []

    def script(peer: Peer) -> None:
        asked.append(peer.request())
        peer.send(challenge)
        asked.append(peer.request())
        peer.send(SMALL)

    with serving(script) as server:
        async with wired() as client:
            client.auth = Challenged()
            got = await fetch(client, server.url)
    assert (got.body, got.trace.error) == (b"ok", None)
    assert got.trace.body_bytes == len(SMALL)
    assert [b"authorization: sesame" in request.lower() for request in asked] == [False, True]
