"""A Docker engine for the tests: the one that `DOCKER_HOST` names, or one of our own."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.docker import image
from tests.docker.engine import engine, unpack, why_not


@pytest.fixture(scope="session")
def engine_packages() -> Iterator[Path]:
    """Yield where Docker's packages are unpacked; who needs them is skipped if that cannot be."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    # Not pytest's own folder: the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="lp-") as folder:
        try:
            root = unpack(Path(folder, "unpacked"))
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = str(error.stderr or error).strip()
            pytest.skip(f"Docker's packages cannot be fetched: {said[-300:]}")
        yield root


@pytest.fixture(scope="session")
def docker_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a Docker engine that has our image."""
    if given := os.environ.get("DOCKER_HOST"):
        image.build(given)
        yield given
        return
    root = request.getfixturevalue("engine_packages")
    with tempfile.TemporaryDirectory(prefix="lp-") as folder, engine(root, Path(folder)) as url:
        image.build(url)
        yield url


@pytest.fixture
def docker_host(
    docker_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[APIClient]:
    """Use the engine, with no token and with notes of our own; yield a client of it.

    Raises:
        AssertionError: a container of ours is left after the test.
    """
    monkeypatch.setenv("DOCKER_HOST", docker_engine)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    client = APIClient(docker_engine)
    yield client
    left = ours(client)
    for container in left:
        client.remove_container(container, force=True)
    client.close()
    assert left == []


def ours(client: APIClient) -> list[str]:
    """Return the names of our containers, whatever their state."""
    containers = client.containers(all=True, filters={"label": "llmperf.run"})
    return [name for container in containers for name in container["Names"]]
