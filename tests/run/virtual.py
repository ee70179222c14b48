"""Whole stages in virtual time: an hour takes no longer than its events."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias

import anyio
import httpx
import trio
from attrs import Factory, define, frozen
from trio.testing import MockClock

from llmperf_core.judge import Precision
from llmperf_core.load import LoadProfile
from llmperf_core.run.job import Job, Listener
from llmperf_core.run.settings import Settings
from llmperf_core.run.stage import measure
from llmperf_core.target import Endpoint
from llmperf_core.timeline import Observation, Progress, Timeline
from llmperf_core.units import NS_PER_S
from llmperf_core.wire.stamps import Clock
from llmperf_core.wire.tgi import Tgi
from llmperf_core.workload import Fixed, Workload
from tests.scripted import tgi_last, tgi_token

ONE_SECOND = Fixed("Write of llamas", max_new_tokens=6)
"""What takes a model a second to answer, by default."""
_LONGEST_S = 1e6
"""Of virtual time: a stage that does not end fails its test instead of hanging it."""


def now_ns() -> int:
    """Return the instant on the virtual clock."""
    return round(trio.current_time() * NS_PER_S)


@frozen
class Behaviour:
    """How a model answers one request."""

    first_s: float = 0.5
    """Until the first token."""
    gap_s: float = 0.1
    status: int = 200
    whole: bool = True
    """Whether the last token ever comes."""


@define
class Model(httpx.AsyncBaseTransport):
    """A model in this process, that answers in virtual time; and what it has seen."""

    behave: Callable[[int], Behaviour] = lambda _: Behaviour()
    """How the request of this ordinal is answered."""
    asked_at_ns: list[int] = Factory(list)
    prompts: list[str] = Factory(list)
    in_flight: int = 0
    levels: list[int] = Factory(list)
    """Requests in flight, just after each has come in."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Take a request in."""
        behaviour = self.behave(len(self.asked_at_ns))
        body = json.loads(await request.aread())
        tokens = body["parameters"]["max_new_tokens"]
        self.prompts.append(body["inputs"])
        self.asked_at_ns.append(now_ns())
        self.in_flight += 1
        self.levels.append(self.in_flight)
        return httpx.Response(behaviour.status, stream=_Answer(self, behaviour, tokens))


@frozen(eq=False)
class _Answer(httpx.AsyncByteStream):
    model: Model
    behaviour: Behaviour
    tokens: int

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.behaviour.status != 200:
            return
        await anyio.sleep(self.behaviour.first_s)
        for _ in range(self.tokens - 1):
            yield tgi_token()
            await anyio.sleep(self.behaviour.gap_s)
        if not self.behaviour.whole:
            await anyio.sleep_forever()
        yield tgi_last(self.tokens)

    async def aclose(self) -> None:
        self.model.in_flight -= 1


@frozen
class Measured:
    """What a stage came to."""

    model: Model
    timelines: list[Timeline]
    observation: Observation
    progress: list[Progress]

    @property
    def by_index(self) -> list[Timeline]:
        """The timelines in the order of being started."""
        return sorted(self.timelines, key=lambda timeline: timeline.index)

    @property
    def inside(self) -> list[Timeline]:
        """Those that started in the window, in the order of being started."""
        window = self.observation.window
        starts = ((timeline, timeline.start_at_ns) for timeline in self.by_index)
        return [timeline for timeline, start in starts if start is not None and start in window]


Behave: TypeAlias = Callable[[int], Behaviour]


def run_stage(
    load: LoadProfile,
    behave: Behave | Behaviour = Behaviour(),
    *,
    workload: Workload = ONE_SECOND,
    stop_after_s: float | None = None,
    clock: Clock = now_ns,
    **settings: float | Precision | None,
) -> Measured:
    """Measure a stage in virtual time.

    Args:
        load: when requests start.
        behave: how the model answers each; or how it answers all.
        workload: what is asked.
        stop_after_s: when somebody stops the stage.
        clock: what the stage goes by.
        settings: those that differ: a window of 10 s, no warm-up and 60 s of drain.
    """
    model = Model(behave if callable(behave) else lambda _: behave)
    job = Job(
        endpoint=Endpoint(base_url="http://model", codec=Tgi(), transport=lambda: model),
        load=load,
        workload=workload,
        settings=Settings(**{"duration_s": 10, "warmup_s": 0, **settings}),  # type: ignore[arg-type]
        seed=7,
    )
    timelines: list[Timeline] = []
    progress: list[Progress] = []
    listener = Listener(note=timelines.append, report=progress.append)

    async def main() -> Observation:
        stop = anyio.Event()
        async with anyio.create_task_group() as tasks:
            if stop_after_s is not None:
                tasks.start_soon(_set_after, stop, stop_after_s)
            with anyio.fail_after(_LONGEST_S):
                observation = await measure(job, listener, stop, clock=clock)
            tasks.cancel_scope.cancel()
        return observation

    observation = trio.run(main, clock=MockClock(autojump_threshold=0))
    return Measured(model, timelines, observation, progress)


async def _set_after(event: anyio.Event, seconds: float) -> None:
    await anyio.sleep(seconds)
    event.set()


def seconds(instants_ns: list[int] | Iterator[int]) -> list[float]:
    """Return instants in seconds."""
    return [at_ns / NS_PER_S for at_ns in instants_ns]
