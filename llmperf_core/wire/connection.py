"""One HTTP/1.1 connection whose every read is stamped by the kernel.

Between two stamps nothing happens but framing, in C, and appending.
"""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial

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
        self._error: Exception = ConnectionResetError(errno.ECONNRESET, "closed by the server")
        self._at_ns = self._read_at_ns = 0
        self._trace: Trace | None = None
        self._extend: Callable[[tuple[int, int, bytes]], None]
        self._recvmsg, self._wall = sock.recvmsg, poller.wall
        self._parser = httptools.HttpResponseParser(self)
        self._bodyless = self._framed = self._sent_whole = False
        self.answered: bool = False
        """Whether any byte of the answer to the latest request has come."""
        self._head_bytes = 0
        self.version: bytes = b""
        self.status: int = 0
        self.reason: bytes = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_done: bool = False
        self.reusable: bool = False
        """Whether another request may follow."""
        self.closed: bool = False
        stamp_receives(sock)
        poller.watch(self._fd, self._on_ready)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Shake hands.

        Raises:
            ssl.SSLError: the certificate or the protocol is not acceptable.
            OSError: the connection broke.
        """
        self._tls = tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._take = self._incoming.write
        while not _hands_are_shaken(tls):
            await self._send_raw(self._outgoing.read())
            if self.closed:
                raise self._error
            await self._wait()
        await self._send_raw(self._outgoing.read())
        self._take = partial(self._decrypt, tls)
        self._take(b"")

    def fail(self, error: Exception) -> None:
        """Close the socket, if it is open. A response that was on its way ends with this error."""
        if not self.closed:
            self._error = error
            if self._trace is not None:
                self._trace.end(time.monotonic_ns(), error)
            self.close()

    def close(self) -> None:
        """Close the socket. A response that was on its way is left as it is."""
        if not self.closed:
            self.closed, self.reusable = True, False
            self._poller.forget(self._fd)
            self._sock.close()
            self._wake()

    def is_stale(self) -> bool:
        """Return whether the server has closed this idle connection, or spoken unasked."""
        if not self.closed:
            self._receive()  # the poller may not have come to it yet
        return self.closed

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
        self.answered = self.reusable = self._sent_whole = False
        if self._tls is not None:
            request = self._encrypt(self._tls, request)
        if not self.closed:
            trace.sent_at_ns = time.monotonic_ns()
            self._sent_whole = await self._send_raw(request)
        while not self.head_done:
            if self.closed:
                raise self._error
            await self._wait()

    def _encrypt(self, tls: ssl.SSLObject, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[tls.write(view) :]  # one record at a time
        return self._outgoing.read()

    async def _send_raw(self, data: bytes) -> bool:
        """Return whether all was sent: the server may have closed, or answered, before that."""
        view = memoryview(data)
        while view and not (self.closed or (self._trace is not None and self._trace.ended)):
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                self._poller.change(self._fd, READABLE | WRITABLE)
                await self._wait()
                if not self.closed:
                    self._poller.change(self._fd, READABLE)
            except OSError:
                break  # why, or even an answer, is still to be read
        return not view

    async def _wait(self) -> None:
        """Return when something has happened."""
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
            self.fail(error)
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

    def _decrypt(self, tls: ssl.SSLObject, data: bytes) -> None:
        self._incoming.write(data)
        try:
            while plain := tls.read(_READ_BYTES):
                self._parse(plain)
            self._end_of_file()  # the peer's close_notify
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.fail(error)

    def _parse(self, data: bytes) -> None:
        trace = self._trace
        if trace is None or trace.ended:
            self.close()  # it speaks unasked
            return
        self.answered = True
        before = len(trace.pieces)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(httpx.RemoteProtocolError(f"not an HTTP/1.1 response: {error}"))
            return
        if not self.head_done:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.fail(httpx.RemoteProtocolError("the head of the response has no end"))
            return
        if len(trace.pieces) > before + 3:
            self._poller.close_reads += 1
        try:
            trace.grew(len(data))
        except BodyTooLargeError as error:
            self.fail(error)

    def _end_of_file(self) -> None:
        if self._trace is None or self._trace.ended:
            self.close()
        elif self.head_done and not self._framed:
            self._trace.end(self._at_ns)  # the close was the end of the body
            self.close()
        elif self.answered:
            self.fail(httpx.RemoteProtocolError("closed before the answer was whole"))
        else:
            self.fail(ConnectionResetError(errno.ECONNRESET, "closed before it answered"))

    def _forget_head(self) -> None:
        self.status, self.reason, self.headers = 0, b"", []
        self.head_done = self._framed = False
        self._head_bytes = 0

    # What httptools calls, in the order of a response.

    def on_message_begin(self) -> None:
        """Refuse a second response to one request."""
        if self._trace is None or self._trace.ended:
            raise httpx.RemoteProtocolError("the server spoke unasked")

    def on_status(self, reason: bytes) -> None:
        """Take a piece of the reason phrase."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is no part of the head."""
        if self.head_done:
            return
        name = name.lower()
        self.headers.append((name, value))
        chunked = name == b"transfer-encoding" and b"chunked" in value.lower()
        self._framed = self._framed or chunked or name == b"content-length"

    def on_headers_complete(self) -> None:
        """Take the end of the head; those of 1xx responses do not count."""
        self.version = b"HTTP/%b" % self._parser.get_http_version().encode()
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
        if self._trace is not None and not self._trace.ended:
            self.reusable = self._sent_whole and self._parser.should_keep_alive()
            self._trace.end(self._at_ns)


def _hands_are_shaken(tls: ssl.SSLObject) -> bool:
    """Take the handshake as far as it goes with what has come, and return whether it is done."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
