"""`import llmperf_core` is light and changes nothing."""

import subprocess
import sys

import pytest

# Needed by one command or one backend at most; who needs it imports it there.
HEAVY = [
    *("rich", "pandas", "matplotlib"),
    *("torch", "xllamacpp", "gguf", "tokenizers"),
    *("boto3", "docker"),
    *("aiohttp", "uvloop"),
]

# httpx loads its own command line, and rich with it, wherever click happens to be installed. Rich
# draws from the global random state when it is imported.
WITHOUT_CLICK = "import sys; sys.modules['click'] = None"

# What an import could change behind the back of the program that imports us.
STATE = """
import asyncio.events, logging, os, random, signal, sys, threading, warnings
import numpy

def state():
    return {
        "environment": dict(os.environ),
        "event loop policy": asyncio.events._event_loop_policy,
        "exception hook": sys.excepthook,
        "log handlers": list(logging.getLogger().handlers),
        "numpy's random state": repr(numpy.random.get_state(legacy=False)),
        "random state": random.getstate(),
        "signal handlers": {s: signal.getsignal(s) for s in signal.valid_signals()},
        "threads": threading.enumerate(),
        "warning filters": list(warnings.filters),
    }

before = state()
"""


def python(source: str) -> str:
    """Run the source in a fresh interpreter; return what it printed, on either stream."""
    done = subprocess.run(
        # Setting a loop policy, as a test below does, is deprecated from Python 3.14 on.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout.strip()


def changed_by(statement: str) -> str:
    """Return the names of what the statement changes in a fresh interpreter."""
    compare = "print(*[key for key, value in state().items() if value != before[key]], sep=', ')"
    return python("\n".join([WITHOUT_CLICK, STATE, statement, compare]))


def test_importing_loads_nothing_heavy() -> None:
    """What only one command or one backend needs is not loaded with the core."""
    loaded = f"print(*[module for module in {HEAVY} if module in sys.modules])"

    assert python(f"{WITHOUT_CLICK}; import llmperf_core; {loaded}") == ""


def test_importing_prints_nothing() -> None:
    """An import is silent, warnings included."""
    assert python("import warnings; warnings.simplefilter('always'); import llmperf_core") == ""


def test_importing_changes_nothing() -> None:
    """No thread, loop policy, signal, filter, seed or environment is other than before."""
    assert changed_by("import llmperf_core") == ""


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("import random; random.seed(0)", "random state"),
        ("import numpy; numpy.random.seed(0)", "numpy's random state"),
        ("import os; os.environ['OMP_NUM_THREADS'] = '1'", "environment"),
        ("import warnings; warnings.simplefilter('ignore')", "warning filters"),
        ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signal handlers"),
        ("import logging; logging.basicConfig()", "log handlers"),
        (
            "import asyncio; asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())",
            "event loop policy",
        ),
        (
            "from threading import Event, Thread; Thread(target=Event().wait, daemon=True).start()",
            "threads",
        ),
    ],
)
def test_a_change_is_seen(statement: str, what: str) -> None:
    """Each thing that an import could change is really looked at."""
    assert changed_by(statement) == what
