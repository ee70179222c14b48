"""Stages against scripted servers, over the measuring wire."""

import anyio
from attrs import frozen

from llmperf_core.load import Concurrency, ConstantRate, LoadProfile
from llmperf_core.run.job import Job, Listener
from llmperf_core.run.settings import Settings
from llmperf_core.run.stage import measure
from llmperf_core.target import Endpoint
from llmperf_core.timeline import Observation, Timeline
from llmperf_core.workload import Fixed
from tests.run.asking import TGI
from tests.scripted import END, HEAD, Peer, chunk, plays, serving, tgi_stream

PATIENCE_S = 30.0


@frozen
class Measured:
    """What a stage came to."""

    timelines: list[Timeline]
    observation: Observation


async def run_stage(
    url: str, load: LoadProfile, *, stop_after_s: float | None = None, **settings: float | None
) -> Measured:
    """Measure a stage without a warm-up."""
    job = Job(
        endpoint=Endpoint(base_url=url, codec=TGI),
        load=load,
        workload=Fixed("Write of llamas", max_new_tokens=3),
        settings=Settings(warmup_s=0, **settings),  # type: ignore[arg-type]  # by name
        seed=0,
    )
    timelines: list[Timeline] = []
    stop = anyio.Event()

    async def stop_later(after_s: float) -> None:
        await anyio.sleep(after_s)
        stop.set()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            if stop_after_s is not None:
                tasks.start_soon(stop_later, stop_after_s)
            observation = await measure(job, Listener(note=timelines.append), stop)
            tasks.cancel_scope.cancel()
    return Measured(timelines, observation)


async def test_server_that_closes_after_each_stream_costs_no_request() -> None:
    """llama.cpp does: every request completes, and what it cost is counted."""
    async with serving(plays(HEAD, chunk(tgi_stream(3)), END)) as url:
        measured = await run_stage(url, Concurrency(3), duration_s=None, requests=60)

    assert len(measured.timelines) == 60
    assert all(timeline.completed for timeline in measured.timelines)
    assert all(timeline.connection.fresh for timeline in measured.timelines)
    assert sum(timeline.connection.reopened for timeline in measured.timelines) > 0


async def test_connections_are_kept_for_later_requests() -> None:
    """One for each slot, and every read stamped by the kernel."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(HEAD, chunk(tgi_stream(3)), END)

    async with serving(script) as url:
        measured = await run_stage(url, Concurrency(3), duration_s=None, requests=60)

    assert sum(timeline.connection.fresh for timeline in measured.timelines) == 3
    assert measured.observation.reads >= 60
    assert measured.observation.user_stamped_reads == 0
    assert {timeline.stamps for timeline in measured.timelines} == {"kernel"}


async def test_plan_beyond_what_the_machine_can_start_can_be_stopped(unused_port: int) -> None:
    """Requests that are overdue leave the others, and whoever stops the stage, their turn."""
    measured = await run_stage(
        f"http://127.0.0.1:{unused_port}", ConstantRate(1e6), duration_s=600, stop_after_s=0.2
    )

    assert measured.observation.interrupted
    indices = [timeline.index for timeline in measured.timelines]
    assert sorted(indices) == list(range(len(indices)))


async def test_observation_counts_the_cpu_of_the_stage() -> None:
    """What the client spent, on which a verdict rests."""
    async with serving(plays(HEAD, chunk(tgi_stream(3)), END)) as url:
        measured = await run_stage(url, Concurrency(1), duration_s=None, requests=3)

    assert measured.observation.client_cpu_ns > 0
    assert measured.observation.started_at.endswith("+00:00")
    assert measured.observation.clock_steps == 0
