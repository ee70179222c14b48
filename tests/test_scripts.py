"""Programs of users, run as such: no `__main__` guard, their own classes, Ctrl-C and worse."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmperf_core import load_run
from llmperf_core.testing import ReferenceServer, Script

pytestmark = pytest.mark.usefixtures("deadline")


PATIENCE_S = 40.0

PREAMBLE = """
import asyncio, json, os, pathlib, sys, time
from contextlib import asynccontextmanager
from attrs import frozen
import llmperf_core as lp
from llmperf_core.wire.tgi import Tgi

URL, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
TWO = lp.Fixed("Write of llamas", max_new_tokens=2)
ENDLESS = lp.Settings(duration_s=600, warmup_s=0, folder=FOLDER / "run")

def say(**what):
    print(json.dumps(what), flush=True)
"""

OWN_CLASSES = """
@frozen
class Mine:
    name = "mine"

    @asynccontextmanager
    async def open(self):
        yield lp.Endpoint(base_url=URL, codec=Shouting())

@frozen
class Shouting(Tgi):
    def request(self, prompt):
        return Tgi().request(lp.Prompt(text=prompt.text.upper(), max_new_tokens=3))

@frozen
class Llamas:
    def prompts(self, seed):
        while True:
            print("in the measuring process: no result", flush=True)
            (FOLDER / "pid").write_text(str(os.getpid()))
            yield lp.Prompt(text="llama")

    def describe(self):
        return {"kind": "llamas"}

stage = lp.bench(Mine(), lp.Concurrency(2), workload=Llamas(), duration_s=0.3,
                 settings=lp.Settings(warmup_s=0))
say(pid=os.getpid(), completed=stage.summary.requests.completed,
    tokens=sorted({len(t.token_at_ns) for t in stage.timelines}))
"""

INTERRUPTED = """
try:
    lp.bench(URL, lp.Concurrency(2), workload=TWO, settings=ENDLESS)
except lp.InterruptedRunError as error:
    say(stages=len(error.run.stages), completed=error.run.stages[0].summary.requests.completed)
    raise
"""

INTERRUPTED_LOOP = """
async def main():
    await lp.abench(URL, lp.Concurrency(2), workload=TWO, settings=ENDLESS)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    say(interrupted=True)
"""

ENDLESS_RUN = """
@frozen
class Tells:
    def prompts(self, seed):
        (FOLDER / "pid").write_text(str(os.getpid()))
        yield from TWO.prompts(seed)

    def describe(self):
        return {}

lp.bench(URL, lp.Concurrency(2), workload=Tells(), settings=ENDLESS)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the URL of a reference server."""
    with ReferenceServer(Script(first_token_s=0.002, gap_s=0.002)) as server:
        yield server.url


@contextmanager
def running(source: str, url: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a script as a user does; it is gone in the end."""
    script = folder / "script.py"
    script.write_text(PREAMBLE + source)
    process = subprocess.Popen(
        [sys.executable, str(script), url, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: "subprocess.Popen[str]") -> tuple[dict[str, object], str]:
    """Wait for the end, and return what was said on standard output, and on standard error."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return (json.loads(out) if out else {}), err


def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds; a test that would hang fails."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came about"
        time.sleep(0.02)


def lines_of_journals(folder: Path) -> int:
    """Return how many requests the journals of a run hold."""
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("timelines.jsonl"))


def is_running(pid: int) -> bool:
    """Return whether there is such a process, and not only what is left of it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_script_needs_no_guard(url: str, tmp_path: Path) -> None:
    """And its own target, codec and workload travel to the measuring process."""
    with running(OWN_CLASSES, url, tmp_path) as process:
        said, err = end(process)

    assert process.returncode == 0, err
    assert isinstance(said["completed"], int)
    assert said["completed"] > 4
    assert said["tokens"] == [3]
    assert said["pid"] != int((tmp_path / "pid").read_text())
    assert err == ""


def test_interrupted_script_keeps_what_was_measured(url: str, tmp_path: Path) -> None:
    """Ctrl-C reaches the caller as an error that holds the run; the folder holds the same."""
    with running(INTERRUPTED, url, tmp_path) as process:
        until(lambda: lines_of_journals(tmp_path) > 5)
        process.send_signal(signal.SIGINT)
        said, err = end(process)

    [stage] = load_run(tmp_path / "run").stages
    assert said == {"stages": 1, "completed": stage.summary.requests.completed}
    assert stage.observation.interrupted
    assert "interrupted; what was measured until then is in .run" in err


def test_interrupted_loop_keeps_the_journal(url: str, tmp_path: Path) -> None:
    """Where asyncio takes the Ctrl-C and cancels: what was measured is in the folder."""
    with running(INTERRUPTED_LOOP, url, tmp_path) as process:
        until(lambda: lines_of_journals(tmp_path) > 5)
        process.send_signal(signal.SIGINT)
        said, err = end(process)

    assert said == {"interrupted": True}, err
    assert err == ""
    [stage] = load_run(tmp_path / "run").stages
    assert stage.observation.interrupted
    assert stage.summary.requests.completed > 4


def test_killed_script_takes_its_measuring_process_with_it(url: str, tmp_path: Path) -> None:
    """Nothing goes on asking a server that costs money; what was written can be read."""
    with running(ENDLESS_RUN, url, tmp_path) as process:
        until(lambda: lines_of_journals(tmp_path) > 5)
        worker = int((tmp_path / "pid").read_text())
        assert worker != process.pid
        assert is_running(worker)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not is_running(worker))

    [stage] = load_run(tmp_path / "run").stages
    assert stage.observation.interrupted
    assert len(stage.timelines) > 4


def test_terminated_script_takes_its_measuring_process_with_it(url: str, tmp_path: Path) -> None:
    """SIGTERM, as a scheduler sends it."""
    with running(ENDLESS_RUN, url, tmp_path) as process:
        until(lambda: lines_of_journals(tmp_path) > 5)
        worker = int((tmp_path / "pid").read_text())
        process.terminate()
        end(process)
        until(lambda: not is_running(worker))

    assert process.returncode == -signal.SIGTERM
