"""How many events a second does the reference server send on one core, and how late?

Each dialect in turn streams to a reader that only drains its sockets, on another core where there
is one. The server says itself how late it was against its plan.

    python benchmarks/reference.py                       # 800 streams × 50 events/s, 10 s
    python benchmarks/reference.py --streams 1200 --dialects tgi
"""

import argparse
import os
import select
import socket
import sys
import time

import msgspec
from attrs import frozen

from llmperf_core.testing import DIALECTS, Dialect, ReferenceServer, Script

EVENTS_PER_S = 50
"""Of each stream."""
PATIENCE_S = 10
"""How long nothing may come before the reading ends."""


@frozen
class Sent:
    """A row of the table."""

    dialect: str
    streams: int
    rate: float
    """Events a second over the time in which they came."""
    cpu_us: float
    """Of the server's process, for each event. While it keeps its plan it spends what is left of
    the processor waiting; once it is behind, this is what an event costs."""
    late_p50_us: float
    late_p99_us: float
    late_max_us: float
    held: int


def request(dialect: Dialect, tokens: int) -> bytes:
    """Return a request that every dialect understands."""
    asked = {
        "inputs": "x",
        "parameters": {"max_new_tokens": tokens},
        "prompt": "x",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": tokens,
    }
    body = msgspec.json.encode(asked)
    path = dialect.path.replace("*", "reference").encode()
    return b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (path, len(body), body)


def drain(url: str, message: bytes, streams: int) -> float:
    """Take all streams in, and return the seconds from the last request to the last byte."""
    port = int(url.rpartition(":")[2])
    socks = {}
    for _ in range(streams):
        sock = socket.create_connection(("127.0.0.1", port))
        socks[sock.fileno()] = sock
    poller = select.epoll()
    for fd, sock in socks.items():
        sock.sendall(message)
        sock.setblocking(False)  # noqa: FBT003 -- the socket module's own
        poller.register(fd, select.EPOLLIN)
    began_s = last_s = time.monotonic()
    buffer, left = bytearray(1 << 16), streams
    while left and (ready := poller.poll(PATIENCE_S)):
        for fd, _ in ready:
            size = socks[fd].recv_into(buffer)
            if not size or buffer[:size].endswith(b"\r\n0\r\n\r\n"):
                left -= 1
        last_s = time.monotonic()
    for sock in socks.values():
        sock.close()
    return last_s - began_s


def children_cpu_s() -> float:
    """Return the processor time of all processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def run(dialect: Dialect, streams: int, seconds: float) -> Sent:
    """Measure one dialect."""
    tokens = round(seconds * EVENTS_PER_S)
    script = Script(first_token_s=0.5, gap_s=1 / EVENTS_PER_S, scatter=True)
    cores = os.cpu_count() or 1
    cpu_s = children_cpu_s()
    with ReferenceServer(script, dialect=dialect, core=0 if cores > 1 else None) as server:
        took_s = drain(server.url, request(dialect, tokens), streams) - script.first_token_s
    assert server.truth is not None
    said = server.truth.send_error
    return Sent(
        dialect=dialect.name,
        streams=streams,
        rate=said.events / took_s,
        cpu_us=(children_cpu_s() - cpu_s) * 1e6 / said.events,
        late_p50_us=said.late_p50_us,
        late_p99_us=said.late_p99_us,
        late_max_us=said.late_max_us,
        held=server.truth.held_writes,
    )


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=800)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--dialects", nargs="+", default=list(DIALECTS), choices=list(DIALECTS))
    given = parser.parse_args()
    if (cores := os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {cores - 1})
    print(
        "| dialect | streams × events/s | events/s | CPU µs/event | late p50 µs | p99 | max "
        "| held writes |\n|---|---|---|---|---|---|---|---|"
    )
    for name in given.dialects:
        row = run(DIALECTS[name], given.streams, given.seconds)
        print(
            f"| {row.dialect} | {row.streams} × {EVENTS_PER_S} | {row.rate:,.0f} "
            f"| {row.cpu_us:.1f} | {row.late_p50_us:,.0f} | {row.late_p99_us:,.0f} "
            f"| {row.late_max_us:,.0f} | {row.held} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
