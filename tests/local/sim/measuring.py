"""Measuring a simulated server with our wire, beside its own record."""

from collections.abc import Iterator, Mapping

import anyio
import httpx
import msgspec
from attrs import frozen

from llmperf_core.load import Concurrency
from llmperf_core.run.job import Job, Listener
from llmperf_core.run.settings import Settings
from llmperf_core.run.stage import measure
from llmperf_core.target import Json, Prompt
from llmperf_core.timeline import Instants, Timeline
from llmperf_local import Simulated
from llmperf_local.sim.record import Played, Record

REQUESTS = 12


@frozen
class Numbered:
    """A workload in which each request asks something else."""

    def prompts(self, seed: int) -> Iterator[Prompt]:  # noqa: ARG002 -- nothing is random here
        """Yield each once."""
        for number in range(REQUESTS):
            yield Prompt(text=f"request {number}", max_new_tokens=40)

    def describe(self) -> dict[str, Json]:
        """Return nothing: no run is kept."""
        return {}


def measured_and_played(
    target: Simulated, *, streams: int
) -> tuple[Mapping[str, Instants], list[Played]]:
    """Return when tokens came, by prompt, and what the server says; on the machine's clock."""

    async def run() -> tuple[Mapping[str, Instants], list[Played]]:
        timelines: list[Timeline] = []
        async with target.open() as endpoint:
            job = Job(
                endpoint=endpoint,
                load=Concurrency(streams),
                workload=Numbered(),
                settings=Settings(duration_s=None, requests=REQUESTS, warmup_s=0),
                seed=0,
            )
            seen = await measure(job, Listener(note=timelines.append), anyio.Event())
            async with httpx.AsyncClient(base_url=endpoint.base_url) as client:
                said = (await client.get("/llmperf/record")).content
        came = {f"request {t.index}": t.token_at_ns + seen.zero_at_ns for t in timelines}
        return came, msgspec.json.decode(said, type=Record).requests

    return anyio.run(run, backend_options={"use_uvloop": True})
