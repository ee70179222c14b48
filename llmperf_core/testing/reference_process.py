"""The process of the reference server: `python -m llmperf_core.testing.reference_process`.

One bare epoll loop, no event loop: what it adds to a planned instant is a few microseconds.
"""

import contextlib
import gc
import heapq
import os
import random
import re
import select
import socket
import ssl
import struct
import sys
import time
from array import array
from fnmatch import fnmatchcase
from itertools import count

import msgspec
import numpy as np
from attrs import define, field

from llmperf_core.testing.answer import Answer, Move, Moves
from llmperf_core.testing.dialects import DIALECTS
from llmperf_core.testing.faults import FAULTS
from llmperf_core.testing.plays import whole
from llmperf_core.testing.reference import Options, Played, SendError, Truth
from llmperf_core.units import NS_PER_S, NS_PER_US

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_BURST = 256
"""Writes before the sockets are looked at again, also if more is due."""
_READ_BYTES = 1 << 16


class _Parameters(msgspec.Struct):
    max_new_tokens: int = 1


class _Message(msgspec.Struct):
    content: str


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Asked(msgspec.Struct):
    """A request of any dialect."""

    inputs: str | None = None
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)
    prompt: str | None = None
    messages: list[_Message] = []
    max_tokens: int | None = None
    stream_options: _StreamOptions | None = None

    @property
    def text(self) -> str | None:
        """The prompt; None if there is none."""
        said = self.messages[-1].content if self.messages else None
        return next((text for text in (self.inputs, self.prompt, said) if text is not None), None)


@define(eq=False)
class _Connection:
    sock: socket.socket
    received: bytearray = field(factory=bytearray)
    unsent: bytearray = field(factory=bytearray)
    requests: int = 0
    open: bool = True
    closing: bool = False
    """To be closed as soon as all is sent."""


@define(eq=False)
class _Playing:
    """An answer under way."""

    connection: _Connection
    moves: Moves
    move: Move
    """The next."""
    sent_at_ns: list[int]


class _Server:
    def __init__(self, options: Options) -> None:
        self._options, self._dialect = options, DIALECTS[options.dialect]
        self._scatter = random.Random(0) if options.scatter else None  # noqa: S311 -- no secret
        self._tls: ssl.SSLContext | None = None
        if options.certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(options.certificate)
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.setblocking(False)  # noqa: FBT003 -- the socket module's own
        self.port: int = self._listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        if options.faults != ["refuse"]:
            self._listener.listen(4096)
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._connections: dict[int, _Connection] = {}
        # (planned instant, tie-breaker, the answer)
        self._plan: list[tuple[int, int, _Playing]] = []
        self._order = count()
        self._late_ns = array("q")
        self._held_writes = 0
        self._played: list[tuple[str, str | None, bool, list[int]]] = []

    def serve(self) -> None:
        """Play until standard input ends."""
        while True:
            for fd, mask in self._epoll.poll(self._next_timeout_s()):
                if fd == sys.stdin.fileno():
                    return
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._attend(self._connections[fd], mask)
            self._play_what_is_due()

    def truth(self) -> Truth:
        """Return what was done so far."""
        late_us = np.asarray(self._late_ns or [0]) / NS_PER_US
        p50, p99 = np.percentile(late_us, [50, 99])
        send_error = SendError(
            events=len(self._late_ns),
            late_p50_us=float(p50),
            late_p99_us=float(p99),
            late_max_us=float(late_us.max()),
        )
        sent_at_ns: dict[str, list[list[int]]] = {}
        for prompt, _, _, stamps in self._played:
            sent_at_ns.setdefault(prompt, []).append(stamps)
        played = [
            Played(prompt, fault, reused, len(stamps))
            for prompt, fault, reused, stamps in self._played
        ]
        return Truth(send_error, sent_at_ns, played, self._held_writes)

    def _next_timeout_s(self) -> float | None:
        if not self._plan:
            return None
        # epoll rounds up to whole milliseconds: the last one is spent polling.
        left_ns = self._plan[0][0] - time.monotonic_ns() - 1_000_000
        return max(0.0, left_ns / NS_PER_S)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)  # noqa: FBT003 -- the socket module's own
                if self._tls is not None:
                    sock = self._tls.wrap_socket(
                        sock, server_side=True, do_handshake_on_connect=False
                    )
                self._connections[sock.fileno()] = _Connection(sock)
                self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _attend(self, connection: _Connection, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._flush(connection)
        if connection.open and mask & ~select.EPOLLOUT:
            self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        received = connection.received
        received += data
        head, found, body = bytes(received).partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if found and len(body) >= (int(length[1]) if length else 0):
            received.clear()
            self._answer(connection, head, body)

    def _answer(self, connection: _Connection, head: bytes, body: bytes) -> None:
        method, path, _ = head.decode("latin-1").split(" ", 2)
        if method == "GET":
            said = self._dialect.says.get(path)
            self._respond(connection, b"404 Not Found" if said is None else b"200 OK", said or b"")
        elif not fnmatchcase(path, self._dialect.path):
            self._respond(connection, b"404 Not Found", b"")
        else:
            self._answer_prompt(connection, body)

    def _answer_prompt(self, connection: _Connection, body: bytes) -> None:
        try:
            asked = msgspec.json.decode(body, type=_Asked)
        except (msgspec.DecodeError, UnicodeDecodeError):
            asked = _Asked()
        if asked.text is None:
            self._respond(connection, b"422 Unprocessable Entity", b"")
            return
        answer, faults = self._answer_to(asked), self._options.faults
        fault = faults[len(self._played) % len(faults)] if faults else None
        play = FAULTS[fault].play if fault is not None else None
        moves = (play or whole)(answer)
        move, stamps = next(moves), list[int]()
        self._played.append((asked.text, fault, connection.requests > 0, stamps))
        connection.requests += 1
        playing = _Playing(connection, moves, move, stamps)
        at_ns = time.monotonic_ns() + move.after_ns
        heapq.heappush(self._plan, (at_ns, next(self._order), playing))

    def _answer_to(self, asked: _Asked) -> Answer:
        options = self._options
        scripted = sum(what for _, what in options.timeline if isinstance(what, int))
        tokens = asked.parameters.max_new_tokens if asked.max_tokens is None else asked.max_tokens
        delay_ns = int(self._scatter.random() * options.gap_ns) if self._scatter else 0
        return Answer(
            dialect=self._dialect,
            tokens=scripted if options.timeline else tokens,
            first_ns=options.first_ns + delay_ns,
            gap_ns=options.gap_ns,
            usage=asked.stream_options is not None and asked.stream_options.include_usage,
            timeline=options.timeline,
        )

    def _respond(self, connection: _Connection, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n" % status
        self._send(connection, head + b"content-length: %d\r\n\r\n%b" % (len(body), body))

    def _play_what_is_due(self) -> None:
        plan, clock = self._plan, time.monotonic_ns
        for _ in range(_BURST):
            now_ns = clock()
            if not plan or plan[0][0] > now_ns:
                return
            at_ns, order, playing = plan[0]
            move = playing.move
            if not self._send(playing.connection, move.data(now_ns)):
                heapq.heappop(plan)  # the client has gone
                continue
            if move.tokens:
                playing.sent_at_ns.extend([now_ns] * move.tokens)
                self._late_ns.extend([now_ns - at_ns] * move.tokens)
            if move.then != "go on":
                self._end(playing.connection, reset=move.then == "reset")
            following = next(playing.moves, None)
            if following is None:
                heapq.heappop(plan)
            else:
                playing.move = following
                heapq.heapreplace(plan, (at_ns + following.after_ns, order, playing))

    def _send(self, connection: _Connection, data: bytes) -> bool:
        """Send it, or as soon as the client reads; return whether there is still a connection."""
        if not connection.open or not data:
            return connection.open
        if connection.unsent:
            connection.unsent += data
            self._held_writes += 1
            return True
        try:
            sent = connection.sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            self._close(connection)
            return False
        if sent < len(data):
            connection.unsent += data[sent:]
            self._held_writes += 1
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return True

    def _flush(self, connection: _Connection) -> None:
        try:
            del connection.unsent[: connection.sock.send(connection.unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._close(connection)
            return
        if not connection.unsent:
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN)
            if connection.closing:
                self._close(connection)

    def _end(self, connection: _Connection, *, reset: bool) -> None:
        """Break the connection off, or close it as soon as all is sent."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if reset or not connection.unsent:
            self._close(connection)
        else:
            connection.closing = True

    def _close(self, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        self._epoll.unregister(fd)
        del self._connections[fd]
        connection.open = False
        connection.sock.close()


def main() -> None:
    """Serve, and say on standard output first the port and at the end what was done."""
    options = msgspec.json.decode(sys.stdin.buffer.readline(), type=Options)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    server = _Server(options)
    gc.disable()  # nothing here makes cycles, and a collection would delay what is due
    sys.stdout.buffer.write(b"%d\n" % server.port)
    sys.stdout.buffer.flush()
    server.serve()
    sys.stdout.buffer.write(msgspec.json.encode(server.truth()))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
