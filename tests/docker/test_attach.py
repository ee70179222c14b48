"""Containers that others have started: measured, and left as they are."""

from collections.abc import Iterator, Mapping

import pytest
from docker import APIClient

from llmperf_core import Concurrency, Fixed, Settings, bench
from llmperf_core.errors import UnreachableError
from llmperf_local import Container
from tests.docker.image import IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("deadline")]

BRIEF = Settings(duration_s=0.5, warmup_s=0)


@pytest.fixture
def theirs(docker_host: APIClient) -> Iterator[Mapping[str, str]]:
    """Yield the name, the id and the port of a server that somebody else has started."""
    host = docker_host.create_host_config(port_bindings={80: ("127.0.0.1", None)})
    made = docker_host.create_container(
        IMAGE,
        ["--model-id=works", "--num-shard=1"],
        environment={"PORT": "80"},
        host_config=host,
        ports=[80],
    )
    docker_host.start(made)
    inspected = docker_host.inspect_container(made)
    while b"Connected" not in docker_host.logs(made):
        pass
    yield {
        "name": inspected["Name"].lstrip("/"),
        "id": made["Id"],
        "port": inspected["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"],
    }
    docker_host.remove_container(made, force=True)


@pytest.mark.parametrize("by", ["name", "id", "port"])
def test_it_is_measured_and_left_as_it_is(
    docker_host: APIClient, theirs: Mapping[str, str], by: str
) -> None:
    """By its name, its id or its port; it has not been started anew, and still runs."""
    before = docker_host.inspect_container(theirs["id"])["State"]

    stage = bench(
        f"docker:@{theirs[by]}",
        Concurrency(1),
        workload=Fixed("Write of llamas", max_new_tokens=4),
        settings=BRIEF,
    )

    assert stage.summary.requests.completed > 1
    assert stage.spec.endpoint["protocol"] == "tgi"
    assert docker_host.inspect_container(theirs["id"])["State"] == before


async def test_which_port_is_asked_for_can_be_said(theirs: Mapping[str, str]) -> None:
    """The server's port inside the container chooses among those that are published."""
    async with Container.attach(f"{theirs['name']}:80").open() as endpoint:
        assert endpoint.base_url == f"http://127.0.0.1:{theirs['port']}"
    with pytest.raises(UnreachableError, match=f"write docker:@{theirs['name']}:80"):
        async with Container.attach(f"{theirs['name']}:81").open():
            pytest.fail("there is no such port")


@pytest.mark.usefixtures("theirs")
async def test_one_that_is_not_there_is_named() -> None:
    """With those that are there."""
    with pytest.raises(UnreachableError, match=r"no such container.*running: \w+"):
        async with Container.attach("nobody").open():
            pytest.fail("there is none")


async def test_one_that_has_ended_is_named(
    docker_host: APIClient, theirs: Mapping[str, str]
) -> None:
    """It is said to have ended, and not that nothing answers."""
    docker_host.kill(theirs["id"])
    docker_host.wait(theirs["id"])

    with pytest.raises(UnreachableError, match="it is exited"):
        async with Container.attach(theirs["name"]).open():
            pytest.fail("it does not run")
