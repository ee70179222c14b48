"""The front door: measure a target under a load, or under several."""

import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TypeVar

import anyio
from anyio.from_thread import start_blocking_portal
from attrs import evolve, field, frozen

from llmperf_core import show
from llmperf_core.backends import target_of
from llmperf_core.bringup import Paid
from llmperf_core.decide import Answer, Saturation, Search, Step
from llmperf_core.errors import leaf_of
from llmperf_core.interrupts import bounded
from llmperf_core.judge import Slo
from llmperf_core.load import LoadProfile
from llmperf_core.results import Explored, Run, StageResult
from llmperf_core.run.counting import counted
from llmperf_core.run.environment import environment
from llmperf_core.run.executors import in_own_process, in_process
from llmperf_core.run.folder import RunFolder, RunSpec, StageFolder
from llmperf_core.run.job import Executor, Job, Listener
from llmperf_core.run.sampler import meters_of, sampling
from llmperf_core.run.settings import Settings
from llmperf_core.show.live import Display, Live
from llmperf_core.target import CanReport, Careful, Endpoint, Prompt, Target
from llmperf_core.timeline import Timeline
from llmperf_core.workload import Synthetic, Workload

T = TypeVar("T")
_DEFAULT_WORKLOAD = Synthetic()
_DEFAULT_SETTINGS = Settings()


class InterruptedRunError(KeyboardInterrupt):
    """Ctrl-C came while a run was measured; `run` holds what had been measured by then."""

    def __init__(self, run: Run) -> None:
        super().__init__(
            "interrupted; what was measured until then is in .run (a notebook: sys.last_value.run)"
        )
        self.run = run


class StoppedBeforeStartError(Exception):
    """The target was still being brought up, so there is nothing to keep."""


def bench(
    target: Target | str,
    load: LoadProfile,
    *,
    workload: Workload = _DEFAULT_WORKLOAD,
    duration_s: float | None = None,
    slo: Slo | None = None,
    settings: Settings = _DEFAULT_SETTINGS,
) -> StageResult:
    """Measure one target under one load. Works anywhere, a running event loop included.

    Args:
        target: what to measure, or its URL: `http://host:port`, `cpu:smollm2`, …
        load: when requests start.
        workload: what is asked.
        duration_s: length of the window; None takes that of `settings`.
        slo: the limits that a request must meet to count in the goodput.
        settings: how it is measured.

    Raises:
        UsageError: the target's URL is not one that a backend understands.
        TargetError: the target could not be brought up or reached.
        HarnessError: measuring or keeping failed.
        InterruptedRunError: Ctrl-C; it holds what was measured until then.
    """
    run = sweep(
        target, [load], workload=workload, duration_s=duration_s, slo=slo, settings=settings
    )
    return run.stages[0]


async def abench(
    target: Target | str,
    load: LoadProfile,
    *,
    workload: Workload = _DEFAULT_WORKLOAD,
    duration_s: float | None = None,
    slo: Slo | None = None,
    settings: Settings = _DEFAULT_SETTINGS,
) -> StageResult:
    """Measure one target under one load: `bench` for code that is asynchronous itself.

    When it is cancelled, the measuring stops, the target is taken down, and what was measured
    until then stays in `settings.folder`.

    Raises:
        UsageError: the target's URL is not one that a backend understands.
        TargetError: the target could not be brought up or reached.
        HarnessError: measuring or keeping failed.
    """
    run = await asweep(
        target, [load], workload=workload, duration_s=duration_s, slo=slo, settings=settings
    )
    return run.stages[0]


def sweep(
    target: Target | str,
    loads: Sequence[LoadProfile],
    *,
    workload: Workload = _DEFAULT_WORKLOAD,
    duration_s: float | None = None,
    slo: Slo | None = None,
    settings: Settings = _DEFAULT_SETTINGS,
) -> Run:
    """Measure one target under several loads, one after the other; it is brought up once.

    The arguments and what is raised are those of `bench`.
    """
    settings = _settled(settings, duration_s)
    run, _ = _measured(
        partial(_follow, target, _each(loads), workload=workload, slo=slo, settings=settings)
    )
    return run


async def asweep(
    target: Target | str,
    loads: Sequence[LoadProfile],
    *,
    workload: Workload = _DEFAULT_WORKLOAD,
    duration_s: float | None = None,
    slo: Slo | None = None,
    settings: Settings = _DEFAULT_SETTINGS,
) -> Run:
    """Measure one target under several loads: `sweep` for code that is asynchronous itself."""
    settings = _settled(settings, duration_s)
    run, _ = await _follow(
        target, _each(loads), workload=workload, slo=slo, settings=settings, stop=anyio.Event()
    )
    return run


def explore(
    target: Target | str,
    question: Search | Saturation,
    *,
    workload: Workload = _DEFAULT_WORKLOAD,
    settings: Settings = _DEFAULT_SETTINGS,
) -> Explored:
    """Measure one target under the loads that a question takes, each chosen by what came before.

    Args:
        target: what to measure, or its URL.
        question: `Search`, for the highest load that keeps limits; `Saturation`, for where the
            throughput levels off.
        workload: what is asked.
        settings: how it is measured. How long a stage is, the question says.

    Raises:
        UsageError: the target's URL is not one that a backend understands.
        TargetError: the target could not be brought up or reached.
        HarnessError: measuring or keeping failed.
        InterruptedRunError: Ctrl-C; it holds the stages until then.
    """
    plan: Generator[Step, StageResult, Answer] = question.plan()
    run, answer = _measured(
        partial(_follow, target, plan, workload=workload, slo=None, settings=settings)
    )
    return _explored(run, answer)


async def aexplore(
    target: Target | str,
    question: Search | Saturation,
    *,
    workload: Workload = _DEFAULT_WORKLOAD,
    settings: Settings = _DEFAULT_SETTINGS,
) -> Explored:
    """Measure one target under the loads that a question takes: `explore` for asynchronous code."""
    plan: Generator[Step, StageResult, Answer] = question.plan()
    run, answer = await _follow(
        target, plan, workload=workload, slo=None, settings=settings, stop=anyio.Event()
    )
    return _explored(run, answer)


def _explored(run: Run, answer: Answer | None) -> Explored:
    if answer is None:
        raise InterruptedRunError(run)
    return Explored(run=run, answer=answer)


def _each(loads: Sequence[LoadProfile]) -> Generator[Step, StageResult, None]:
    """Have each load measured, whatever comes of the others."""
    for load in loads:
        yield Step(load)


def _settled(settings: Settings, duration_s: float | None) -> Settings:
    return settings if duration_s is None else evolve(settings, duration_s=duration_s)


def _measured(measure: Callable[..., Awaitable[tuple[Run, T]]]) -> tuple[Run, T]:
    """Measure here and now; Ctrl-C keeps what there is."""
    try:
        (run, answer), interrupted = blocking(measure)
    except StoppedBeforeStartError:
        raise KeyboardInterrupt from None
    if interrupted:
        raise InterruptedRunError(run) from None
    return run, answer


def blocking(measure: Callable[..., Awaitable[T]]) -> tuple[T, bool]:
    """Run it on an event loop in a thread of its own, so that a running loop is no hindrance.

    Ctrl-C reaches this thread: it stops the measuring and keeps what there is; a second one
    cancels that, too; whatever comes then waits until the target has been taken down.

    Args:
        measure: takes an event `stop`; once that is set, it is to return what there is.

    Returns:
        What it returned, and whether Ctrl-C came.
    """
    options = {"use_uvloop": sys.platform != "win32"}
    with bounded(), start_blocking_portal("asyncio", backend_options=options) as portal:
        stop = portal.call(anyio.Event)
        running = portal.start_task_soon(partial(measure, stop=stop))
        try:
            return running.result(), False
        except KeyboardInterrupt:
            portal.call(stop.set)
            return running.result(), True


async def _follow(
    target: Target | str,
    plan: Generator[Step, StageResult, T],
    *,
    workload: Workload,
    slo: Slo | None,
    settings: Settings,
    stop: anyio.Event,
) -> tuple[Run, T | None]:
    """Measure what the plan asks for; return the stages, and what it returns unless stopped."""
    if isinstance(target, str):
        target = target_of(target)
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    return await Sweep(target, workload, slo, evolve(settings, seed=seed), stop).run(plan)


@frozen
class Sweep:
    """What the stages of a run share."""

    target: Target
    workload: Workload
    slo: Slo | None
    settings: Settings
    stop: anyio.Event
    """Once it is set, the stage under way ends at once, and no other is begun."""
    display: Display = field()

    @display.default
    def _display(self) -> Display:
        return Live(quiet=self.settings.quiet)

    called: str | None = None
    """What tables call the target; None takes its own name."""

    async def run(self, plan: Generator[Step, StageResult, T]) -> tuple[Run, T | None]:
        """Measure what the plan asks for; return the stages, and what it returns unless stopped.

        Raises:
            StoppedBeforeStartError: `stop` was set before the target was up.
        """
        try:
            return await self._run(plan)
        except BaseExceptionGroup as group:
            error = leaf_of(group)
            raise error from error.__cause__

    async def _run(self, plan: Generator[Step, StageResult, T]) -> tuple[Run, T | None]:
        stages: list[StageResult] = []
        answer: T | None = None
        async with self._open_target() as endpoint:
            workload = await counted(self.workload, endpoint)
            if isinstance(endpoint.codec, Careful):
                # Where the server would refuse every request, nothing is written nor measured.
                endpoint.codec.caveats(Prompt(text="any", max_new_tokens=1))
            spec = self._spec(endpoint, workload)
            path = self.settings.folder
            folder = RunFolder(path, spec) if path is not None else None
            try:
                step = next(plan)
                while not self.stop.is_set():
                    job = self._job(len(stages), step, endpoint, workload)
                    place = folder.new_stage(job.load, cell=step.cell) if folder else None
                    stages.append(await self._stage(job, spec, place))
                    step = plan.send(stages[-1])
            except StopIteration as end:
                answer = end.value
        return Run(spec=spec, stages=tuple(stages)), answer

    def _job(self, number: int, step: Step, endpoint: Endpoint, workload: Workload) -> Job:
        return Job(
            endpoint=endpoint,
            load=step.load,
            workload=workload,
            settings=_settled(self.settings, step.duration_s),
            # No stage may ask what an earlier one has asked: a prefix cache would answer.
            seed=(self.settings.seed or 0) + number if step.seed is None else step.seed,
        )

    @asynccontextmanager
    async def _open_target(self) -> AsyncIterator[Endpoint]:
        """Bring the target up; while that goes on, `stop` cancels it."""
        opened = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def give_up_when_stopped() -> None:
                await self.stop.wait()
                if not opened.is_set():
                    tasks.cancel_scope.cancel()

            tasks.start_soon(give_up_when_stopped)
            with ExitStack() as waiting:
                state = self.display.waiting(f"bringing up {self.target.name} …")
                report = waiting.enter_context(state)
                target = self.target
                if isinstance(target, Paid) and target.price is not None:
                    self.display.spend(target.price.usd_per_h)
                if isinstance(target, CanReport):
                    target = target.reporting(report)
                async with target.open() as endpoint:
                    waiting.close()
                    opened.set()
                    yield endpoint
            tasks.cancel_scope.cancel()
        if not opened.is_set():
            raise StoppedBeforeStartError

    def _spec(self, endpoint: Endpoint, workload: Workload) -> RunSpec:
        return RunSpec(
            target=self.called or self.target.name,
            simulated=endpoint.simulated,
            endpoint={
                "protocol": endpoint.codec.name,
                "stream": endpoint.codec.stream,
                "model": endpoint.model,
                "server": endpoint.server,
            },
            workload=workload.describe(),
            settings=self.settings,
            seed=self.settings.seed or 0,
            slo=self.slo,
            environment=environment(),
        )

    async def _stage(self, job: Job, spec: RunSpec, place: StageFolder | None) -> StageResult:
        meters = await meters_of(job.endpoint, self.settings)
        # They stay here: the measuring process has other things to do.
        job = evolve(job, endpoint=evolve(job.endpoint, meters=()))
        timelines: list[Timeline] = []
        execute: Executor = in_process if self.settings.in_process else in_own_process
        with (
            place.journal() if place is not None else nullcontext() as journal,
            self.display.stage(show.load_label(job.load), _planned_s(job.settings)) as live,
        ):

            def note(timeline: Timeline) -> None:
                timelines.append(timeline)
                if journal is not None:
                    journal.append(timeline)
                live.note(timeline)

            async with sampling(meters, self.settings) as sampler:
                listener = Listener(note=note, report=sampler.heard(live.report))
                observation = await execute(job, listener, self.stop)
        telemetry = sampler.telemetry(observation.zero_at_ns)
        if place is not None:
            # First of all: from now on nothing of the stage can be lost.
            place.finish(observation, telemetry)
        result = StageResult.of(
            timelines,
            observation,
            load=job.load,
            spec=spec,
            telemetry=telemetry,
            cell=None if place is None else place.cell,
        )
        if place is not None:
            result.keep(place)
        return result


def _planned_s(settings: Settings) -> float | None:
    return None if settings.duration_s is None else settings.warmup_s + settings.duration_s
