"""A server of our own: brought up, and never left running."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import httpx
import pytest

from llmperf_core.errors import StartError
from llmperf_local import process
from llmperf_local.process import serving

SERVER = """
import http.server, json, os, signal, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    unready = 2

    def do_GET(self):
        Handler.unready -= self.path == "/health"
        self.send_response(503 if Handler.unready >= 0 else 200)
        self.send_header("content-length", str(len(str(os.getpid()))))
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())

    def log_message(self, *said):
        sys.stderr.write("noise " * 50_000)

exec(sys.argv[1])
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"listening": f"http://127.0.0.1:{server.server_port}"}), flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="process descriptors are Linux's")


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Each event loop has its own way with processes."""
    return {
        "asyncio": ("asyncio", {}),
        "uvloop": ("asyncio", {"use_uvloop": True}),
        "trio": ("trio", {}),
    }[request.param]


def command(first: str = "pass") -> Sequence[str]:
    """Return the command of a small server that runs this statement first."""
    return [sys.executable, "-c", SERVER, first]


def children() -> set[int]:
    """Return the processes that this one has started and not reaped."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for path in lists for pid in path.read_text().split()}


async def pid_of(url: str) -> int:
    """Ask the small server for its process id."""
    async with httpx.AsyncClient() as client:
        return int((await client.get(url)).text)


def end_of(pid_fd: int) -> bool:
    """Wait until the process has ended, for at most 20 s, and say whether it has."""
    ended, _, _ = select.select([pid_fd], [], [], 20)
    return bool(ended)


@linux_only
async def test_it_is_ready_when_it_says_so_and_gone_after_the_block() -> None:
    """The block begins when /health has turned from 503 to 200, and leaves no process behind."""
    before = children()
    async with serving(command(), what="it", startup_s=20) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/health")).status_code == 200
        assert await pid_of(url) in children() - before
    assert children() == before
    with pytest.raises(httpx.ConnectError):
        await pid_of(url)


@linux_only
@pytest.mark.parametrize("way", ["error", "cancellation"])
async def test_it_is_stopped_on_every_way_out(way: str) -> None:
    """An error and a cancellation in the block stop the server, and go on."""
    before = children()
    with anyio.CancelScope() as scope, contextlib.suppress(ZeroDivisionError):
        async with serving(command(), what="it", startup_s=20):
            if way == "error":
                raise ZeroDivisionError
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught == (way == "cancellation")
    assert children() == before


async def test_a_cancellation_leaves_it_time_to_end(tmp_path: Path) -> None:
    """A cancellation does not turn the polite end into a kill."""
    last_word = tmp_path / "last word"
    slowly = f"""
def end(*_):
    threading.Event().wait(0.3)
    open({str(last_word)!r}, "w").write("bye")
    os._exit(0)

signal.signal(signal.SIGTERM, end)
"""
    with anyio.CancelScope() as scope:
        async with serving(command(slowly), what="it", startup_s=20):
            scope.cancel()
            await anyio.sleep_forever()
    assert last_word.read_text() == "bye"


@linux_only
async def test_it_is_killed_when_it_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ignores SIGTERM and the end of its stdin is killed."""
    monkeypatch.setattr(process, "_GRACE_S", 0.2)
    before = children()
    stubborn = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "sys.stdin = type('Deaf', (), {'read': lambda self: threading.Event().wait()})()"
    )
    async with serving(command(stubborn), what="it", startup_s=20) as url:
        pid_fd = os.pidfd_open(await pid_of(url))
    assert end_of(pid_fd)
    os.close(pid_fd)
    assert children() == before


async def test_noise_does_not_block_it() -> None:
    """A server may write more than a pipe holds, and nobody has to read it."""
    noise = "sys.stderr.write('noise ' * 200_000)"
    async with serving(command(noise), what="it", startup_s=20) as url:
        for _ in range(3):
            assert await pid_of(url)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("sys.exit('no such model')", "it ended with exit status 1; it wrote: no such model;"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it ended on SIGSEGV;"),
        ("sys.stderr.write('a\\n\\nb\\n'); sys.exit(7)", "exit status 7; it wrote: a | b;"),
    ],
)
async def test_an_early_end_is_explained(first: str, reason: str) -> None:
    """Who ends before being ready is reported with its exit status and its last lines."""
    with pytest.raises(StartError, match=r"^the server did not start") as caught:
        async with serving(command(first), what="the server", startup_s=20):
            pytest.fail("it came up")
    assert reason in str(caught.value)


async def test_an_end_before_it_is_healthy_is_explained() -> None:
    """Announcing itself is not enough: who ends before /health is 200 did not start."""
    dying = "Handler.do_GET = lambda self: os._exit(3)"
    with pytest.raises(StartError, match="it ended with exit status 3"):
        async with serving(command(dying), what="it", startup_s=20):
            pytest.fail("it came up")


@linux_only
@pytest.mark.parametrize("hang", ["threading.Event().wait()", "Handler.unready = 10**9"])
async def test_a_late_start_is_given_up(hang: str) -> None:
    """Who is not ready in time, announced or not, is stopped and reported."""
    before = children()
    with pytest.raises(StartError, match=r"it was not ready after 0\.5 s"):
        async with serving(command(hang), what="it", startup_s=0.5):
            pytest.fail("it came up")
    assert children() == before


ORPHAN = """
import sys, anyio
from llmperf_local.process import serving

async def main():
    async with serving(sys.argv[1:], what="it", startup_s=20) as url:
        print(url, flush=True)
        await anyio.sleep_forever()

anyio.run(main, backend={backend!r}, backend_options={options!r})
"""


@linux_only
async def test_it_does_not_outlive_us(anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """Not even SIGKILL, after which nobody can clean up, leaves the server running."""
    script = ORPHAN.format(backend=anyio_backend[0], options=anyio_backend[1])
    parent = subprocess.Popen(  # noqa: ASYNC220 -- nothing else runs on this loop
        [sys.executable, "-c", script, *command()], stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        pid_fd = os.pidfd_open(await pid_of(parent.stdout.readline().decode().strip()))
        parent.send_signal(signal.SIGKILL)
    assert end_of(pid_fd)
    os.close(pid_fd)
