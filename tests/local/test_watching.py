"""Telemetry of real servers: llama.cpp's page of metrics, and the simulated TGI's."""

from pathlib import Path

import anyio
import httpx
import pytest

from llmperf_core import Concurrency, Fixed, Settings, bench
from llmperf_core.results import StageResult, load_run
from llmperf_core.run.readings import FILE
from llmperf_core.target import Endpoint, Options
from llmperf_core.wire.metrics_page import LLAMA_CPP, TGI, find_metrics_page
from llmperf_core.wire.tgi import Tgi
from llmperf_local import CpuModel
from llmperf_local.sim.target import backend

ASKED = Fixed("Tell me of llamas", max_new_tokens=24)


def settings(folder: Path | None = None) -> Settings:
    """Return settings for a short stage."""
    return Settings(duration_s=3, warmup_s=1, quiet=True, folder=folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, Path]:
    """Return a stage of the real llama.cpp, and the folder that it was kept in."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    target = CpuModel("tiny", slots=2, options=Options(body={"ignore_eos": True}))
    return bench(target, Concurrency(2), workload=ASKED, settings=settings(folder)), folder


@pytest.mark.llm
def test_a_real_server_counts_what_we_count(kept: tuple[StageResult, Path]) -> None:
    """The tokens of llama.cpp's counter are those that arrived, over the same stretch."""
    stage, _ = kept

    assert stage.watch is not None
    server, check = stage.watch["server"], stage.watch.crosscheck
    assert server.what == "/metrics of llama.cpp"
    assert server.readings >= 1
    assert {"queued", "running"} <= set(server.levels)
    assert check is not None
    assert check.tokens is not None
    assert check.our_tokens > 0
    assert not check.mismatch
    assert "token_counter_mismatch" not in {reason.code for reason in stage.verdict.reasons}


@pytest.mark.llm
def test_readings_are_kept_and_read_back(kept: tuple[StageResult, Path]) -> None:
    """A stored run has the same readings, and comes to the same."""
    stage, folder = kept
    (again,) = load_run(folder).stages

    assert len(list(folder.glob(f"stages/*/{FILE}"))) == 1
    assert again.telemetry == stage.telemetry
    assert again.watch == stage.watch
    assert again.to_dict()["telemetry"] == stage.to_dict()["telemetry"]
    assert "server (/metrics of llama.cpp)" in repr(again)


@pytest.mark.llm
async def test_the_page_of_a_real_server_is_read() -> None:
    """What llama.cpp counts of one answer is what it says in that answer."""
    with anyio.fail_after(120):
        async with CpuModel("tiny").open() as endpoint, httpx.AsyncClient() as client:
            page = await find_metrics_page(endpoint)
            assert page is not None
            assert page.dialect is LLAMA_CPP
            answer = await client.post(
                f"{endpoint.base_url}/v1/completions",
                json={"model": "tiny", "prompt": "llamas", "max_tokens": 7, "ignore_eos": True},
                timeout=60,
            )
            async with page.open() as read:
                said = await read()
    assert answer.json()["usage"]["completion_tokens"] == 7
    assert said["ended_tokens"] == 7
    assert said["running"] == 0


def test_a_simulated_tgi_tells_where_the_time_went() -> None:
    """Of streams, by its counters: queue and inference are most of what the client waited."""
    stage = bench(
        backend.target("sim:llama-2-7b@ml.g5.2xlarge", Options()),
        Concurrency(2),
        workload=ASKED,
        settings=settings(),
    )

    assert stage.watch is not None
    assert stage.watch["server"].what == "/metrics of TGI"
    assert stage.split is not None
    assert stage.split.told_by == "counters"
    assert stage.split.inference_ns is not None
    assert 0 < stage.split.inference_ns <= stage.split.server_ns


def test_a_simulated_tgi_tells_it_of_each_whole_answer() -> None:
    """Without a stream, by the headers of each answer."""
    stage = bench(
        backend.target("sim:llama-2-7b@ml.g5.2xlarge", Options(stream=False)),
        Concurrency(2),
        workload=ASKED,
        settings=settings(),
    )

    assert stage.split is not None
    assert stage.split.told_by == "headers"
    assert stage.split.client_ns >= stage.split.server_ns > 0


async def test_a_server_without_a_page_has_none() -> None:
    """Nothing answers, no page is claimed, or requests do not go over the network at all."""
    nobody = Endpoint(base_url="http://127.0.0.1:9", codec=Tgi())
    in_memory = Endpoint(
        base_url="http://x",
        codec=Tgi(),
        transport=lambda: httpx.MockTransport(lambda _: httpx.Response(200)),
    )
    silent = Endpoint(base_url="http://127.0.0.1:9", codec=Tgi(), metrics_path=None)

    for endpoint in (nobody, in_memory, silent):
        assert await find_metrics_page(endpoint) is None


async def test_the_page_of_the_simulated_tgi_is_tgis() -> None:
    """It speaks TGI's dialect."""
    with anyio.fail_after(60):
        target = backend.target("sim:llama-2-7b@ml.g5.2xlarge", Options())
        async with target.open() as endpoint:
            page = await find_metrics_page(endpoint)
    assert page is not None
    assert page.dialect is TGI
