"""GPUs arrive in the container: by an engine whose driver is a stub, so none is needed here."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from attrs import evolve

from llmperf_local import Container, ServerSpec
from llmperf_local.container import TGI
from tests.docker import image
from tests.docker.engine import engine

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("deadline")]


@pytest.fixture(scope="module")
def with_driver(engine_packages: Path) -> Iterator[str]:
    """Yield the URL of an engine that takes requests for GPUs."""
    with (
        tempfile.TemporaryDirectory(prefix="lp-") as folder,
        engine(engine_packages, Path(folder), gpu_hook=True) as url,
    ):
        image.build(url)
        yield url


@pytest.mark.parametrize(("gpus", "seen"), [("all", "all"), ("0,1", "0,1"), ("none", None)])
async def test_the_choice_arrives(
    with_driver: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: str,
    seen: str | None,
) -> None:
    """As the server's environment tells, and its number of shards follows."""
    monkeypatch.setenv("DOCKER_HOST", with_driver)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    container = Container(
        ServerSpec("works"), engine=evolve(TGI, image=image.IMAGE), gpus=gpus, cache="none"
    )
    async with (
        container.open() as endpoint,
        httpx.AsyncClient(base_url=endpoint.base_url) as client,
    ):
        made_with = (await client.get("/made-with")).json()

    assert made_with["environment"].get("NVIDIA_VISIBLE_DEVICES") == seen
    assert made_with["arguments"][-1] == ("2" if gpus == "0,1" else "1")
