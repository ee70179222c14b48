"""Servers that many tests share."""

from collections.abc import Iterator

import pytest

from tests.local.sim.serving import Served, served, setup_of


@pytest.fixture(scope="package")
def tgi() -> Iterator[Served]:
    """A server with the limits of the recorded errors."""
    with served(setup_of(max_input_tokens=1024, max_total_tokens=2048)) as running:
        yield running
