"""A real Jupyter kernel: what a cell shows, while it runs, when it is interrupted, and after."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from llmperf_core.testing import ReferenceServer, Script

LIMIT_S = 120
SETUP = """
import llmperf_core as lp
lp.__version__
"""
BENCH = """
stage = lp.bench(
    {url!r}, lp.Concurrency(2), duration_s={duration_s},
    workload=lp.Fixed("a story", max_new_tokens=8), settings=lp.Settings(warmup_s=0.2),
)
stage
"""


class Kernel:
    """A kernel, and the messages of the cell that ran last."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager, self._client = manager, client
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def run(self, source: str, when: Callable[[str, dict[str, Any]], bool] | None = None) -> str:
        """Run a cell to its end; interrupt it at the first message that `when` is true of.

        Returns:
            The status of the cell: `ok` or `error`.
        """
        self.messages = []

        def note(message: dict[str, Any]) -> None:
            kind, content = message["msg_type"], message["content"]
            self.messages.append((kind, content))
            nonlocal when
            if when is not None and when(kind, content):
                when = None
                self._manager.interrupt_kernel()

        reply = self._client.execute_interactive(
            source, timeout=LIMIT_S, output_hook=note, allow_stdin=False
        )
        return str(reply["content"]["status"])

    def html(self, kind: str) -> list[str]:
        """Return the HTML of all messages of a kind."""
        return [
            content["data"]["text/html"]
            for found, content in self.messages
            if found == kind and "text/html" in content["data"]
        ]

    def text(self) -> str:
        """Return what was printed."""
        return "".join(c["text"] for kind, c in self.messages if kind == "stream")


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """Start a kernel; it ends with the tests of this module."""
    manager, client = start_new_kernel(startup_timeout=LIMIT_S)
    try:
        found = Kernel(manager, client)
        assert found.run(SETUP) == "ok"
        yield found
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the address of a server that is really there."""
    with ReferenceServer(Script(first_token_s=0.01, gap_s=0.002)) as server:
        yield server.url


def test_a_result_shows_itself_and_its_progress(kernel: Kernel, url: str) -> None:
    """Under the running loop of a kernel: a line while it goes on, a table with the verdict after.

    The line is gone in the end, and there is text for who sees no HTML.
    """
    assert kernel.run(BENCH.format(url=url, duration_s=2)) == "ok"
    lines = kernel.html("update_display_data")
    assert any("measuring" in line and "<progress" in line for line in lines)
    assert lines[-1] == ""
    (table,) = kernel.html("execute_result")
    assert table.index("concurrency 2: ") < table.index("<table")
    assert 'aria-label="TTFT from ' in table
    (result,) = [content for kind, content in kernel.messages if kind == "execute_result"]
    assert result["data"]["text/plain"].startswith(url)
    assert kernel.text() == ""


def test_an_interrupt_keeps_what_was_measured(kernel: Kernel, url: str) -> None:
    """Whoever presses the stop button finds the requests until then in the exception."""

    def measuring(kind: str, content: dict[str, Any]) -> bool:
        shown = str(content.get("data"))
        return kind == "update_display_data" and bool(
            re.search(r"measuring.* [1-9]\d* done", shown)
        )

    assert kernel.run(BENCH.format(url=url, duration_s=100), when=measuring) == "error"
    (error,) = [content for kind, content in kernel.messages if kind == "error"]
    assert "sys.last_value.run" in error["evalue"]
    assert kernel.html("update_display_data")[-1] == ""
    assert (
        kernel.run(
            "import sys; run = sys.last_value.run\n"
            "print(len(run.stages[0].timelines), run.stages[0].observation.interrupted)\n"
            "run"
        )
        == "ok"
    )
    count, interrupted = kernel.text().split()
    assert int(count) > 0
    assert interrupted == "True"
    assert "interrupted" in kernel.html("execute_result")[0]


def test_awaiting_works_in_a_cell(kernel: Kernel, url: str) -> None:
    """The loop of the kernel runs it, and the line is shown, too."""
    assert kernel.run(BENCH.format(url=url, duration_s=1).replace("lp.b", "await lp.ab")) == "ok"
    assert any("measuring" in line for line in kernel.html("update_display_data"))
    assert "concurrency 2" in kernel.html("execute_result")[0]


def test_quiet_is_quiet(kernel: Kernel, url: str) -> None:
    """Nothing but the result."""
    source = BENCH.format(url=url, duration_s=0.5).replace("warmup_s=0.2", "warmup_s=0, quiet=True")
    assert kernel.run(source) == "ok"
    assert {kind for kind, _ in kernel.messages} <= {"status", "execute_input", "execute_result"}


def test_frames_and_plots_come_out(kernel: Kernel, url: str) -> None:
    """What a notebook goes on with: a frame of requests, and a picture that needs no script."""
    assert kernel.run(BENCH.format(url=url, duration_s=0.5)) == "ok"
    assert kernel.run("stage.to_pandas().head()") == "ok"
    assert "output_tokens" in kernel.html("execute_result")[0]
    assert kernel.run("stage.plots.percentiles()") == "ok"
    (picture,) = kernel.html("execute_result")
    assert "<svg" in picture
    assert "<script" not in picture
