"""Programs that deploy and are killed: `python -m tests.sagemaker.mortal`.

Each is a fork of one process that has imported everything once, and then goes on as a program of
its own that ends as any does: what starts is cheap, what dies is real.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import anyio
import boto3

from llmperf_core import cli
from llmperf_core.backends import target_of
from llmperf_sagemaker import Deployment

CANCEL, FAIL = signal.SIGUSR1, signal.SIGUSR2
"""Signals that are none of ours: they have the program cancel its own task, or raise."""
MEASURING = "measuring"
"""What the program writes once its endpoint is open."""


class PlantedError(Exception):
    """What the program raises when it is told to."""


def serve() -> Mapping[str, str]:
    """Fork a program for each line of the standard input; return in that what the line says."""
    _import_all()
    for line in sys.stdin:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            job: Mapping[str, str] = json.loads(line)
            return job
        print(child, flush=True)  # noqa: T201 -- it is asked for
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201
    raise SystemExit(0)


def _import_all() -> None:
    """Import what a run imports where it needs it."""
    for name in (
        "httpx",
        "rich.progress",
        "uvloop",
        "anyio._backends._asyncio",
        "llmperf_core.run.worker",
    ):
        importlib.import_module(name)
    session = boto3.Session("key", "secret", region_name="us-west-2")
    for service in ("sagemaker", "sagemaker-runtime", "logs"):
        session.client(service)


def become(job: Mapping[str, str]) -> None:
    """Become the program: its environment, its outputs, the signals of a fresh interpreter."""
    os.environ.update(json.loads(job["environment"]))
    output = os.open(job["output"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def library(job: Mapping[str, str]) -> None:
    """Deploy from Python, and measure until the end comes."""
    mark = Path(job["output"]).with_suffix(".mark")
    told: list[int] = []

    def fail_when_told(_: str = "") -> None:
        if FAIL in told:
            raise PlantedError("as it was told")

    async def main() -> None:
        def cancel_when_told(number: int, _frame: FrameType | None) -> None:
            told.append(number)
            if number == CANCEL and task is not None:
                loop.call_soon_threadsafe(task.cancel)

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        for number in (CANCEL, FAIL):
            signal.signal(number, cancel_when_told)
        target = target_of(job["target"])
        assert isinstance(target, Deployment)
        async with target.reporting(fail_when_told).open():
            mark.write_text(MEASURING)
            until_s = time.monotonic() + float(job["duration_s"])
            while time.monotonic() < until_s:
                fail_when_told()
                await anyio.sleep(0.005)

    anyio.run(main)


def command_line(job: Mapping[str, str]) -> None:
    """Deploy by the command line, with all that it does beside."""
    for number in (CANCEL, FAIL):
        signal.signal(number, signal.SIG_IGN)
    words = ["bench", job["target"], "--quiet", "--in-process", "--no-telemetry", "--warmup", "0"]
    words += ["--duration", job["duration_s"], "--drain", "0.1", "--out", job["folder"]]
    sys.exit(cli.main(words))


def abandoning(job: Mapping[str, str]) -> None:
    """Deploy on an event loop in a thread that nobody waits for, and end when it is in service."""

    async def main() -> None:
        async with target_of(job["target"]).open():
            opened.set()
            await anyio.sleep_forever()

    opened = threading.Event()
    threading.Thread(target=anyio.run, args=(main,), daemon=True).start()
    opened.wait()


PROGRAMS: Mapping[str, Callable[[Mapping[str, str]], None]] = {
    "library": library,
    "command line": command_line,
    "abandoning": abandoning,
}

if __name__ == "__main__":
    the_job = serve()
    become(the_job)
    PROGRAMS[the_job["program"]](the_job)
