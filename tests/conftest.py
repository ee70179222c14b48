"""What all tests share: the event loop, and how Hypothesis draws its examples."""

import os

import pytest
from hypothesis import settings

# No deadlines: how long an example takes says more about the machine than about the code.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if "CI" in os.environ else "default")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio; a test that needs virtual time asks for trio and its clock."""
    return "asyncio"
