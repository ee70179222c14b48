"""The measuring process: `python -m llmperf_core.run`.

It is started afresh and never imports the caller's `__main__`, so a script needs no guard and a
notebook just works. The stage comes in on standard input, pickled by value where it was defined in
a cell; lines of JSON go out on standard output. When standard input ends, the stage is stopped: a
caller that dies takes its measuring process with it.
"""

import gc
import os
import queue
import sys
import threading
import traceback
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO

import anyio
import cloudpickle
import msgspec
from attrs import asdict

from llmperf_core.errors import UsageError, leaf_of
from llmperf_core.run.job import Job, Listener
from llmperf_core.run.journal import line_of
from llmperf_core.run.stage import measure
from llmperf_core.timeline import Observation, Progress, Timeline

# Each read is a few objects in no cycle: Python's threshold of 700 collects 20 times a second at
# 10,000 reads a second, and finds nothing.
_YOUNG_OBJECTS = 50_000

TIMELINE, PROGRESS, OBSERVATION, USAGE_ERROR = b"T", b"P", b"O", b"U"
"""The first byte of a line says what the rest of it is."""


class _Mouth:
    """Writes lines from a thread of its own: a slow reader must not hold up the measuring."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="llmperf-results", daemon=True)
        self._thread.start()

    def say(self, kind: bytes, line: bytes) -> None:
        self._lines.put(kind + line)

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join()

    def _write(self) -> None:
        # Nobody may listen any more: the end of standard input stops the stage.
        with suppress(OSError):
            while (line := self._lines.get()) is not None:
                self._file.write(line)
                if self._lines.empty():
                    self._file.flush()
            self._file.flush()


async def _measure_and_tell(job: Job, mouth: _Mouth, stop: anyio.Event) -> None:
    encode = msgspec.json.encode

    def note(timeline: Timeline) -> None:
        mouth.say(TIMELINE, line_of(timeline))

    def report(progress: Progress) -> None:
        mouth.say(PROGRESS, encode(asdict(progress)) + b"\n")

    observation: Observation = await measure(job, Listener(note=note, report=report), stop)
    mouth.say(OBSERVATION, encode(asdict(observation)) + b"\n")


async def _main(job: Job, mouth: _Mouth) -> None:
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def stop_at_end_of_input() -> None:
            await anyio.wait_readable(sys.stdin)
            stop.set()

        tasks.start_soon(stop_at_end_of_input)
        await _measure_and_tell(job, mouth, stop)
        tasks.cancel_scope.cancel()


def calm_garbage_collection() -> None:
    """Let collections be rare and short: they hold up the reading of everything that arrives."""
    gc.collect()
    gc.freeze()  # what was imported is never garbage
    gc.set_threshold(_YOUNG_OBJECTS)


def main() -> None:
    """Read a job, measure it, write what happens."""
    sys.excepthook = _say_last_words
    # What the workload or the codec of a user prints must not end up between the results.
    results = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    size = int(sys.stdin.buffer.readline())
    # The search path first: what the caller could import, the job's classes among it, we can too.
    sys.path[:], job = cloudpickle.loads(sys.stdin.buffer.read(size))
    mouth = _Mouth(results)
    calm_garbage_collection()
    try:
        anyio.run(
            _main,
            cloudpickle.loads(job),
            mouth,
            backend_options={"use_uvloop": sys.platform != "win32"},
        )
    except (UsageError, BaseExceptionGroup) as error:
        leaf = leaf_of(error)
        if isinstance(leaf, UsageError):  # the caller's mistake is the caller's to hear of
            mouth.say(USAGE_ERROR, msgspec.json.encode(str(leaf)) + b"\n")
        raise
    finally:
        mouth.close()  # what was measured before an error is told, too


def _say_last_words(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the error itself, out of the groups that it came in, and end with it on one line."""
    del kind, trace
    error = leaf_of(error)
    traceback.print_exception(error)
    sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
