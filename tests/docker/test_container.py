"""Servers in real containers: brought up, measured through the mapped port, and removed."""

import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import httpx
import pytest
from attrs import evolve
from docker import APIClient

from llmperf_core import Concurrency, Fixed, Settings, bench
from llmperf_core.errors import StartError, UnreachableError
from llmperf_core.target import Options
from llmperf_local import Container, ServerSpec
from llmperf_local.container import LLAMA_CPP, TGI
from llmperf_local.tiny import cached_tiny
from tests.docker.image import IMAGE, LLAMA_SCRIPT, PYTHON

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_host", "deadline")]

LLAMAS = Fixed("Write of llamas", max_new_tokens=8)
BRIEF = Settings(duration_s=1.0, warmup_s=0.2)
IN_IMAGE = evolve(TGI, image=IMAGE, gpus="none")
SIMULATED = evolve(
    IN_IMAGE,
    name="simulated-tgi",
    entrypoint=(PYTHON, "-m", "llmperf_core", "serve"),
    arguments=lambda spec, _: [spec.model, "--host", "0.0.0.0", "--port", "80"],
    simulated=True,
)
LLAMA = evolve(LLAMA_CPP, image=IMAGE, entrypoint=(PYTHON, "-u", LLAMA_SCRIPT))


def tgi(model: str = "works", **settings: object) -> Container:
    """Return a container whose model's name says how it goes."""
    return Container(model, **{"engine": IN_IMAGE, "cache": "none", **settings})  # type: ignore[arg-type]


def _ending_has_ended() -> None:
    """Wait for the threads that remove containers."""
    for thread in threading.enumerate():
        if thread.name == "llmperf-end":
            thread.join()


async def why_not(container: Container) -> str:
    """Return why a container does not come up."""
    with pytest.raises(StartError) as caught:
        async with container.open():
            pytest.fail("it came up")
    return str(caught.value)


def test_a_tgi_in_a_container_is_measured() -> None:
    """Through the mapped port, with its protocol; what ran is in the result."""
    container = tgi()

    stage = bench(container, Concurrency(2), workload=LLAMAS, settings=BRIEF)

    assert stage.summary.requests.completed > 10
    assert stage.summary.requests.failed == 0
    server = stage.spec.endpoint["server"]
    assert isinstance(server, dict)
    assert server["image"] == IMAGE
    assert str(server["image_digest"]).startswith("sha256:")


def test_a_simulated_tgi_in_a_container_is_measured() -> None:
    """An engine of one's own: its image, its command line; and its result says it is simulated."""
    container = Container("sim:llama-2-7b@ml.g5.2xlarge", engine=SIMULATED, cache="none")

    stage = bench(container, Concurrency(4), workload=LLAMAS, settings=BRIEF)

    assert stage.summary.requests.completed > 2
    assert stage.summary.requests.failed == 0
    assert stage.spec.simulated


@pytest.mark.llm
def test_llama_cpp_in_a_container_is_measured() -> None:
    """A real language model, from a file on this machine that is mounted to be read only."""
    spec = ServerSpec(str(cached_tiny()), max_concurrent_requests=2, max_total_tokens=512)
    container = Container(spec, engine=LLAMA, cache="none")

    # Long enough for two readings in the window.
    settings = evolve(BRIEF, duration_s=3.0)
    stage = bench(container, Concurrency(2), workload=LLAMAS, settings=settings)

    assert stage.summary.requests.completed > 10
    assert stage.watch is not None
    used = stage.watch["container"]
    assert used.failures == 0
    assert used.rises["cpu_s"] > 0
    assert used.levels["memory_bytes"].min > 10e6
    assert stage.summary.requests.failed == 0
    assert stage.spec.endpoint["protocol"] == "openai-chat"


async def test_it_says_how_it_stands() -> None:
    """The phases come from the log's lines, without their colours, in order."""
    said: list[str] = []

    async with tgi().reporting(said.append).open():
        pass

    phases = list(dict.fromkeys(line.partition(" · ")[0] for line in said))
    assert phases[0] == "starting"
    assert phases[-1] == "warming up"
    assert said[-1].endswith("INFO Connected")


async def test_it_is_gone_after_the_block(docker_host: APIClient) -> None:
    """While it is open it carries labels that say whose it is; afterwards it does not exist."""
    async with tgi().open() as endpoint:
        name = str(endpoint.server["container"])
        labels = docker_host.inspect_container(name)["Config"]["Labels"]
    assert {"llmperf.run", "llmperf.owner", "llmperf.pid", "llmperf.expires"} <= labels.keys()
    assert docker_host.containers(all=True, filters={"name": name}) == []


async def test_a_token_is_in_the_servers_environment_alone(
    docker_host: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who inspects the container does not see it; the server does."""
    monkeypatch.setenv("HF_TOKEN", "hf_planted")

    async with tgi().open() as endpoint:
        inspected = docker_host.inspect_container(endpoint.server["container"])
        async with httpx.AsyncClient(base_url=endpoint.base_url) as client:
            made_with = (await client.get("/made-with")).json()

    assert made_with["environment"]["HF_TOKEN"] == "hf_planted"
    assert made_with["arguments"] == ["--model-id", "works", "--num-shard", "1"]
    assert "hf_planted" not in str(inspected)
    assert "hf_planted" not in str(endpoint.server)


async def test_a_token_that_the_server_prints_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither in the error nor while it comes up."""
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    said: list[str] = []

    why = await why_not(tgi("leaky").reporting(said.append))

    assert "HF_TOKEN=***" in why
    assert "hf_planted" not in why + "".join(said)


@pytest.mark.parametrize(
    ("model", "settings", "reasons"),
    [
        ("crash", {}, ["exit status 7", "it wrote:", "Error: ShardCannotStart"]),
        ("gated", {}, ["the model is gated", "HF_TOKEN"]),
        ("gpuless", {}, ["sees no GPU"]),
        ("memory", {"memory": "64m"}, ["killed as it ran out of memory", "137", "more memory"]),
        (ServerSpec("works", quantize="nonsense"), {}, ["does not know an argument", "status 2"]),
        ("works", {"gpus": "all"}, ["no GPU driver", "gpus=none"]),
        (
            "slow",
            {"options": Options(startup_s=2.0)},
            ["not ready after 2 s, but still warming up", "Warming up model"],
        ),
        (
            "works",
            {"image": "registry.invalid/none:1"},
            ["the image is not here, and its registry cannot be reached"],
        ),
        ("works", {"image": "No:Image:"}, ["that is no image"]),
        ("./none.gguf", {}, ["there is no file"]),
        (
            "works",
            {"engine": evolve(IN_IMAGE, entrypoint=("/nope",))},
            ["the image has no such command"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_failure_is_named(
    docker_host: APIClient, model: str, settings: dict[str, object], reasons: Sequence[str]
) -> None:
    """One line says what happened and what to do, and the container is gone."""
    why = await why_not(tgi(model, **settings))

    assert [reason for reason in reasons if reason not in why] == []
    assert "\n" not in why
    assert docker_host.containers(all=True, filters={"label": "llmperf.run"}) == []


async def test_a_taken_port_is_named() -> None:
    """The container that could not start is removed, too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        why = await why_not(tgi(port=taken.getsockname()[1]))
    assert "the port is taken on the host" in why


async def test_a_missing_engine_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who has no Docker engine is told which socket was tried."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")

    with pytest.raises(UnreachableError, match="no Docker engine listens there"):
        async with tgi().open():
            pytest.fail("it came up")


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("step", ["starting", "warming up"])
async def test_a_cancelled_bring_up_leaves_nothing(
    docker_host: APIClient, step: str, times: int
) -> None:
    """A native cancellation, which no shield holds back, even one after the other."""
    import asyncio

    reached = anyio.Event()

    def report(words: str) -> None:
        if words.startswith(step):
            reached.set()

    async def hold() -> None:
        async with tgi("slow").reporting(report).open():
            pytest.fail("it came up")

    task = asyncio.create_task(hold())
    await reached.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    # A second cancellation stops the waiting, not the thread that removes.
    await asyncio.to_thread(_ending_has_ended)
    assert docker_host.containers(all=True, filters={"label": "llmperf.run"}) == []
