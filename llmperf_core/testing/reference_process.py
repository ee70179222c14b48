"""The process of the reference server: `python -m llmperf_core.testing.reference_process`.

One bare epoll loop, no event loop: what it adds to a planned instant is a few microseconds.
"""

import contextlib
import heapq
import os
import random
import re
import select
import socket
import ssl
import sys
import time
from itertools import count

import msgspec
import numpy as np
from attrs import frozen

from llmperf_core.testing.reference import SendError, Truth
from llmperf_core.units import NS_PER_S, NS_PER_US, ns_from_s

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_INFO = b'{"model_id":"reference","router":"llmperf-reference","max_total_tokens":1000000}'
_EVENT = (
    b'data: {"index":%d,"token":{"id":1,"text":" tok","logprob":-0.35498047,"special":false},'
    b'"generated_text":null,"details":null,"sent_ns":%d}\n\n'
)
_LAST_EVENT = (
    b'data: {"index":%d,"token":{"id":1,"text":" tok","logprob":-0.35498047,"special":false},'
    b'"generated_text":"tok","details":{"finish_reason":"length","generated_tokens":%d,'
    b'"seed":null,"input_length":1},"sent_ns":%d}\n\n'
)


class _Parameters(msgspec.Struct):
    max_new_tokens: int = 1


class _Asked(msgspec.Struct):
    inputs: str
    parameters: _Parameters


class _Options(msgspec.Struct):
    first_token_s: float
    gap_s: float
    scatter: bool
    certificate: str | None
    core: int | None


@frozen
class _Answer:
    sock: socket.socket
    tokens: int
    sent_at_ns: list[int]


class _Server:
    def __init__(self, options: _Options) -> None:
        self._first_ns, self._gap_ns = ns_from_s(options.first_token_s), ns_from_s(options.gap_s)
        self._scatter = random.Random(0) if options.scatter else None  # noqa: S311 -- no secret
        self._tls: ssl.SSLContext | None = None
        if options.certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(options.certificate)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)  # noqa: FBT003 -- the socket module's own
        self.port: int = self._listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._sockets: dict[int, socket.socket] = {}
        self._received: dict[int, bytearray] = {}
        # (planned instant, tie-breaker, the answer)
        self._plan: list[tuple[int, int, _Answer]] = []
        self._order = count()
        self.late_ns: list[int] = []
        self.sent_at_ns: dict[str, list[list[int]]] = {}

    def serve(self) -> None:
        """Play until standard input ends."""
        while True:
            for fd, _ in self._epoll.poll(self._next_timeout_s()):
                if fd == sys.stdin.fileno():
                    return
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._receive(fd)
            self._play_what_is_due()

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
                self._sockets[sock.fileno()] = sock
                self._received[sock.fileno()] = bytearray()
                self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _receive(self, fd: int) -> None:
        sock, received = self._sockets[fd], self._received[fd]
        try:
            data = sock.recv(1 << 16)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._epoll.unregister(fd)
            del self._sockets[fd], self._received[fd]
            sock.close()
            return
        received += data
        head, found, body = bytes(received).partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if found and len(body) >= (int(length[1]) if length else 0):
            received.clear()
            self._answer(sock, head, body)

    def _answer(self, sock: socket.socket, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            sock.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(_INFO), _INFO)
            )
            return
        try:
            asked = msgspec.json.decode(body, type=_Asked)
        except msgspec.DecodeError:
            sock.send(b"HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 0\r\n\r\n")
            return
        sock.send(_HEAD)
        delay_ns = int(self._scatter.random() * self._gap_ns) if self._scatter else 0
        first_at_ns = time.monotonic_ns() + self._first_ns + delay_ns
        sent_at_ns: list[int] = []
        self.sent_at_ns.setdefault(asked.inputs, []).append(sent_at_ns)
        answer = _Answer(sock, asked.parameters.max_new_tokens, sent_at_ns)
        heapq.heappush(self._plan, (first_at_ns, next(self._order), answer))

    def _play_what_is_due(self) -> None:
        while self._plan and self._plan[0][0] <= time.monotonic_ns():
            at_ns, order, answer = self._plan[0]
            now_ns = time.monotonic_ns()
            index = len(answer.sent_at_ns) + 1
            try:
                answer.sock.send(_frame(index, answer.tokens, now_ns))
            except OSError:
                heapq.heappop(self._plan)  # the client has gone, or does not read any more
                continue
            answer.sent_at_ns.append(now_ns)
            self.late_ns.append(now_ns - at_ns)
            if index == answer.tokens:
                heapq.heappop(self._plan)
            else:
                heapq.heapreplace(self._plan, (at_ns + self._gap_ns, order, answer))


def _frame(index: int, tokens: int, now_ns: int) -> bytes:
    """Return one token as a chunk; the last one carries the end of the body."""
    if index < tokens:
        event = _EVENT % (index, now_ns)
        return b"%x\r\n%b\r\n" % (len(event), event)
    event = _LAST_EVENT % (index, tokens, now_ns)
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)


def main() -> None:
    """Serve, and say on standard output first the port and at the end what it did."""
    options = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Options)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    server = _Server(options)
    sys.stdout.buffer.write(b"%d\n" % server.port)
    sys.stdout.buffer.flush()
    server.serve()
    late_us = np.asarray(server.late_ns or [0]) / NS_PER_US
    p50, p99 = np.percentile(late_us, [50, 99])
    send_error = SendError(
        events=len(server.late_ns),
        late_p50_us=float(p50),
        late_p99_us=float(p99),
        late_max_us=float(late_us.max()),
    )
    truth = Truth(send_error, server.sent_at_ns)
    sys.stdout.buffer.write(msgspec.json.encode(truth))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
