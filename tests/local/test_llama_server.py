"""The process that serves, by itself."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from llmperf_local.tiny import cached_tiny

pytestmark = pytest.mark.llm


@contextmanager
def server(model: Path, *, port: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program, and make sure that it is gone in the end."""
    command = [sys.executable, "-m", "llmperf_local.llama_server", str(model), f"--port={port}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_announces_where_it_listens_and_nothing_else() -> None:
    """One line of JSON holds the address, a free port of its own choice; then stdout ends."""
    with server(cached_tiny()) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert httpx.get(f"{line['listening']}/health").json() == {"status": "ok"}
        assert list(line) == ["listening"]
        process.terminate()
        assert process.stdout.read() == b""


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT, None], ids=["term", "int", "eof"])
def test_it_ends_when_told_to(way: signal.Signals | None) -> None:
    """SIGTERM, SIGINT and the end of stdin end it with exit status 0."""
    with server(cached_tiny()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        if way is None:
            process.stdin.close()
        else:
            process.send_signal(way)
        assert process.wait(20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process that is loading")
@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT, None], ids=["term", "int", "eof"])
def test_it_ends_while_it_loads(tmp_path: Path, way: signal.Signals | None) -> None:
    """Loading holds the interpreter's lock, and yet the process ends at once."""
    fifo = tmp_path / "endless.gguf"
    os.mkfifo(fifo)
    with server(fifo) as process:
        assert process.stdin is not None
        # Opening waits until llama.cpp has opened the other end; then it reads until we write.
        writer = os.open(fifo, os.O_WRONLY)
        if way is None:
            process.stdin.close()
        else:
            process.send_signal(way)
        assert process.wait(20) == -(way or signal.SIGIO)
        os.close(writer)


def test_it_ends_when_its_starter_is_gone_before_it_begins(tmp_path: Path) -> None:
    """Stdin that has ended already ends it before it loads anything."""
    with server(tmp_path / "none.gguf") as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_taken_port_is_an_error() -> None:
    """Who asks for a port that is taken is told, with exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with server(cached_tiny(), port=port) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read() == b""
            assert f"port: {port}" in process.stderr.read().decode()
            assert process.wait(20) == 1
