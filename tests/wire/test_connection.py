"""One connection: whatever bytes a server sends, in whatever pieces, and when they arrived."""

import datetime
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from threading import Event, Semaphore

import httpx
import pytest
import trustme
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_core.wire import connection, stamping
from llmperf_core.wire.poller import WRITABLE, Poller
from llmperf_core.wire.trace import EXTENSION, BodyTooLargeError, Trace
from tests.strategies import cut
from tests.wire.scripted_server import (
    BACKENDS,
    LIMIT_S,
    SMALL,
    Peer,
    answering,
    fetch,
    no_descriptor_left,
    read_by,
    serving,
    streaming,
    wait,
    wired,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
CERTAINLY_ARRIVED_NS = 25 * NS_PER_MS
"""A stamp is set within microseconds of the sending, but on a busy machine the kernel may be late.
Blocks of the event loop are twice as long."""


@pytest.fixture(scope="module", params=BACKENDS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each test on both event loops."""
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _stamping() -> Iterator[None]:
    with stamping() as stamped:
        assert stamped
        yield


@pytest.fixture(autouse=True)
def _no_descriptor_left() -> Iterator[None]:
    with no_descriptor_left():
        yield


@frozen
class Tls:
    """An authority that signs what a test needs."""

    authority: trustme.CA
    client: str
    """The file of the authority, to verify against."""
    server: ssl.SSLContext
    """Settings of a server at 127.0.0.1, which is localhost."""

    def context_for(
        self, *names: str, not_after: datetime.datetime | None = None
    ) -> ssl.SSLContext:
        """Return the settings of a server with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        before = datetime.datetime(2010, 1, 1, tzinfo=datetime.UTC)
        self.authority.issue_cert(*names, not_before=before, not_after=not_after).configure_cert(
            context
        )
        return context


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Return an authority of our own."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    made = Tls(authority, str(path), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    return evolve(made, server=made.context_for("127.0.0.1", "localhost"))


@frozen
class Case:
    """A response, and what is to be made of it."""

    wire: bytes
    body: bytes = b""
    status: int = 200
    reason: str = "OK"
    method: str = "GET"
    version: str = "HTTP/1.1"
    reused: bool = True
    """Whether the connection carries the next request."""


WHOLE = {
    "content-length": Case(OK + b"content-length: 5\r\n\r\nhello", b"hello"),
    "no body": Case(OK + b"content-length: 0\r\n\r\n"),
    "one chunk": Case(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "many chunks": Case(CHUNKED + b"1\r\nx\r\n" * 500 + b"0\r\n\r\n", b"x" * 500),
    "no chunk": Case(CHUNKED + b"0\r\n\r\n"),
    "line ends in chunks": Case(CHUNKED + b"6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", b"\r\n0\r\n\r"),
    "chunk extension": Case(CHUNKED + b'5;name="a b";x\r\nhello\r\n0;last\r\n\r\n', b"hello"),
    "leading zeros": Case(CHUNKED + b"00005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "trailers": Case(CHUNKED + b"5\r\nhello\r\n0\r\nx-sum: 1\r\nx-end: 2\r\n\r\n", b"hello"),
    "until the close": Case(OK + b"\r\nhello", b"hello", reused=False),
    "nothing until the close": Case(OK + b"\r\n", reused=False),
    "other encoding until the close": Case(
        OK + b"transfer-encoding: identity\r\n\r\nhello", b"hello", reused=False
    ),
    "said to close": Case(
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", b"hello", reused=False
    ),
    "HTTP/1.0": Case(
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"hello",
        version="HTTP/1.0",
        reused=False,
    ),
    "HTTP/1.0 until the close": Case(
        b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", version="HTTP/1.0", reused=False
    ),
    "HTTP/1.0 kept alive": Case(
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",
        b"hello",
        version="HTTP/1.0",
    ),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", status=204, reason="No Content"),
    "304": Case(
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        status=304,
        reason="Not Modified",
    ),
    "HEAD": Case(OK + b"content-length: 5\r\n\r\n", method="HEAD"),
    "HEAD of chunks": Case(CHUNKED, method="HEAD"),
    "HEAD of nothing": Case(OK + b"content-length: 0\r\n\r\n", method="HEAD"),
    "100": Case(b"HTTP/1.1 100 Continue\r\n\r\n" + SMALL, b"ok"),
    "103": Case(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + SMALL, b"ok"),
    "many 1xx": Case(b"HTTP/1.1 102 Processing\r\nx: 1\r\n\r\n" * 20 + SMALL, b"ok"),
    "1xx with a length, until the close": Case(
        b"HTTP/1.1 103 Early Hints\r\ncontent-length: 3\r\n\r\n" + OK + b"\r\nhello",
        b"hello",
        reused=False,
    ),
    "100 before HEAD": Case(
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 5\r\n\r\n", method="HEAD"
    ),
    "no reason": Case(b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", b"ok", reason=""),
    "long reason": Case(
        b"HTTP/1.1 503 Service Unavailable, for now\r\ncontent-length: 2\r\n\r\nno",
        b"no",
        status=503,
        reason="Service Unavailable, for now",
    ),
    "names in capitals": Case(b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 2\r\n\r\nok", b"ok"),
    "empty header": Case(OK + b"x-empty:\r\ncontent-length: 2\r\n\r\nok", b"ok"),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("name", WHOLE)
async def test_whole_response(name: str, size: int) -> None:
    """A response is taken in as it is meant, by whatever pieces it is read."""
    case = WHOLE[name]

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(case.wire)
        if case.reused:
            peer.request()
            peer.send(case.wire)

    with serving(script) as server, read_by(size):
        async with wired() as client:
            for _ in range(2):
                got = await fetch(client, server.url, method=case.method)
                assert got.trace.error is None
                assert (got.status, got.response.reason_phrase) == (case.status, case.reason)
                assert (got.body, got.response.http_version) == (case.body, case.version)
                assert "x-sum" not in got.response.headers
                assert "x" not in got.response.headers
        assert len(server.peers) == (1 if case.reused else 2)
        assert got.trace.connection.fresh is not case.reused
        assert got.trace.connection.reopened == 0


@frozen
class Broken:
    """What a server sends in place of a response before it closes, and what is said of it."""

    wire: bytes
    words: str
    kind: type[httpx.HTTPError] = httpx.RemoteProtocolError


BROKEN = {
    "SSH": Broken(b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP/1.1 response"),
    "HTTP/2": Broken(
        b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", "not an HTTP"
    ),
    "TLS alert": Broken(b"\x15\x03\x01\x00\x02\x02\x46", "not an HTTP/1.1 response"),
    "no number": Broken(b"HTTP/1.1 OK\r\n\r\n", "not an HTTP/1.1 response"),
    "no length": Broken(OK + b"content-length: many\r\n\r\n", "not an HTTP/1.1 response"),
    "two lengths": Broken(
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok", "not an HTTP/1.1 response"
    ),
    "101": Broken(
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "not an HTTP"
    ),
    "head without end": Broken(
        OK + b"x: 12345678\r\n" * 6_000, "the head of the response has no end"
    ),
    "nothing": Broken(b"", "closed before it answered", httpx.ReadError),
    "half a head": Broken(OK + b"content-le", "closed before the answer was whole"),
    "only a 1xx": Broken(b"HTTP/1.1 100 Continue\r\n\r\n", "closed before the answer was whole"),
    "half a body": Broken(
        OK + b"content-length: 5\r\n\r\nhel", "closed before the answer was whole"
    ),
    "half a chunk": Broken(CHUNKED + b"5\r\nhel", "closed before the answer was whole"),
    "no last chunk": Broken(CHUNKED + b"5\r\nhello\r\n", "closed before the answer was whole"),
    "no end of trailers": Broken(
        CHUNKED + b"5\r\nhello\r\n0\r\nx: 1\r\n", "closed before the answer was whole"
    ),
    "no chunk size": Broken(CHUNKED + b"hello\r\n", "not an HTTP/1.1 response"),
    "endless chunk size": Broken(CHUNKED + b"f" * 40 + b"\r\n", "not an HTTP/1.1 response"),
    "chunk that is too long": Broken(CHUNKED + b"2\r\nhello\r\n", "not an HTTP/1.1 response"),
}


@pytest.mark.parametrize("size", [1, 1 << 16])
@pytest.mark.parametrize("name", BROKEN)
async def test_broken_response(name: str, size: int) -> None:
    """What is no whole response is an error that says why, and its connection is not used again."""
    case = BROKEN[name]

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(case.wire)

    with serving(script) as server, read_by(size):
        async with wired() as client:
            trace = Trace()
            with pytest.raises(case.kind, match=case.words):
                await client.get(server.url, extensions={EXTENSION: trace})
            assert trace.ended
            assert trace.ended_at_ns is not None
            assert trace.connection.reopened == 0
    assert len(server.peers) == 1


async def test_reset_within_the_body() -> None:
    """A connection that breaks in the middle of a body is an error of the system."""
    came = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK + b"content-length: 5\r\n\r\nhel")
        wait(came)
        peer.reset()

    with serving(script) as server:
        async with wired() as client, client.stream("GET", server.url) as response:
            body = response.aiter_raw()
            assert await anext(body) == b"hel"
            came.set()
            with pytest.raises(httpx.ReadError) as raised:
                await anext(body)
    assert isinstance(raised.value.__cause__, ConnectionResetError)


async def test_many_header_lines() -> None:
    """Hundreds of header lines are taken in, in order, and so are repeated names."""
    lines = [(f"x-{index % 250}", str(index)) for index in range(500)]
    head = b"".join(f"{name}: {value}\r\n".encode() for name, value in lines)
    with serving(answering(OK + head + b"content-length: 2\r\n\r\nok")) as server, read_by(1000):
        async with wired() as client:
            got = await fetch(client, server.url)
    assert got.body == b"ok"
    assert got.response.headers.multi_items()[:-1] == lines


async def test_second_answer_with_the_first() -> None:
    """An answer that nobody asked for is thrown away, with the connection that it came by."""
    with serving(answering(SMALL + SMALL.replace(b"ok", b"no"))) as server:
        async with wired() as client:
            for _ in range(2):
                got = await fetch(client, server.url)
                assert got.trace.error is None
                assert got.body == b"ok"
    assert len(server.peers) == 2


async def test_second_answer_while_idle() -> None:
    """An answer that comes while nothing is asked is not taken for that to the next request."""
    idle, spoken = Event(), Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SMALL)
        if peer.index == 0:
            wait(idle)
            peer.send(SMALL.replace(b"ok", b"no"))
            spoken.set()
            peer.until_gone()

    with serving(script) as server:
        async with wired() as client:
            assert (await fetch(client, server.url)).body == b"ok"
            idle.set()
            wait(spoken)
            got = await fetch(client, server.url)
    assert got.body == b"ok"
    assert (got.trace.connection.fresh, got.trace.connection.reopened) == (True, 1)


async def test_bytes_after_the_last_answer() -> None:
    """What follows an answer that was said to be the last is not looked at."""
    last = OK + b"connection: close\r\ncontent-length: 2\r\n\r\nok"
    with serving(answering(last + b"more")) as server:
        async with wired() as client:
            got = await fetch(client, server.url)
    assert (got.trace.error, got.body) == (None, b"ok")


LARGE = bytes(range(256)) * (4 << 12)  # 4 MiB


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
async def test_large_answer(framing: str, secure: bool, tls: Tls) -> None:  # noqa: FBT001
    """A body of several MB arrives whole and in order."""
    head = {"length": OK + b"content-length: %d\r\n\r\n" % len(LARGE), "chunks": CHUNKED}
    pieces = [LARGE]
    if framing == "chunks":
        cuts = [0, *range(1, len(LARGE), 99_991), len(LARGE)]
        pieces = [b"%x\r\n%b\r\n" % (b - a, LARGE[a:b]) for a, b in pairwise(cuts)]
        pieces.append(b"0\r\n\r\n")

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(head.get(framing, OK + b"\r\n"), *pieces)

    with serving(script, tls.server if secure else None) as server:
        async with wired(verify=tls.client) as client:
            got = await fetch(client, server.url)
    assert got.trace.error is None
    assert got.body == LARGE
    assert got.trace.user_stamped == 0


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Return an event that is set when the kernel has taken as much as it can hold."""
    stuck = Event()
    change = Poller.change

    def noted(poller: Poller, fd: int, mask: int) -> None:
        change(poller, fd, mask)
        if mask & WRITABLE:
            stuck.set()

    monkeypatch.setattr(Poller, "change", noted)
    return stuck


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_large_request(secure: bool, tls: Tls, stuck: Event) -> None:  # noqa: FBT001
    """A request of many MB is sent whole, in as many parts as the kernel takes it."""
    asked: list[bytes] = []

    def script(peer: Peer) -> None:
        wait(stuck)
        for _ in range(2):
            asked.append(peer.request())
            peer.send(SMALL)

    with serving(script, tls.server if secure else None) as server:
        async with wired(verify=tls.client) as client:
            if secure:
                stuck.set()  # for the handshake
            for content in (LARGE * 4, LARGE[:20_000]):
                got = await fetch(client, server.url, method="POST", content=content)
                assert got.body == b"ok"
    assert [request.partition(b"\r\n\r\n")[2] for request in asked] == [LARGE * 4, LARGE[:20_000]]


@pytest.mark.parametrize("end", ["close", "stay", "break"])
async def test_answer_before_the_request_is_whole(end: str, stuck: Event) -> None:
    """A server that refuses a request before it has read it all has answered, and is believed."""
    refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
    done = Event()

    def script(peer: Peer) -> None:
        peer.sock.recv(1)
        wait(stuck)
        peer.send(refusal)
        if end == "stay":
            wait(done)
        elif end == "break":
            peer.reset()

    with serving(script) as server:
        async with wired() as client:
            got = await fetch(client, server.url, method="POST", content=LARGE * 4)
            assert (got.status, got.body, got.trace.error) == (413, b"no", None)
            done.set()
            again = await fetch(client, server.url, method="POST", content=LARGE * 4)
    assert again.trace.connection.fresh
    assert again.trace.connection.reopened == 0


@pytest.mark.parametrize("waiting", [False, True])
async def test_connection_that_breaks_while_sending(waiting: bool, stuck: Event) -> None:  # noqa: FBT001
    """A server that goes away in the middle of a request is an error of the system."""

    def script(peer: Peer) -> None:
        peer.sock.recv(1)
        if waiting:
            wait(stuck)
        peer.reset()

    with serving(script) as server:
        async with wired() as client:
            with pytest.raises(httpx.ReadError) as raised:
                await fetch(client, server.url, method="POST", content=LARGE * 4)
    assert isinstance(raised.value.__cause__, OSError)
    assert len(server.peers) == 1


async def test_body_that_is_too_large() -> None:
    """A body that outgrows its limit is given up at once, however much the server has to send."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED)
        while True:
            peer.send(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    with serving(script) as server:
        async with wired() as client:
            got = await fetch(client, server.url, trace=Trace(max_bytes=1_000_000))
    assert isinstance(got.trace.error, BodyTooLargeError)
    assert "1,000,000" in str(got.trace.error)
    # One read beyond the limit, and the framing counts.
    assert 900_000 < len(got.body) <= got.trace.body_bytes < 1_000_000 + 2 * (1 << 16)


@st.composite
def responses(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Draw a response, cut in pieces, and its body."""
    body = draw(st.binary(max_size=300))
    framing = draw(st.sampled_from(["length", "chunks", "close"]))
    head = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"])) + OK
    if framing == "length":
        wire = head + b"content-length: %d\r\n\r\n" % len(body) + body
    elif framing == "close":
        wire = head + b"connection: close\r\n\r\n" + body
    else:
        chunks = [piece for piece in draw(cut(body)) if piece]
        trailer = draw(st.sampled_from([b"", b"x-sum: 1\r\n"]))
        wire = head + b"transfer-encoding: chunked\r\n\r\n"
        wire += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        wire += b"0\r\n" + trailer + b"\r\n"
    return draw(cut(wire)), body


@given(drawn=responses(), size=st.sampled_from([1, 2, 5, 17, 1 << 16]))
@settings(max_examples=60)
async def test_cuts_do_not_matter(drawn: tuple[list[bytes], bytes], size: int) -> None:
    """However a response is cut into segments and reads, its body is the same."""
    pieces, body = drawn

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(*pieces)

    with serving(script) as server, read_by(size):
        async with wired() as client:
            got = await fetch(client, server.url)
    assert got.trace.error is None
    assert got.body == body


@given(garbage=st.binary(max_size=200), size=st.sampled_from([1, 1 << 16]))
@settings(max_examples=60)
async def test_garbage_is_an_httpx_error(garbage: bytes, size: int) -> None:
    """Whatever bytes a server sends, they are an answer or an error of httpx, and nothing else."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(garbage)

    with serving(script) as server, read_by(size):
        async with wired() as client:
            with pytest.raises(httpx.TransportError):
                await fetch(client, server.url)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_stamps_lie_between_sending_and_reading(secure: bool, tls: Tls) -> None:  # noqa: FBT001
    """Each read bears the kernel's stamp: after the server's sending, before the reading."""
    count = 50
    taken = Semaphore(0)
    sent: list[tuple[int, int]] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED)
        for _ in range(count):
            sent.append(peer.send(b"5\r\nhello\r\n"))
            assert taken.acquire(timeout=LIMIT_S)  # so that no two are merged
        peer.send(b"0\r\n\r\n")

    with serving(script, tls.server if secure else None) as server:
        async with wired(verify=tls.client) as client:
            trace = Trace(wake_bytes=0)
            async with streaming(client, server.url, trace):
                while not trace.ended:
                    await trace.wait()
                    taken.release()
    assert trace.user_stamped == 0
    arrived_at_ns, read_at_ns, pieces = trace.take_pieces()
    assert pieces == [b"hello"] * count
    assert arrived_at_ns == sorted(arrived_at_ns)
    for (sent_ns, _), arrived_ns, read_ns in zip(sent, arrived_at_ns, read_at_ns, strict=True):
        assert sent_ns - NS_PER_MS < arrived_ns <= read_ns


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_blocked_loop_moves_no_stamp(secure: bool, tls: Tls) -> None:  # noqa: FBT001
    """While the event loop is blocked, bytes are stamped as they come; the block is read lag."""
    block, sent = Event(), Event()
    instants: list[tuple[int, int]] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + b"5\r\nhello\r\n")
        wait(block)
        instants.append(peer.send(b"5\r\nworld\r\n"))
        sent.set()
        peer.send(b"0\r\n\r\n")

    def block_the_loop() -> None:
        block.set()
        wait(sent)
        time.sleep(2 * CERTAINLY_ARRIVED_NS / NS_PER_S)

    with serving(script, tls.server if secure else None) as server:
        async with wired(verify=tls.client) as client:
            trace = Trace(wake_bytes=0)
            async with streaming(client, server.url, trace):
                while not trace.pieces:
                    await trace.wait()
                block_the_loop()
                while not trace.ended:
                    await trace.wait()
    ((before_ns, after_ns),) = instants
    (_, arrived_ns), (_, read_ns), (_, data) = trace.take_pieces()
    assert (data, trace.user_stamped) == (b"world", 0)
    assert before_ns - NS_PER_MS < arrived_ns < after_ns + CERTAINLY_ARRIVED_NS
    assert read_ns >= after_ns + 2 * CERTAINLY_ARRIVED_NS


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_stamps_that_are_missing(
    secure: bool,  # noqa: FBT001
    tls: Tls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reads without a stamp are counted, and bear the instant of the reading."""
    monkeypatch.setattr(connection, "stamp_receives", lambda _: None)
    with serving(answering(SMALL), tls.server if secure else None) as server:
        async with wired(verify=tls.client) as client:
            got = await fetch(client, server.url)
    assert got.trace.user_stamped >= got.trace.read_count == 1
    arrived_at_ns, read_at_ns, _ = got.trace.take_pieces()
    assert arrived_at_ns == read_at_ns


async def test_stamp_that_is_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clocks disagree a little, nothing is read before it has come."""
    monkeypatch.setattr(connection, "wall_ns", lambda _: time.time_ns() + NS_PER_S)
    with serving(answering(SMALL)) as server:
        async with wired() as client:
            got = await fetch(client, server.url)
    arrived_at_ns, read_at_ns, _ = got.trace.take_pieces()
    assert arrived_at_ns == read_at_ns


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_keeps_connections(version: ssl.TLSVersion, tls: Tls) -> None:
    """Requests follow each other over one TLS connection, whose handshake is timed."""
    context = tls.context_for("127.0.0.1")
    context.maximum_version = version
    with serving(answering(SMALL), context) as server:
        async with wired(verify=tls.client) as client:
            first, second = [await fetch(client, server.url) for _ in range(2)]
    assert first.body == second.body == b"ok"
    assert (first.trace.connection.fresh, second.trace.connection.fresh) == (True, False)
    assert first.trace.connection.tls_ns > 0
    assert second.trace.connection.tls_ns == 0
    assert len(server.peers) == 1


async def test_unknown_authority(tls: Tls) -> None:
    """A certificate of an authority that nobody knows is refused, and the cause is kept."""
    with serving(answering(SMALL), tls.server) as server:
        async with wired() as client:
            assert "verify failed" in await refused(client, server.url)


async def test_certificate_for_another_host(tls: Tls) -> None:
    """A certificate for another name is refused."""
    with serving(answering(SMALL), tls.context_for("example.org")) as server:
        async with wired(verify=tls.client) as client:
            assert "IP address mismatch" in await refused(client, server.url)
            named = server.url.replace("127.0.0.1", "localhost")
            assert "Hostname mismatch" in await refused(client, named)


async def test_certificate_that_has_expired(tls: Tls) -> None:
    """A certificate that has expired is refused."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with serving(answering(SMALL), tls.context_for("127.0.0.1", not_after=past)) as server:
        async with wired(verify=tls.client) as client:
            assert "expired" in await refused(client, server.url)


async def refused(client: httpx.AsyncClient, url: str) -> str:
    """Return why the certificate of the server at this URL is not taken."""
    with pytest.raises(httpx.ConnectError) as raised:
        await client.get(url)
    assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
    return str(raised.value)


async def test_no_verification(tls: Tls) -> None:
    """Who asks for it takes any certificate."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with serving(answering(SMALL), tls.context_for("example.org", not_after=past)) as server:
        async with wired(verify=False) as client:
            assert (await fetch(client, server.url)).body == b"ok"


async def test_settings_of_ones_own(tls: Tls) -> None:
    """TLS settings that are given are used as they are."""
    context = ssl.create_default_context(cafile=tls.client)
    with serving(answering(SMALL), tls.server) as server:
        async with wired(verify=context) as client:
            assert (await fetch(client, server.url)).body == b"ok"
            named = server.url.replace("127.0.0.1", "localhost")
            assert (await fetch(client, named)).body == b"ok"


async def test_tls_with_a_plain_server() -> None:
    """A server that speaks no TLS is an error of TLS."""

    def script(peer: Peer) -> None:
        peer.sock.recv(1)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.until_gone()

    with serving(script) as server:
        async with wired() as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get(server.url.replace("http:", "https:"))
    assert isinstance(raised.value.__cause__, ssl.SSLError)


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
async def test_closed_in_the_handshake(end: Callable[[Peer], None]) -> None:
    """A server that goes away in the handshake gives no connection."""

    def script(peer: Peer) -> None:
        peer.sock.recv(1)
        end(peer)

    with serving(script) as server:
        async with wired() as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get(server.url.replace("http:", "https:"))
    assert isinstance(raised.value.__cause__, ConnectionResetError)


async def test_protocol_that_is_refused_in_the_handshake(tls: Tls) -> None:
    """A server that refuses with an alert is an error of TLS, though it closes at once."""
    context = tls.context_for("127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client_context = ssl.create_default_context(cafile=tls.client)
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    with serving(answering(SMALL), context) as server:
        async with wired(verify=client_context) as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get(server.url)
    assert isinstance(raised.value.__cause__, ssl.SSLError)
    assert "ALERT" in str(raised.value)


class RecordsInHand:
    """TLS at the server's end where a test says which records are sent together."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self._peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake_hands(self) -> bytes:
        """Return the records that are still to be sent when the server is done."""
        while True:
            try:
                self._tls.do_handshake()
                return self._outgoing.read()
            except ssl.SSLWantReadError:
                self._peer.send(self._outgoing.read())
                self._incoming.write(self._peer.sock.recv(1 << 16))

    def request(self) -> None:
        """Take a request without a body."""
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            try:
                asked += self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self._incoming.write(self._peer.sock.recv(1 << 16))

    def seal(self, data: bytes) -> bytes:
        """Return the records that hold these bytes."""
        self._tls.write(data)
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """Return the record that says that nothing more will come."""
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._outgoing.read()


@pytest.mark.parametrize("size", [1, 1 << 16])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tickets_and_answer_together(version: ssl.TLSVersion, size: int, tls: Tls) -> None:
    """Records of the handshake and of the answer may share a segment, or be cut anywhere."""
    context = tls.context_for("127.0.0.1")
    context.maximum_version = version

    def script(peer: Peer) -> None:
        records = RecordsInHand(peer, context)
        tickets = records.shake_hands()
        if version is ssl.TLSVersion.TLSv1_2:
            peer.send(tickets)  # the client waits for them
            tickets = b""
        records.request()
        peer.send(tickets + records.seal(SMALL[:9]) + records.seal(SMALL[9:]) + records.goodbye())

    with serving(script) as server, read_by(size):
        async with wired(verify=tls.client) as client:
            got = await fetch(client, server.url.replace("http:", "https:"))
    assert (got.trace.error, got.body) == (None, b"ok")
    assert got.trace.user_stamped == 0


@pytest.mark.parametrize("politely", [False, True])
async def test_tls_body_until_the_close(politely: bool, tls: Tls) -> None:  # noqa: FBT001
    """The end of a TLS connection ends a body that has no other end, said or not."""

    def script(peer: Peer) -> None:
        records = RecordsInHand(peer, tls.server)
        peer.send(records.shake_hands())
        records.request()
        peer.send(records.seal(OK + b"\r\nhello"))
        if politely:
            peer.send(records.goodbye())
            peer.until_gone()

    with serving(script) as server:
        async with wired(verify=tls.client) as client:
            got = await fetch(client, server.url.replace("http:", "https:"))
    assert (got.trace.error, got.body) == (None, b"hello")


@pytest.mark.parametrize("politely", [False, True])
async def test_tls_body_that_is_cut(politely: bool, tls: Tls) -> None:  # noqa: FBT001
    """A TLS connection that ends within a body is an error, politely ended or not."""

    def script(peer: Peer) -> None:
        records = RecordsInHand(peer, tls.server)
        peer.send(records.shake_hands())
        records.request()
        peer.send(records.seal(OK + b"content-length: 9\r\n\r\nhello"))
        if politely:
            peer.send(records.goodbye())
            peer.until_gone()

    with serving(script) as server:
        async with wired(verify=tls.client) as client:
            got = await fetch(client, server.url.replace("http:", "https:"))
    assert "closed before the answer was whole" in str(got.trace.error)


async def test_tls_record_that_is_none(tls: Tls) -> None:
    """Bytes that are no TLS record are an error of TLS."""

    def script(peer: Peer) -> None:
        records = RecordsInHand(peer, tls.server)
        peer.send(records.shake_hands())
        records.request()
        peer.send(records.seal(OK + b"content-length: 9\r\n\r\nhello") + b"no record at all")
        peer.until_gone()

    with serving(script) as server:
        async with wired(verify=tls.client) as client:
            got = await fetch(client, server.url.replace("http:", "https:"))
    assert isinstance(got.trace.error, ssl.SSLError)


@pytest.mark.parametrize("what", ["data", "goodbye"])
async def test_server_that_ends_with_the_handshake(what: str, tls: Tls) -> None:
    """A server that speaks unasked, or leaves, with its last word of the handshake is an error."""
    context = tls.context_for("127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def script(peer: Peer) -> None:
        records = RecordsInHand(peer, context)
        finished = records.shake_hands()
        peer.send(finished + (records.seal(SMALL) if what == "data" else records.goodbye()))
        peer.until_gone()

    with serving(script) as server:
        async with wired(verify=tls.client) as client:
            with pytest.raises(httpx.ReadError) as raised:
                await fetch(client, server.url.replace("http:", "https:"))
    assert isinstance(raised.value.__cause__, ConnectionResetError)
    assert len(server.peers) == 1
