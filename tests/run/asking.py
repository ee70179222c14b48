"""Single requests to scripted servers on the loopback interface, over the measuring wire."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from attrs import frozen

from llmperf_core.load import Concurrency
from llmperf_core.run.exchange import Client, exchange
from llmperf_core.run.job import Job
from llmperf_core.run.settings import Deadlines, Settings
from llmperf_core.run.stage import _client
from llmperf_core.target import Codec, Endpoint, Prompt
from llmperf_core.timeline import Failed, Timeline
from llmperf_core.units import NS_PER_S
from llmperf_core.wire.openai import OpenAIChat
from llmperf_core.wire.tgi import Tgi
from llmperf_core.workload import Fixed
from tests.scripted import Script, serving

TGI, CHAT = Tgi(), OpenAIChat(model="m")
PROMPT = Prompt(text="Write of llamas", max_new_tokens=3)
SHORT_S = 0.3
"""Long enough for a busy machine to send a few bytes, short enough to wait for."""
_PATIENCE_S = 20.0


@frozen
class Asker:
    """Asks one server, over one client."""

    client: Client

    async def ask(self, due_in_s: float | None = None, *, prompt: Prompt = PROMPT) -> Timeline:
        """Make a request, and return the one timeline that was noted."""
        noted: list[Timeline] = []
        due_at_ns = None
        if due_in_s is not None:
            due_at_ns = time.monotonic_ns() - self.client.zero_ns + round(due_in_s * NS_PER_S)
        with anyio.fail_after(_PATIENCE_S):
            outcome = await exchange(
                self.client, prompt, index=0, due_at_ns=due_at_ns, note=noted.append
            )
        [timeline] = noted
        assert timeline.outcome == outcome
        return timeline


@asynccontextmanager
async def asking_at(endpoint: Endpoint, settings: Settings | None = None) -> AsyncIterator[Asker]:
    """Yield one who asks the endpoint, with a client as a stage makes it."""
    job = Job(
        endpoint=endpoint,
        load=Concurrency(1),
        workload=Fixed(PROMPT.text),
        settings=settings or Settings(),
        seed=0,
    )
    async with _client(job, time.monotonic_ns) as (client, _):
        yield Asker(client)


@asynccontextmanager
async def asking(script: Script, codec: Codec = TGI, **deadlines: float) -> AsyncIterator[Asker]:
    """Yield one who asks a server that plays the script."""
    settings = Settings(deadlines=Deadlines(**deadlines))
    async with (
        serving(script) as url,
        asking_at(Endpoint(base_url=url, codec=codec), settings) as asker,
    ):
        yield asker


async def ask(script: Script, codec: Codec = TGI, **deadlines: float) -> Timeline:
    """Return the timeline of one request to a server that plays the script."""
    async with asking(script, codec, **deadlines) as asker:
        return await asker.ask()


async def ask_at(url: str, *, settings: Settings | None = None, **endpoint: object) -> Timeline:
    """Return the timeline of one request to whatever is at the URL."""
    there = Endpoint(base_url=url, codec=TGI, **endpoint)  # type: ignore[arg-type]  # by name
    async with asking_at(there, settings) as asker:
        return await asker.ask()


def failure(timeline: Timeline) -> Failed:
    """Return how the request failed; its detail must be one short line."""
    outcome = timeline.outcome
    assert isinstance(outcome, Failed), outcome
    assert 0 < len(outcome.detail) <= 200
    assert outcome.detail.isprintable()
    return outcome
