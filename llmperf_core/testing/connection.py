"""HTTP/1.1 on one socket, without an event loop."""

import socket
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

import httptools
from attrs import define, field, frozen

from llmperf_core.target import Json

_READ_BYTES = _WRITE_BYTES = 1 << 16
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_CLOSE = b"connection: close\r\n"

Headers = Mapping[str, Json]


@frozen(kw_only=True)
class Received:
    """One request that has come whole."""

    method: str
    path: str
    query: str
    """What follows the `?` of the target; empty if there is none."""
    headers: Mapping[str, str]
    """Under lower-case names."""
    body: bytes
    too_long: bool
    """The body was longer than is taken, and is not all there."""
    last: bool
    """The connection is to be closed after the answer."""


class Host(Protocol):
    """Who has connections."""

    def handle(self, connection: "Connection", request: Received) -> None:
        """Answer a request. The next one comes only after the answer to the one before."""
        ...

    def want_write(self, connection: "Connection") -> None:
        """Call its `flush` when the client has read: bytes wait for that."""
        ...

    def forget(self, connection: "Connection") -> None:
        """Look no more at its socket, which is about to be closed."""
        ...


@define(eq=False)
class Connection:
    """One client's connection: requests in, one after the other, and answers out."""

    sock: socket.socket
    _host: Host
    _limit: int = field(kw_only=True)
    """Bytes of a body that are taken."""
    _always: bytes = field(default=b"", kw_only=True)
    """Header lines of each answer."""
    on_close: Callable[[], None] | None = None
    """What to do if the client goes away, while an answer is under way."""
    closed: bool = field(default=False, init=False)
    unsent: bytearray = field(factory=bytearray, init=False)
    """Written, but not yet taken by the kernel."""
    _parser: httptools.HttpRequestParser = field(init=False)
    _waiting: deque[Received] = field(factory=deque, init=False)
    _answering: bool = field(default=False, init=False)
    _looking: bool = field(default=False, init=False)
    """`_next` is at work."""
    _last: bool = field(default=False, init=False)
    """Close once what is unsent is sent."""
    _url: bytes = field(default=b"", init=False)
    _headers: dict[str, str] = field(factory=dict, init=False)
    _body: bytearray = field(factory=bytearray, init=False)
    _too_long: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def receive(self) -> None:
        """Take what has arrived."""
        try:
            data = self.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close()  # another protocol than HTTP/1.1 is asked for
        except httptools.HttpParserError:
            if not self._answering:
                self._last = True
                self.write(self._head(400, {"content-length": 0}))
            self.close()
        self._next()

    def write(self, data: bytes) -> None:
        """Send as much as the kernel takes, and keep the rest."""
        if self.closed:
            return
        if not self.unsent:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._host.want_write(self)
        self.unsent += data

    def flush(self) -> None:
        """Send more of what waits, now that the kernel takes it."""
        try:
            sent = self.sock.send(self.unsent[:_WRITE_BYTES])
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self.unsent[:sent]
        if self._last and not (self.unsent or self._answering):
            self.close()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole answer."""
        self.write(self._head(status, {**headers, "content-length": len(body)}) + body)
        self.end()

    def begin_stream(self, headers: Headers) -> None:
        """Write the head of an answer that comes in chunks, by `write`."""
        self.write(self._head(200, {**headers, "transfer-encoding": "chunked"}))

    def end(self) -> None:
        """Say that the answer is written; the next request may come."""
        self._answering, self.on_close = False, None
        if self._last and not self.unsent:
            self.close()
        else:
            self._next()

    def close(self) -> None:
        """Close, and tell who is answering."""
        if self.closed:
            return
        self.closed = True
        self._waiting.clear()
        if self.on_close is not None:
            self.on_close()
        self._host.forget(self)
        self.sock.close()

    def _head(self, status: int, headers: Headers) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unassigned')}\r\n{lines}".encode(
            "latin-1"
        )
        return b"".join([head, _CLOSE if self._last else b"", self._always, b"\r\n"])

    def _next(self) -> None:
        if self._looking:
            return  # a request that was answered at once: the loop below goes on
        self._looking = True
        while self._waiting and not (self._answering or self.closed):
            request = self._waiting.popleft()
            self._answering, self._last = True, request.last
            self._host.handle(self, request)
        self._looking = False

    # What httptools calls:

    def on_message_begin(self) -> None:
        """Forget the request before."""
        self._url, self._headers, self._body, self._too_long = b"", {}, bytearray(), False

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Let a client go on that asks whether to."""
        if self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if len(self._body) + len(body) > self._limit:
            self._too_long = True
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Queue the request."""
        path, _, query = self._url.decode("latin-1").partition("?")
        self._waiting.append(
            Received(
                method=self._parser.get_method().decode(),
                path=path,
                query=query,
                headers=self._headers,
                body=bytes(self._body),
                too_long=self._too_long,
                last=self._too_long or not self._parser.should_keep_alive(),
            )
        )


def chunk(data: bytes) -> bytes:
    """Return data as a chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
