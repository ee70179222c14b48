"""The measuring wire: an httpx transport with sockets of our own.

Requests, auth, URLs and TLS settings are httpx's; sockets and stamps are ours.
"""

import asyncio
import errno
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias
from weakref import WeakSet

import anyio
import certifi
import httpx
from attrs import evolve

from llmperf_core.wire.connection import Connection
from llmperf_core.wire.poller import Poller
from llmperf_core.wire.trace import EXTENSION, Trace

_Origin: TypeAlias = tuple[bytes, bytes, int]
_Timeouts: TypeAlias = Mapping[str, float | None]
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_BREAKS_LINE = re.compile(rb"[\r\n\0]")


class Wire(httpx.AsyncBaseTransport):
    """HTTP/1.1 over sockets whose receives the kernel stamps; Linux and asyncio (or uvloop) only.

    A request whose extensions hold a `Trace` under `EXTENSION` has every read noted there; without
    one it is an ordinary httpx transport. Connections are kept alive without a limit, so nothing
    waits for a free one.
    """

    def __init__(self, *, verify: bool | str | ssl.SSLContext = True) -> None:
        self._verify = verify
        self._context: ssl.SSLContext | None = None
        self._poller: Poller | None = None
        self._connections: WeakSet[Connection] = WeakSet()
        self._idle: dict[_Origin, list[Connection]] = {}

    @property
    def clock_steps(self) -> int:
        """How often the wall clock, which the kernel stamps with, jumped so far."""
        return self._poller.wall.steps if self._poller is not None else 0

    async def until(self, at_ns: int) -> None:
        """Return once the monotonic clock has reached `at_ns`, by a timer of the kernel."""
        await self._polling().alarm.until(at_ns)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request, and return when the head of its response has come.

        Raises:
            httpx.TransportError: it could not; the cause is the system's own error.
        """
        trace = request.extensions.get(EXTENSION) or Trace(wake_bytes=0)
        timeouts: _Timeouts = request.extensions.get("timeout", {})
        trace.begin()
        connection = await self._exchange(request, await _message(request), trace, timeouts)
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=_Body(self, _origin(request.url), connection, trace, timeouts.get("read")),
            extensions={
                "http_version": connection.version,
                "reason_phrase": connection.reason,
            },
            request=request,
        )

    async def aclose(self) -> None:
        """Close every connection, and give the epoll back. What was on its way has failed."""
        for connection in tuple(self._connections):
            connection.fail(ConnectionAbortedError(errno.ECONNABORTED, "the wire was closed"))
        self._idle.clear()
        if self._poller is not None:
            self._poller.close()
            self._poller = None

    def release(self, origin: _Origin, connection: Connection) -> None:
        """Keep a connection for the next request if it can carry one, else close it."""
        if connection.reusable:
            self._idle.setdefault(origin, []).append(connection)
        else:
            connection.close()

    async def _exchange(
        self, request: httpx.Request, message: bytes, trace: Trace, timeouts: _Timeouts
    ) -> Connection:
        connection = self._reuse(_origin(request.url), trace)
        if connection is None:
            connection = await self._connect(request.url, trace, timeouts.get("connect"))
        try:
            if trace.not_before_ns is not None:
                with _reading(None):
                    await self.until(trace.not_before_ns)
            while True:
                try:
                    with _reading(timeouts.get("read")):
                        await connection.send(message, trace, bodyless=request.method == "HEAD")
                except httpx.ReadError:
                    if trace.connection.fresh or connection.answered:
                        raise
                else:
                    return connection
                # The server had closed an idle connection, which it may at any time: the request
                # was never taken up. It costs a fresh connection, and is counted.
                trace.reopen()
                connection = await self._connect(request.url, trace, timeouts.get("connect"))
        except BaseException:
            connection.close()
            raise

    def _reuse(self, origin: _Origin, trace: Trace) -> Connection | None:
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            if not connection.is_stale():
                trace.connection = evolve(trace.connection, fresh=False)
                return connection
            connection.close()
            trace.reopen()
        return None

    async def _connect(self, url: httpx.URL, trace: Trace, connect_s: float | None) -> Connection:
        _, host, port = _origin(url)
        tls_ns = 0
        try:
            context = self._tls_context() if url.scheme == "https" else None
            began_at_ns = time.monotonic_ns()
            with anyio.fail_after(connect_s):
                sock = await _open_socket(host.decode(), port)
                connected_at_ns = time.monotonic_ns()
                connection = Connection(self._polling(), sock)
                self._connections.add(connection)
                if context is not None:
                    try:
                        await connection.start_tls(context, host.decode())
                    except BaseException:
                        connection.close()
                        raise
                    tls_ns = time.monotonic_ns() - connected_at_ns
        except TimeoutError as error:
            raise httpx.ConnectTimeout(
                str(error) or f"no connection within {connect_s} s"
            ) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        trace.connection = evolve(
            trace.connection,
            fresh=True,
            connect_ns=connected_at_ns - began_at_ns,
            tls_ns=tls_ns,
        )
        return connection

    def _polling(self) -> Poller:
        if self._poller is None:
            self._poller = Poller()
        return self._poller

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = tls_context(verify=self._verify)
        return self._context


def tls_context(*, verify: bool | str | ssl.SSLContext) -> ssl.SSLContext:
    """Return the TLS settings for a measuring connection.

    Args:
        verify: check certificates against the usual authorities, against the file of this name,
            or (False) not at all; a context is taken as it is.

    Raises:
        OSError: the file cannot be read.
        ssl.SSLError: the file holds no certificates.
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    context = ssl.create_default_context(
        cafile=verify if isinstance(verify, str) else certifi.where()
    )
    context.set_alpn_protocols(["http/1.1"])
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Body(httpx.AsyncByteStream):
    """The body for a consumer that iterates it; whoever owns the trace takes the reads instead."""

    def __init__(
        self,
        wire: Wire,
        origin: _Origin,
        connection: Connection,
        trace: Trace,
        read_s: float | None,
    ) -> None:
        self._wire, self._origin, self._connection = wire, origin, connection
        self._trace, self._read_s = trace, read_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        ended = False
        while not ended:
            ended = self._trace.ended
            for data in self._trace.take_pieces()[2]:
                yield data
            if not ended:
                with _reading(self._read_s):
                    await self._trace.wait()
        if self._trace.error is not None:
            with _reading(self._read_s):
                raise self._trace.error

    async def aclose(self) -> None:
        self._wire.release(self._origin, self._connection)


@contextmanager
def _reading(read_s: float | None) -> Iterator[None]:
    """Limit a wait, and raise the system's errors as httpx's, with the former as the cause."""
    try:
        with anyio.fail_after(read_s):
            yield
    except OSError as error:
        if isinstance(error, TimeoutError) and error.errno is None:  # not the system's own
            raise httpx.ReadTimeout(f"nothing came for {read_s} s") from error
        raise httpx.ReadError(str(error)) from error


async def _open_socket(host: str, port: int) -> socket.socket:
    """Return a connected, non-blocking socket; the addresses of a name are tried in order."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in await anyio.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        try:
            return await _connect_socket(socket.socket(family, kind, protocol), address)
        except OSError as error:
            failure = error
    raise failure or OSError(f"no address for {host}")


async def _connect_socket(sock: socket.socket, address: tuple[str, int]) -> socket.socket:
    try:
        sock.setblocking(False)  # noqa: FBT003 -- the socket module's own
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _origin(url: httpx.URL) -> _Origin:
    return url.raw_scheme, url.raw_host, url.port or _DEFAULT_PORTS[url.raw_scheme]


async def _message(request: httpx.Request) -> bytes:
    """Return the request as bytes.

    Raises:
        httpx.LocalProtocolError: the method or a header would break out of its place.
    """
    body = await request.aread()
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    if _BREAKS_LINE.search(lines[0]) or lines[0].count(b" ") != 2:
        raise httpx.LocalProtocolError(f"{request.method!r} is no method")
    for name, value in request.headers.raw:
        if _BREAKS_LINE.search(name + value):
            raise httpx.LocalProtocolError(
                f"header {name.decode(errors='replace')!r} has a line end"
            )
        if name.lower() != b"transfer-encoding":
            lines.append(b"%s: %s" % (name, value))
    if "transfer-encoding" in request.headers:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join((*lines, b"", body))
