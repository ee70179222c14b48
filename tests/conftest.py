"""What all tests share: the event loop, and how Hypothesis draws its examples."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadlines: how long an example takes says more about the machine than about the code.
settings.register_profile("default", deadline=None)
# The same examples each time, and half as many: what draws others runs everywhere else.
settings.register_profile("ci", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("ci" if "CI" in os.environ else "default")

_DEADLINE_S = 120.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio; a test that needs virtual time asks for trio and its clock."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def hang_ups_are_heard() -> Iterator[None]:
    """Under nohup they are ignored, and the processes that tests start would inherit that."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def deadline() -> Iterator[None]:
    """Fail a test that blocks for longer than any machine takes, where no task could time it."""

    def expire(*_: object) -> None:
        raise TimeoutError(f"the test took more than {_DEADLINE_S} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, _DEADLINE_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
