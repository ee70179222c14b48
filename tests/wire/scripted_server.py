"""A real server in threads that plays bytes as a test says, and what the tests of the wire share.

It runs beside the client's event loop, not in it: a loop that is blocked on purpose does not keep
the server from sending.
"""

import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import TypeAlias

import anyio
import httpx
import pytest
import uvloop
from attrs import Factory, define, frozen

from llmperf_core.wire import connection
from llmperf_core.wire.trace import EXTENSION, Trace
from llmperf_core.wire.transport import Wire

LIMIT_S = 20.0
"""Longer than anything here takes: whoever waits so long has hung."""
BACKENDS = [
    ("asyncio", {"use_uvloop": False}),
    ("asyncio", {"use_uvloop": True}),
]
"""The event loops that the wire runs on, as anyio's pytest plugin names them."""
SMALL = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
"""A whole response, after which the connection can be used again."""


class GoneError(Exception):
    """The client has closed the connection. Ends a script."""


@define
class Peer:
    """The server's end of one connection."""

    index: int
    """Ordinal of the connection, from 0."""
    sock: socket.socket
    _received: bytes = b""

    def request(self) -> bytes:
        """Return the next request, head and body.

        Raises:
            GoneError: the client has closed the connection.
        """
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        pieces = [self._received]
        size = len(self._received)
        while size < length:
            pieces.append(self._chunk())
            size += len(pieces[-1])
        whole = b"".join(pieces)
        self._received = whole[length:]
        return head + b"\r\n\r\n" + whole[:length]

    def send(self, *pieces: bytes) -> tuple[int, int]:
        """Send each piece by a call of its own; return the instants before and after, in ns."""
        before_ns = time.monotonic_ns()
        for piece in pieces:
            self.sock.sendall(piece)
        return before_ns, time.monotonic_ns()

    def until_gone(self) -> None:
        """Read what comes until the client closes the connection."""
        with suppress(GoneError):
            while True:
                self._chunk()

    def reset(self) -> None:
        """Break the connection off: the client gets an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def _receive(self) -> None:
        self._received += self._chunk()

    def _chunk(self) -> bytes:
        data = self.sock.recv(1 << 18)
        if not data:
            raise GoneError
        return data


Script: TypeAlias = Callable[[Peer], None]
"""What is done with each connection; it is closed when the script has ended."""


def answering(*responses: bytes) -> Script:
    """Return a script that gives these answers, one for each request, and the last again."""

    def script(peer: Peer) -> None:
        left = list(responses)
        while True:
            peer.request()
            peer.send(left.pop(0) if len(left) > 1 else left[0])

    return script


def wait(event: Event) -> None:
    """Block until the event is set."""
    assert event.wait(LIMIT_S), "nothing has happened for too long"


@define
class Server:
    """A running server."""

    url: str
    listener: socket.socket
    peers: list[Peer] = Factory(list)
    """The connections so far."""
    errors: list[BaseException] = Factory(list)
    """What scripts raised, beside the client's going away."""
    _threads: list[Thread] = Factory(list)

    def accept(self, script: Script, tls: ssl.SSLContext | None) -> None:
        """Play the script for each connection until the listener is shut down."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(len(self.peers), sock)
            self.peers.append(peer)
            thread = Thread(target=self._play, args=(peer, script, tls))
            self._threads.append(thread)
            thread.start()

    def refuse(self) -> None:
        """Accept no connection any more."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End every connection, and wait for the scripts."""
        for peer in self.peers:
            with suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), "a script does not end"

    def _play(self, peer: Peer, script: Script, tls: ssl.SSLContext | None) -> None:
        try:
            if tls is not None:
                peer.sock = tls.wrap_socket(peer.sock, server_side=True)
            script(peer)
        except (GoneError, OSError):
            pass  # the client may go whenever it likes; what it makes of it is asserted there
        except BaseException as error:  # noqa: BLE001 -- raised again where the server is ended
            self.errors.append(error)
        finally:
            peer.sock.close()


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Play the script for each connection to a free port; nothing is left when the block ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", listener)
        acceptor = Thread(target=server.accept, args=(script, tls))
        acceptor.start()
        try:
            yield server
        finally:
            server.refuse()
            acceptor.join(LIMIT_S)
            server.end()
    if server.errors:
        raise server.errors[0]


@asynccontextmanager
async def wired(*, verify: bool | str | ssl.SSLContext = True) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client whose transport is the wire."""
    wire = Wire(verify=verify)
    async with httpx.AsyncClient(transport=wire, timeout=LIMIT_S, trust_env=False) as client:
        yield client


@asynccontextmanager
async def streaming(
    client: httpx.AsyncClient, url: str, trace: Trace
) -> AsyncIterator[httpx.Response]:
    """Make a request, and leave the taking in of its body to the block."""
    async with client.stream("GET", url, extensions={EXTENSION: trace}) as response:
        with anyio.fail_after(LIMIT_S):
            yield response


def wire_of(client: httpx.AsyncClient) -> Wire:
    """Return the wire below a client."""
    assert isinstance(client._transport, Wire)
    return client._transport


@frozen
class Fetched:
    """A whole response."""

    response: httpx.Response
    body: bytes
    trace: Trace

    @property
    def status(self) -> int:
        """The status of the response."""
        return self.response.status_code


def pieces_of(trace: Trace) -> tuple[list[int], list[int], list[bytes]]:
    """Return when each piece of a body arrived, when it was read, and its bytes; keep them."""
    kept = trace.pieces.copy()
    taken = trace.take_pieces()
    trace.pieces.extend(kept)
    return taken


async def fetch(
    client: httpx.AsyncClient,
    url: str,
    *,
    trace: Trace | None = None,
    method: str = "GET",
    content: bytes | None = None,
) -> Fetched:
    """Make a request as the harness does: its trace takes the body in, and keeps what broke it."""
    trace = trace if trace is not None else Trace()
    request = client.build_request(method, url, content=content, extensions={EXTENSION: trace})
    response = await client.send(request, stream=True)
    try:
        with anyio.fail_after(LIMIT_S):
            while not trace.ended:
                await trace.wait()
    finally:
        await response.aclose()
    return Fetched(response, b"".join(pieces_of(trace)[2]), trace)


@contextmanager
def read_by(size: int) -> Iterator[None]:
    """Have the wire read at most this many bytes at a time: as if each came in its own segment."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connection, "_READ_BYTES", size)
        yield


def open_descriptors() -> int:
    """Return how many descriptors this process holds."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@cache
def _let_uvloop_open_its_own() -> None:
    """Make the first event loop of the process: it opens descriptors that are never closed."""
    uvloop.new_event_loop().close()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Fail if more descriptors are open at the end of the block than at its begin."""
    _let_uvloop_open_its_own()
    before = open_descriptors()
    yield
    assert open_descriptors() <= before
