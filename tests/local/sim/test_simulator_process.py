"""The process of a simulated server: what it keeps on record, and how it and its requests end."""

import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import attrs
import httpx
import pytest

from tests.local.sim.serving import ENDLESS, FAST, SLOW, Served, served, setup_of

pytestmark = pytest.mark.usefixtures("deadline")


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's deadline limits how long."""
    while not condition():
        time.sleep(0.01)


@pytest.fixture(scope="module")
def slow() -> "object":
    """A server of 50 ms a step, for two requests at a time."""
    with served(setup_of(SLOW, max_concurrent_requests=2)) as running:
        yield running


def test_a_stream_whose_client_goes_is_cancelled(slow: Served) -> None:
    """The place is free again, the record says `cancelled`, and it counts as dropped."""
    dropped = slow.metrics().get('tgi_request_failure{err="dropped"}', 0)
    for _ in range(5):  # more than there are places
        with slow.streaming():
            assert slow.metrics()["tgi_batch_current_size"] >= 1
    until(lambda: slow.metrics().get('tgi_request_failure{err="dropped"}', 0) == dropped + 5)
    until(lambda: slow.metrics()["tgi_batch_current_size"] == 0)
    ended = [request for request in slow.record() if request.prompt == ENDLESS]
    assert {request.finish_reason for request in ended} == {"cancelled"}
    assert all(len(request.sent_at_ns) < 1024 for request in ended)


def test_the_record_holds_plan_and_truth(tgi: Served) -> None:
    """Each token has its planned and its sent instant; nothing leaves before it is due."""
    body = {"inputs": "for the record", "parameters": {"max_new_tokens": 20}}
    before_ns = time.monotonic_ns()
    tgi.post("/generate_stream", body)
    tgi.post("/generate", body)
    after_ns = time.monotonic_ns()
    stream, whole = (entry for entry in tgi.record() if entry.prompt == "for the record")
    assert (stream.route, whole.route) == ("/generate_stream", "/generate")
    assert len(stream.planned_at_ns) == len(stream.sent_at_ns) == len(whole.planned_at_ns) == 20
    assert len(whole.sent_at_ns) == 1
    assert whole.sent_at_ns[0] >= whole.planned_at_ns[-1]
    for planned, sent in zip(stream.planned_at_ns, stream.sent_at_ns, strict=True):
        assert before_ns < planned <= sent < after_ns
    gaps = {b - a for a, b in zip(stream.planned_at_ns, stream.planned_at_ns[1:], strict=False)}
    assert gaps == {FAST.decode_ns(1, 0)}


def test_silence_is_broken_by_comments() -> None:
    """A stream without tokens for long shows that it lives, as often as it takes."""
    hardware = attrs.evolve(SLOW, decode_base_ns=2e9)
    setup = attrs.evolve(setup_of(hardware), keep_alive_ns=100_000_000)
    body = {"inputs": "x", "parameters": {"max_new_tokens": 2}}
    with served(setup) as server:
        text = server.post("/generate_stream", body).text
    events = [event for event in text.split("\n\n") if event != ":"]
    assert text.count(":\n\n") >= 2
    assert [event[:5] for event in events] == ["data:", "data:", ""]


def test_a_client_that_reads_slowly_gets_everything() -> None:
    """What the kernel does not take is kept until the client reads."""
    hardware = attrs.evolve(FAST, decode_base_ns=1.0, emit_ns=0)
    setup = setup_of(hardware, max_total_tokens=100_000)
    body = b'{"inputs":"x","parameters":{"max_new_tokens":20000}}'
    with served(setup) as server, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", httpx.URL(server.url).port or 0))
        sock.sendall(
            b"POST /generate_stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        until(lambda: server.metrics()["tgi_request_success"] == 1)
        received = b""
        while data := sock.recv(1 << 16):
            received += data
    assert received.count(b'"index":') == 20_000
    assert received.endswith(b"0\r\n\r\n")


def test_requests_may_follow_each_other_unasked(tgi: Served) -> None:
    """Requests that come at once are answered one after the other; the last closes."""
    get = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    port = httpx.URL(tgi.url).port or 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(get * 2000 + last)
        received = b""
        while data := sock.recv(1 << 16):
            received += data
    assert received.count(b"HTTP/1.1 200 OK") == 2000
    assert received.count(b"HTTP/1.1 404 Not Found") == 1


def test_a_body_is_asked_for(tgi: Served) -> None:
    """A client that waits for leave to send its body gets it."""
    body = b'{"inputs":"x"}'
    port = httpx.URL(tgi.url).port or 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(
            b"POST /tokenize HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        assert sock.recv(1 << 10).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\x00" * 99])
def test_garbage_is_no_reason_to_stop(tgi: Served, garbage: bytes) -> None:
    """What is not HTTP is refused, and the server goes on."""
    port = httpx.URL(tgi.url).port or 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(garbage)
        received = b""
        while data := sock.recv(1 << 10):
            received += data
        assert received.startswith(b"HTTP/1.1 400 ")
    assert tgi.client.get("/health").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: signal.Signals) -> None:
    """With status 0, also while it streams."""
    with served(setup_of(SLOW)) as server, server.streaming():
        server.process.send_signal(number)
        assert server.process.wait() == 0


def test_it_ends_with_its_lifeline() -> None:
    """When whoever holds its stdin goes, it goes too."""
    with served(setup_of(SLOW)) as server, server.streaming():
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait() == 0


PARENT = """
import anyio, sys
from llmperf_core.target import Options
from llmperf_local import Hardware, Simulated

async def main():
    hardware = Hardware(prefill_tokens_per_s=1e6, decode_base_ns=1e6, kv_tokens=1000)
    async with Simulated(hardware).open() as endpoint:
        print(endpoint.base_url, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


def test_it_does_not_outlive_its_parent() -> None:
    """Not even SIGKILL leaves a server behind."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        url = httpx.URL(parent.stdout.readline().decode().strip())
        with socket.create_connection((url.host, url.port or 0)) as sock:
            parent.kill()
            # The kernel closes the server's end of the connection when the server is gone.
            assert select.select([sock], [], [], 60)[0]
            assert sock.recv(1) == b""
