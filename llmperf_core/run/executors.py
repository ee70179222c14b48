"""Where a stage is measured: in a process of its own, or in this one."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pickle import PicklingError
from subprocess import PIPE

import anyio
import cloudpickle
import msgspec
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import define, field

from llmperf_core.errors import MeasuringProcessError, UsageError
from llmperf_core.run import worker
from llmperf_core.run.job import Job, Listener
from llmperf_core.run.journal import timeline_of
from llmperf_core.run.stage import measure
from llmperf_core.timeline import Observation, Progress

# What comes of writing to a process that is gone, and of reading from it.
_DIED = (OSError, anyio.BrokenResourceError, anyio.IncompleteRead, anyio.EndOfStream)
_LONGEST_LINE = 1 << 30
_LAST_WORDS = 2_000
_PATIENCE_S = 10.0
# NumPy's linear algebra starts threads that spin on the processor, and nothing here multiplies.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


async def in_process(job: Job, listener: Listener, stop: anyio.Event) -> Observation:
    """Measure here, on the running event loop. Whatever else runs here delays the reading."""
    return await measure(job, listener, stop)


async def in_own_process(job: Job, listener: Listener, stop: anyio.Event) -> Observation:
    """Measure in a fresh process, which nothing that runs here can starve.

    When this is cancelled, the process is stopped and what it had measured is still noted.

    Raises:
        UsageError: the job cannot be sent to another process, or asks for what cannot be.
        MeasuringProcessError: the process died.
    """
    message = _message(job)
    async with _process() as process, anyio.create_task_group() as tasks:
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 -- all are pipes
        last_words = _LastWords(process.stderr)
        tasks.start_soon(last_words.hear)
        lines = BufferedByteReceiveStream(process.stdout)
        try:
            await process.stdin.send(message)
            tasks.start_soon(_close_input_when, stop, process)
            observation = await _listen(lines, listener)
        except _DIED as error:
            with anyio.move_on_after(_PATIENCE_S):
                await process.wait()
                await last_words.ended.wait()
            raise _death(process, last_words) from error
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_PATIENCE_S) as hearing_out:
                await process.stdin.aclose()
                with suppress(*_DIED):
                    await _listen(lines, listener)
            if hearing_out.cancelled_caught and process.returncode is None:
                process.kill()
            raise
        tasks.cancel_scope.cancel()
    return observation


@asynccontextmanager
async def _process() -> AsyncIterator[Process]:
    """Start a measuring process, and see that it is gone on every way out."""
    process = await anyio.open_process(
        # -P: a user's `queue.py` in the working directory is none of its business.
        [sys.executable, "-P", "-m", "llmperf_core.run"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, **_ENVIRONMENT},
        # A terminal's Ctrl-C goes to its whole group; ours is told by the end of its input.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_PATIENCE_S):
                if process.stdin is not None:
                    await process.stdin.aclose()
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.aclose()


@define
class _LastWords:
    """The end of what a process says on its standard error."""

    stream: ByteReceiveStream
    said: bytearray = field(factory=bytearray)
    ended: anyio.Event = field(factory=anyio.Event)

    async def hear(self) -> None:
        async for data in self.stream:
            self.said += data
            del self.said[:-_LAST_WORDS]
        self.ended.set()


def _death(process: Process, last_words: _LastWords) -> MeasuringProcessError:
    """Return the error that says how a process died; what it said is a note to it."""
    status = process.returncode
    reason = f"exit status {status}"
    if status is None:
        reason = "it closed its output"
    elif status < 0:
        reason = f"killed by signal {-status}"
    said = last_words.said.decode(errors="replace").strip()
    death = MeasuringProcessError(reason, said.rpartition("\n")[2])
    if said:
        death.add_note(f"In the measuring process:\n{said}")
    return death


def _message(job: Job) -> bytes:
    """Return the job as bytes for another process."""
    try:
        pickled: bytes = cloudpickle.dumps((sys.path, cloudpickle.dumps(job)))
    except (TypeError, AttributeError, PicklingError) as error:
        raise UsageError(
            f"the target or the workload cannot be sent to the measuring process ({error}); "
            "leave out what cannot be pickled, or measure in this process (`in_process`)"
        ) from error
    return b"%d\n%b" % (len(pickled), pickled)


async def _close_input_when(stop: anyio.Event, process: Process) -> None:
    await stop.wait()
    if process.stdin is not None:
        await process.stdin.aclose()


async def _listen(lines: BufferedByteReceiveStream, listener: Listener) -> Observation:
    """Pass on what the process says until it says how the stage ended."""
    while True:
        line = await lines.receive_until(b"\n", _LONGEST_LINE)
        kind, rest = line[:1], line[1:]
        if kind == worker.TIMELINE:
            listener.note(timeline_of(rest))
        elif kind == worker.PROGRESS:
            listener.report(msgspec.json.decode(rest, type=Progress))
        elif kind == worker.OBSERVATION:
            return msgspec.json.decode(rest, type=Observation)
        elif kind == worker.USAGE_ERROR:
            raise UsageError(msgspec.json.decode(rest, type=str))
