"""One HTTP/1.1 connection whose every read is stamped by the kernel.

Between two stamps nothing happens but framing, in C, and appending.
"""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable

import httptools
import httpx

from llmperf_core.wire.poller import CLOSE_NS, READABLE, WRITABLE, Poller
from llmperf_core.wire.stamps import ANCILLARY_BYTES, stamp_receives, wall_ns
from llmperf_core.wire.trace import BodyTooLargeError, Trace

_READ_BYTES = 1 << 16
# Precedents: Node allows 16 KiB, nginx 32 KiB. No server of a model needs more.
_MAX_HEAD_BYTES = 1 << 16


class Connection:
    """A connected socket, plain or TLS, that carries one request at a time."""

    def __init__(self, poller: Poller, sock: socket.socket) -> None:
        self._poller, self._sock, self._fd = poller, sock, sock.fileno()
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._take: Callable[[bytes], object] = self._parse
        self._waiter: asyncio.Future[None] | None = None
        self._at_ns = self._read_at_ns = 0
        self._trace: Trace | None = None
        self._extend: Callable[[tuple[int, int, bytes]], None]
        self._recvmsg, self._wall = sock.recvmsg, poller.wall
        self._parser: httptools.HttpResponseParser | None = None
        self._bodyless = self._framed = False
        self.answered = False
        """Whether any byte of the answer to the latest request has come."""
        self._head_bytes = 0
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_done = False
        self.reusable = False
        """Whether another request may follow."""
        self.closed = False
        stamp_receives(sock)
        poller.watch(self._fd, self._on_ready)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Shake hands.

        Raises:
            ssl.SSLError: the certificate or the protocol is not acceptable.
            OSError: the connection broke.
        """
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._take = self._incoming.write
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._send_raw(self._outgoing.read())
                await self._wait()
                if self.closed:
                    raise ConnectionResetError(
                        errno.ECONNRESET, "closed in the handshake"
                    ) from None
        await self._send_raw(self._outgoing.read())
        self._tls, self._take = tls, self._decrypt
        self._decrypt(b"")

    def close(self) -> None:
        """Close the socket. A response that was on its way is left as it is."""
        if not self.closed:
            self.closed, self.reusable = True, False
            self._poller.forget(self._fd)
            self._sock.close()
            self._wake()

    def is_stale(self) -> bool:
        """Return whether the server has closed this idle connection, or spoken unasked."""
        if self.closed:
            return True
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    async def send(self, request: bytes, trace: Trace, *, bodyless: bool) -> None:
        """Send a whole request, and return when the head of its response has come.

        Args:
            request: head and body.
            trace: notes what happens from here on.
            bodyless: the response has no body whatever its head says: it answers a HEAD.

        Raises:
            OSError: the connection broke.
            httpx.RemoteProtocolError: what came is not HTTP/1.1.
        """
        self._trace, self._bodyless, self._extend = trace, bodyless, trace.pieces.extend
        self._parser = httptools.HttpResponseParser(self)
        self._forget_head()
        self.answered = self.reusable = self._framed = False
        trace.sent_at_ns = time.monotonic_ns()
        if self._tls is not None:
            self._tls.write(request)
            request = self._outgoing.read()
        await self._send_raw(request)
        while not self.head_done:
            if trace.error is not None:
                raise trace.error
            await self._wait()

    async def _send_raw(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                self._poller.change(self._fd, READABLE | WRITABLE)
                await self._wait()
                if self.closed:
                    raise ConnectionResetError(errno.ECONNRESET, "closed while sending") from None
                self._poller.change(self._fd, READABLE)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _on_ready(self, mask: int) -> None:
        if mask != WRITABLE:
            self._receive()
        if self._waiter is not None:
            self._wake()

    def _receive(self) -> None:
        try:
            data, ancillary, _, _ = self._recvmsg(_READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._broke(error)
            return
        at_ns = read_at_ns = time.monotonic_ns()
        if not data:
            self._read_at_ns = self._at_ns = read_at_ns
            self._end_of_file()
            return
        if ancillary:
            # Nothing is read before it has come: at most the two clocks disagree a little.
            at_ns = min(wall_ns(ancillary) - self._wall.offset_ns, read_at_ns)
        elif self._trace is not None:
            self._trace.user_stamped += 1
        if at_ns - self._at_ns < CLOSE_NS:
            self._poller.close_reads += 1
            # The offset between the clocks is an estimate: it must not let time run backwards.
            at_ns = max(at_ns, self._at_ns)
        self._at_ns, self._read_at_ns = at_ns, read_at_ns
        self._take(data)

    def _decrypt(self, data: bytes) -> None:
        assert self._tls is not None  # noqa: S101 -- for the type checker: `_take` says so
        self._incoming.write(data)
        try:
            while plain := self._tls.read(_READ_BYTES):
                self._parse(plain)
            self._end_of_file()  # the peer's close_notify
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._broke(error)

    def _parse(self, data: bytes) -> None:
        trace = self._trace
        if trace is None or self._parser is None or trace.ended:
            self.close()  # it speaks unasked
            return
        self.answered = True
        before = len(trace.pieces)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broke(httpx.RemoteProtocolError(f"not an HTTP/1.1 response: {error}"))
            return
        if not self.head_done:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._broke(httpx.RemoteProtocolError("the head of the response has no end"))
            return
        if len(trace.pieces) > before + 3:
            self._poller.close_reads += 1
        try:
            trace.grew(len(data))
        except BodyTooLargeError as error:
            self._broke(error)

    def _end_of_file(self) -> None:
        if self._trace is None or self._trace.ended:
            self.close()
        elif self.head_done and not self._framed:
            self._trace.end(self._at_ns)  # the close was the end of the body
            self.close()
        elif self.head_done:
            self._broke(httpx.RemoteProtocolError("closed before the body was whole"))
        else:
            self._broke(ConnectionResetError(errno.ECONNRESET, "closed before it answered"))

    def _broke(self, error: Exception) -> None:
        if self._trace is not None:
            self._trace.end(self._read_at_ns or time.monotonic_ns(), error)
        self.close()

    def _forget_head(self) -> None:
        self.status, self.reason, self.headers = 0, b"", []
        self.head_done = False
        self._head_bytes = 0

    # What httptools calls, in the order of a response.

    def on_message_begin(self) -> None:
        """Refuse a second response to one request."""
        if self._trace is None or self._trace.ended:
            raise httpx.RemoteProtocolError("the server spoke unasked")

    def on_status(self, reason: bytes) -> None:
        """Take the reason phrase."""
        self.reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = name.lower()
        self.headers.append((name, value))
        if name in {b"content-length", b"transfer-encoding"}:
            self._framed = True

    def on_headers_complete(self) -> None:
        """Take the end of the head; those of 1xx responses do not count."""
        assert self._parser is not None  # noqa: S101 -- for the type checker: it is calling
        self.status = self._parser.get_status_code()
        self.head_done = self.status >= 200
        if self._bodyless and self.head_done:
            self.on_message_complete()

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body: the one thing that happens between two stamps."""
        self._extend((self._at_ns, self._read_at_ns, data))

    def on_message_complete(self) -> None:
        """Take the end of the response."""
        if not self.head_done:
            self._forget_head()  # that was a 1xx; the response itself is still to come
            return
        if self._trace is not None and self._parser is not None and not self._trace.ended:
            self.reusable = self._parser.should_keep_alive() and not self.closed
            self._trace.end(self._at_ns)
