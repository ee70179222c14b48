"""Measuring in a process of its own: what goes in, what comes back, and that it always ends."""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock

import anyio
import pytest
from attrs import Factory, define, frozen

from llmperf_core.errors import MeasuringProcessError, StoredRunError, UsageError, leaf_of
from llmperf_core.load import Concurrency
from llmperf_core.run import executors
from llmperf_core.run.executors import in_own_process, in_process
from llmperf_core.run.job import Executor, Job, Listener
from llmperf_core.run.settings import Settings
from llmperf_core.target import Endpoint, Json, Prompt
from llmperf_core.testing import ReferenceServer, Script
from llmperf_core.timeline import Censored, Observation, Progress, Timeline
from llmperf_core.wire.tgi import Tgi
from llmperf_core.workload import Fixed, Workload

pytestmark = pytest.mark.usefixtures("deadline")


PATIENCE_S = 40.0
BRIEF = Settings(duration_s=0.3, warmup_s=0)
ENDLESS = Settings(duration_s=600, warmup_s=0)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the URL of a reference server."""
    with ReferenceServer(Script(first_token_s=0.002, gap_s=0.002)) as server:
        yield server.url


@frozen
class Acts:
    """A workload that does something, in the measuring process, before a certain prompt."""

    act: Callable[[], object]
    before: int = 0

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield prompts of two tokens."""
        del seed
        ordinal = 0
        while True:
            if ordinal == self.before:
                self.act()
            yield Prompt(text="Write of llamas", max_new_tokens=2)
            ordinal += 1

    def describe(self) -> Mapping[str, Json]:
        """Return the kind."""
        return {"kind": "acts"}


@define
class Heard:
    """What a listener was told."""

    timelines: list[Timeline] = Factory(list)
    progress: list[Progress] = Factory(list)

    @property
    def listener(self) -> Listener:
        """The one who listens."""
        return Listener(note=self.timelines.append, report=self.progress.append)


def job_for(url: str, settings: Settings = BRIEF, workload: Workload | None = None) -> Job:
    """Return a stage of two slots."""
    return Job(
        endpoint=Endpoint(base_url=url, codec=Tgi()),
        load=Concurrency(2),
        workload=workload or Fixed("Write of llamas", max_new_tokens=2),
        settings=settings,
        seed=0,
    )


async def run(
    job: Job, heard: Heard, *, execute: Executor = in_own_process, stop: anyio.Event | None = None
) -> Observation:
    """Measure the job; a test that would hang fails."""
    with anyio.fail_after(PATIENCE_S):
        return await execute(job, heard.listener, stop or anyio.Event())


def writes_pid(path: Path) -> Acts:
    """Return a workload that leaves the number of its process in a file."""
    return Acts(lambda: path.write_text(str(os.getpid())))


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds; a test that would hang fails."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- another process makes it true
            await anyio.sleep(0.02)


async def pid_in(path: Path) -> int:
    """Return the process number in a file, once it is there."""
    await until(lambda: path.exists() and path.read_text())
    return int(path.read_text())  # noqa: ASYNC240 -- a few bytes


def is_running(pid: int) -> bool:
    """Return whether there is such a process, and not only what is left of it."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


async def failure_of(job: Job, heard: Heard, kind: type[Exception]) -> str:
    """Return the message with which measuring the job fails."""
    with pytest.raises((kind, ExceptionGroup)) as raised:
        await run(job, heard)
    error = leaf_of(raised.value)
    assert isinstance(error, kind), error
    return str(error)


@pytest.mark.parametrize("execute", [in_own_process, in_process])
async def test_both_executors_yield_the_same(url: str, execute: Executor) -> None:
    """Timelines as requests end, progress, and at the end the observation."""
    heard = Heard()
    observation = await run(job_for(url), heard, execute=execute)

    assert len(heard.timelines) > 4
    assert all(timeline.completed for timeline in heard.timelines)
    assert {timeline.stamps for timeline in heard.timelines} == {"kernel"}
    assert {len(timeline.read_lag_ns) for timeline in heard.timelines} == {2}
    assert heard.progress[0].phase == "measuring"
    assert observation.window.duration_ns == 300_000_000
    assert observation.reads >= len(heard.timelines)
    assert not observation.interrupted


async def test_it_is_another_process(url: str, tmp_path: Path) -> None:
    """And it is gone when the stage is over."""
    await run(job_for(url, workload=writes_pid(tmp_path / "pid")), Heard())
    pid = await pid_in(tmp_path / "pid")

    assert pid != os.getpid()
    assert not is_running(pid)


async def test_what_a_workload_prints_does_no_harm(url: str) -> None:
    """It does not end up between the results, by whichever way it is printed."""

    def noise() -> None:
        sys.stdout.write("T{}\n")
        sys.stdout.flush()
        os.write(1, b"O{}\n")
        os.write(2, b"x" * 300_000)

    heard = Heard()
    await run(job_for(url, workload=Acts(noise, before=2)), heard)

    assert len(heard.timelines) > 4


async def test_error_of_a_workload_reaches_the_user(url: str) -> None:
    """By its type and its text, on one line; what was measured before it is kept."""

    def fail() -> None:
        raise ValueError("no llamas left:\nall of them sold")

    heard = Heard()
    said = await failure_of(
        job_for(url, ENDLESS, Acts(fail, before=9)), heard, MeasuringProcessError
    )

    assert "its last words: ValueError: no llamas left: all of them sold;" in said
    assert "\n" not in said
    assert len([timeline for timeline in heard.timelines if timeline.completed]) >= 7


async def test_error_carries_the_traceback_as_a_note(url: str) -> None:
    """Who wrote the workload sees where in it the error came from."""

    def the_guilty_function() -> None:
        raise ValueError("no llamas left")

    with pytest.raises((MeasuringProcessError, ExceptionGroup)) as raised:
        await run(job_for(url, workload=Acts(the_guilty_function)), Heard())

    notes = getattr(leaf_of(raised.value), "__notes__", [])
    assert "the_guilty_function" in "".join(notes)


async def test_death_of_the_process_is_said(url: str) -> None:
    """Killed by the system, as when memory runs out; what had come until then is kept."""
    workload = Acts(lambda: os.kill(os.getpid(), signal.SIGKILL), before=30)
    heard = Heard()
    said = await failure_of(job_for(url, ENDLESS, workload), heard, MeasuringProcessError)

    assert "killed by signal 9" in said
    assert len(heard.timelines) > 0
    assert all(timeline.completed for timeline in heard.timelines)


@pytest.mark.parametrize("executable", ["/bin/false", "/bin/true"])
async def test_process_that_dies_before_it_has_heard(
    url: str, executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that does not start: the job, larger than any pipe, finds no taker."""
    monkeypatch.setattr(sys, "executable", executable)
    job = job_for(url, workload=Fixed("llama " * 1_000_000))

    assert "exit status" in await failure_of(job, Heard(), MeasuringProcessError)


async def test_what_the_server_would_refuse_is_a_usage_error(url: str) -> None:
    """Also where the measuring process finds it out: before anything is sent."""
    heard = Heard()
    workload = Fixed("x", parameters={"temperature": 0})
    said = await failure_of(job_for(url, workload=workload), heard, UsageError)

    assert said.startswith("TGI refuses temperature = 0")
    assert not any(timeline.sent_at_ns for timeline in heard.timelines)


async def test_job_that_cannot_travel_is_a_usage_error(url: str) -> None:
    """The message says what to do, and no process is started."""

    @frozen
    class Locked(Acts):
        lock: object = Factory(Lock)

    said = await failure_of(job_for(url, workload=Locked(int)), Heard(), UsageError)

    assert "lock" in said
    assert "in_process" in said


async def test_stop_ends_the_stage(url: str) -> None:
    """What is in flight is censored, and all that was measured comes back."""
    heard, stop = Heard(), anyio.Event()
    observation: list[Observation] = []

    async def measure() -> None:
        observation.append(await run(job_for(url, ENDLESS), heard, stop=stop))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(measure)
        await until(lambda: len(heard.timelines) >= 5)
        stop.set()

    assert observation[0].interrupted
    assert sorted(timeline.index for timeline in heard.timelines) == list(
        range(len(heard.timelines))
    )


async def test_cancelling_keeps_what_was_measured_and_leaves_no_process(
    url: str, tmp_path: Path
) -> None:
    """The process is told to stop, and is heard out."""
    heard = Heard()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, job_for(url, ENDLESS, writes_pid(tmp_path / "pid")), heard)
        pid = await pid_in(tmp_path / "pid")
        await until(lambda: len(heard.timelines) >= 5)
        tasks.cancel_scope.cancel()

    assert not is_running(pid)
    indices = sorted(timeline.index for timeline in heard.timelines)
    assert indices == list(range(len(indices)))
    assert any(timeline.outcome == Censored() for timeline in heard.timelines)


async def test_cancelling_while_the_process_dies_is_still_cancelling(
    url: str, tmp_path: Path
) -> None:
    """That it dies while it is heard out does not take the place of the cancelling."""
    path = tmp_path / "pid"

    def die_when_told_to_stop() -> None:
        path.write_text(str(os.getpid()))
        select.select([0], [], [])
        os._exit(3)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, job_for(url, ENDLESS, Acts(die_when_told_to_stop)), Heard())
        await pid_in(path)
        tasks.cancel_scope.cancel()

    assert not is_running(await pid_in(path))


async def test_process_that_does_not_hear_is_killed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workload that blocks its process cannot hold up ours."""
    monkeypatch.setattr(executors, "_PATIENCE_S", 0.5)
    path = tmp_path / "pid"

    def block() -> None:
        path.write_text(str(os.getpid()))
        time.sleep(600)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, job_for(url, ENDLESS, Acts(block)), Heard())
        pid = await pid_in(path)
        tasks.cancel_scope.cancel()

    assert not is_running(pid)


async def test_listener_that_fails_ends_the_process(url: str, tmp_path: Path) -> None:
    """A disk that is full ends the run with its own error, and nothing is left running."""
    path = tmp_path / "pid"

    def full(_: Timeline) -> None:
        raise StoredRunError(tmp_path, "cannot be written: No space left on device")

    with pytest.raises(ExceptionGroup) as raised, anyio.fail_after(PATIENCE_S):
        await in_own_process(
            job_for(url, ENDLESS, writes_pid(path)), Listener(note=full), anyio.Event()
        )

    assert isinstance(leaf_of(raised.value), StoredRunError)
    assert not is_running(await pid_in(path))


async def test_modules_of_the_working_directory_are_not_picked_up(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is called like a module of the library, where the user happens to stand."""
    (tmp_path / "queue.py").write_text("raise SystemExit('picked up')")
    monkeypatch.chdir(tmp_path)
    heard = Heard()
    await run(job_for(url), heard)

    assert len(heard.timelines) > 4
