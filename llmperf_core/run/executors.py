"""Where a stage is measured: in a process of its own, or in this one."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from subprocess import PIPE

import anyio
import cloudpickle
import msgspec
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from llmperf_core.errors import MeasuringProcessError
from llmperf_core.run import worker
from llmperf_core.run.job import Job, Listener
from llmperf_core.run.journal import timeline_of
from llmperf_core.run.stage import measure
from llmperf_core.timeline import Observation, Progress

_LONGEST_LINE = 1 << 30
_LAST_WORDS = 2_000
_PATIENCE_S = 10.0


async def in_process(job: Job, listener: Listener, stop: anyio.Event) -> Observation:
    """Measure here, on the running event loop. Whatever else runs here delays the reading."""
    return await measure(job, listener, stop)


async def in_own_process(job: Job, listener: Listener, stop: anyio.Event) -> Observation:
    """Measure in a fresh process, which nothing that runs here can starve.

    When this is cancelled, the process is stopped and what it had measured is still noted.

    Raises:
        MeasuringProcessError: the process died.
    """
    async with _process() as process, anyio.create_task_group() as tasks:
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 -- all are pipes
        last_words = bytearray()
        tasks.start_soon(_overhear, process.stderr, last_words)
        lines = BufferedByteReceiveStream(process.stdout)
        try:
            await process.stdin.send(_message(job))
            tasks.start_soon(_close_input_when, stop, process)
            observation = await _listen(lines, listener)
        except (anyio.BrokenResourceError, anyio.IncompleteRead, anyio.EndOfStream) as error:
            with anyio.move_on_after(_PATIENCE_S):
                await process.wait()
            words = last_words.decode(errors="replace").strip().rpartition("\n")[2]
            raise MeasuringProcessError(f"exit status {process.returncode}", words) from error
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_PATIENCE_S):
                await process.stdin.aclose()
                await _listen(lines, listener)
            raise
        tasks.cancel_scope.cancel()
    return observation


@asynccontextmanager
async def _process() -> AsyncIterator[Process]:
    """Start a measuring process, and see that it is gone on every way out."""
    process = await anyio.open_process(
        [sys.executable, "-m", worker.__name__],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
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


def _message(job: Job) -> bytes:
    pickled: bytes = cloudpickle.dumps((sys.path, cloudpickle.dumps(job)))
    return b"%d\n%b" % (len(pickled), pickled)


async def _close_input_when(stop: anyio.Event, process: Process) -> None:
    await stop.wait()
    if process.stdin is not None:
        await process.stdin.aclose()


async def _overhear(stream: ByteReceiveStream, last_words: bytearray) -> None:
    async for data in stream:
        last_words += data
        del last_words[:-_LAST_WORDS]


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
