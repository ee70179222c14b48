"""The measuring wire: an httpx transport with sockets of our own.

Requests, auth, URLs and TLS settings are httpx's; sockets and stamps are ours.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import anyio
import certifi
import httpx
from attrs import evolve

from llmperf_core.wire.connection import Connection
from llmperf_core.wire.poller import Poller
from llmperf_core.wire.trace import EXTENSION, Trace

_Origin: TypeAlias = tuple[bytes, bytes, int]
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
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        trace.noted = True
        message = await _message(request)
        with _as_httpx(timeouts.get("read")), anyio.fail_after(timeouts.get("read")):
            connection = await self._exchange(request, message, trace, timeouts.get("connect"))
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=_Body(self, _origin(request.url), connection, trace, timeouts.get("read")),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": connection.reason},
            request=request,
        )

    async def aclose(self) -> None:
        """Close every idle connection, and give the epoll back."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        if self._poller is not None:
            self._poller.close()
            self._poller = None

    def release(self, origin: _Origin, connection: Connection) -> None:
        """Keep a connection for the next request if it can carry one, else close it."""
        if connection.reusable and self._poller is not None:
            self._idle.setdefault(origin, []).append(connection)
        else:
            connection.close()

    async def _exchange(
        self, request: httpx.Request, message: bytes, trace: Trace, connect_s: float | None
    ) -> Connection:
        connection = self._reuse(_origin(request.url), trace)
        if connection is None:
            connection = await self._connect(request.url, trace, connect_s)
        bodyless = request.method == "HEAD"
        try:
            if trace.not_before_ns is not None:
                await self.until(trace.not_before_ns)
            try:
                await connection.send(message, trace, bodyless=bodyless)
            except OSError:
                if trace.connection.fresh or connection.answered:
                    raise
                # The server had closed an idle connection, which it may at any time: the request
                # was never taken up. It costs a fresh connection, and is counted.
                trace.reopen()
                connection = await self._connect(request.url, trace, connect_s)
                await connection.send(message, trace, bodyless=bodyless)
        except BaseException:
            connection.close()
            raise
        return connection

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
        began_at_ns = connected_at_ns = time.monotonic_ns()
        try:
            with anyio.fail_after(connect_s):
                connection = Connection(self._polling(), await _open_socket(host.decode(), port))
                connected_at_ns = time.monotonic_ns()
                if url.scheme == "https":
                    try:
                        await connection.start_tls(self._tls_context(), host.decode())
                    except BaseException:
                        connection.close()
                        raise
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {connect_s} s") from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        trace.connection = evolve(
            trace.connection,
            fresh=True,
            connect_ns=connected_at_ns - began_at_ns,
            tls_ns=time.monotonic_ns() - connected_at_ns if url.scheme == "https" else 0,
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
                with _as_httpx(self._read_s), anyio.fail_after(self._read_s):
                    await self._trace.wait()
        if self._trace.error is not None:
            with _as_httpx(self._read_s):
                raise self._trace.error

    async def aclose(self) -> None:
        self._wire.release(self._origin, self._connection)


@contextmanager
def _as_httpx(read_s: float | None) -> Iterator[None]:
    """Raise the system's errors as httpx's, with the former as the cause."""
    try:
        yield
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"nothing came for {read_s} s") from error
    except OSError as error:
        raise httpx.ReadError(str(error)) from error


async def _open_socket(host: str, port: int) -> socket.socket:
    """Return a connected, non-blocking socket; the addresses of a name are tried in order."""
    error: OSError | None = None
    for family, kind, protocol, _, address in await anyio.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)  # noqa: FBT003 -- the socket module's own
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as failure:
            sock.close()
            error = failure
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error or OSError(f"no address for {host}")


def _origin(url: httpx.URL) -> _Origin:
    return url.raw_scheme, url.raw_host, url.port or _DEFAULT_PORTS[url.raw_scheme]


async def _message(request: httpx.Request) -> bytes:
    """Return the request as bytes.

    Raises:
        httpx.LocalProtocolError: a header would break out of its line.
    """
    body = await request.aread()
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
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
