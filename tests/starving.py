"""Keeping a process from its work, for real."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import sched_getaffinity, sched_setaffinity

PROCESSORS = sorted(sched_getaffinity(0))
_SPINNERS = 4
# They end by themselves even if the test is killed.
_SPIN = "import time; end = time.monotonic() + 120\nwhile time.monotonic() < end: pass"
_HOGS = 2


@contextmanager
def spinning(processor: int) -> Iterator[None]:
    """Keep a processor busy with processes that never stop to run."""
    command = [sys.executable, "-S", "-c", _SPIN]
    # Linux may share a processor out by sessions first, and the measuring process has its own.
    spinners = [subprocess.Popen(command, start_new_session=True) for _ in range(_SPINNERS)]
    try:
        for spinner in spinners:
            sched_setaffinity(spinner.pid, {processor})
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


@contextmanager
def hogging() -> Iterator[None]:
    """Have threads of this process fight for its interpreter, each of which may keep it for 5 ms.

    That is what a busy notebook does, and it holds up this process whatever the machine does.
    """
    enough = threading.Event()

    def toil() -> None:
        while not enough.is_set():
            sum(range(1000))

    hogs = [threading.Thread(target=toil) for _ in range(_HOGS)]
    for hog in hogs:
        hog.start()
    try:
        yield
    finally:
        enough.set()
        for hog in hogs:
            hog.join()
