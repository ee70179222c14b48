"""What a run was measured with: recorded in every result, as no figure travels without it."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from llmperf_core._version import __version__
from llmperf_core.run.hardware import hardware
from llmperf_core.target import Json
from llmperf_core.wire import stamping

_RECORDED = ("anyio", "httptools", "httpx", "msgspec", "numpy", "uvloop")


def environment() -> Mapping[str, Json]:
    """Return what the measuring side is: versions, processor, operating system, stamps, hardware.

    It says nothing of the server, which may be on another machine. Neither the host's name nor any
    environment variable is in it.
    """
    with stamping() as stamped:
        stamps = "kernel" if stamped else "user"
    return {
        "describes": "the machine that measured, which need not be the server's",
        "llmperf": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": _cores(),
        "memory_bytes": _memory_bytes(),
        **{name: part.describe() for name, part in hardware().items()},
        "stamps": stamps,
        "packages": {name: version(name) for name in _RECORDED if _installed(name)},
    }


def _cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int | None:
    """Return the machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True
