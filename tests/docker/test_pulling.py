"""Fetching an image from a registry, for real, with a registry that waits when told to."""

from collections.abc import Iterator

import anyio
import pytest
from docker import APIClient

from llmperf_core.errors import StartError
from llmperf_local import Container
from tests.docker.registry import Registry, registry

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("deadline")]


@pytest.fixture
def slow(docker_host: APIClient) -> Iterator[tuple[Registry, str]]:
    """Yield a registry that halts half-way in each layer, and its image's name."""
    with registry() as (ours, image):
        yield ours, image
        if docker_host.images(image):
            docker_host.remove_image(image, force=True)


async def test_it_says_how_far_it_is(docker_host: APIClient, slow: tuple[Registry, str]) -> None:
    """Layers and bytes are counted while they come; then the container is made of the image."""
    ours, image = slow
    said: list[str] = []

    def report(words: str) -> None:
        said.append(words)
        if "of 12.0 MB" in words:
            ours.go_on.set()

    with pytest.raises(StartError, match="the image has no such command"):
        async with Container("x", image=image, gpus="none", cache="none", report=report).open():
            pytest.fail("the image has no server")

    pulling = [words for words in said if words.startswith("pulling the image: ")]
    assert any("0 of 3 layers" in words for words in pulling), pulling
    assert said[len(pulling)] == "starting"
    assert docker_host.images(image)


async def test_a_cancelled_pull_is_given_up(
    docker_host: APIClient, slow: tuple[Registry, str]
) -> None:
    """It does not wait for a registry that has stalled, and the image does not come later."""
    ours, image = slow
    pulling = anyio.Event()

    def report(_: str) -> None:
        if ours.asked_for_layer.is_set():
            pulling.set()

    async def hold() -> None:
        async with Container("x", image=image, gpus="none", report=report).open():
            pytest.fail("it came up")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await pulling.wait()
        tasks.cancel_scope.cancel()

    assert docker_host.images(image) == []
