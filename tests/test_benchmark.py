"""The front door: one call measures, keeps, and takes the target down on every way out."""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from attrs import Factory, define, evolve, field, frozen

from llmperf_core import (
    Concurrency,
    ConstantRate,
    Endpoint,
    Fixed,
    InterruptedRunError,
    Poisson,
    Prompt,
    Settings,
    Slo,
    Synthetic,
    abench,
    asweep,
    bench,
    load_run,
    sweep,
)
from llmperf_core.errors import (
    MeasuringProcessError,
    StartError,
    StoredRunError,
    TargetUrlError,
    UnreachableError,
)
from llmperf_core.load import LoadProfile
from llmperf_core.target import Json
from llmperf_core.testing import ReferenceServer, Script
from llmperf_core.wire.tgi import Tgi
from tests.scripted import tgi_stream

pytestmark = pytest.mark.usefixtures("deadline")


PATIENCE_S = 40.0
TWO = Fixed("Write of llamas", max_new_tokens=2)
BRIEF = Settings(duration_s=0.3, warmup_s=0)
FIVE = Settings(duration_s=None, requests=5, warmup_s=0, in_process=True)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the URL of a reference server."""
    with ReferenceServer(Script(first_token_s=0.002, gap_s=0.002)) as server:
        yield server.url


@define
class Echo(httpx.AsyncBaseTransport):
    """A model in this process that answers at once, and keeps what it was asked."""

    asked: list[str] = Factory(list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer with two tokens."""
        self.asked.append(json.loads(await request.aread())["inputs"])
        await anyio.sleep(0.001)
        return httpx.Response(200, content=tgi_stream(2))


def over(echo: Echo) -> Callable[[], Echo]:
    """Return what makes a transport: this very one."""
    return lambda: echo


@frozen
class Watched:
    """A target that notes when it is brought up and taken down."""

    url: str = "http://model"
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None
    bring_up: Callable[[], object] = field(default=lambda: None)
    events: list[str] = Factory(list)

    @property
    def name(self) -> str:
        """What tables call it."""
        return "watched"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Bring it up."""
        self.events.append("up")
        try:
            self.bring_up()
            yield Endpoint(base_url=self.url, codec=Tgi(), transport=self.transport)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)  # as taking a container down does
                self.events.append("down")


@frozen
class Raises:
    """A workload that fails at its third prompt."""

    error: Exception

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield two prompts, and fail."""
        yield Prompt(text=f"{seed}", max_new_tokens=2)
        yield Prompt(text=f"{seed}", max_new_tokens=2)
        raise self.error

    def describe(self) -> Mapping[str, Json]:
        """Return the kind."""
        return {"kind": "raises"}


def in_thread(work: Callable[[], object]) -> None:
    """Do it in another thread, and fail where it hangs."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds; a test that would hang fails."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- another process makes it true
            await anyio.sleep(0.02)


def lines_of_journals(folder: Path) -> int:
    """Return how many requests the journals of a run hold."""
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("timelines.jsonl"))


def test_bench_measures_a_url(url: str) -> None:
    """From the URL to the judged result; the server is asked what it is."""
    stage = bench(url, Concurrency(2), workload=TWO, duration_s=0.4, settings=BRIEF)

    assert stage.summary.requests.completed > 4
    assert stage.summary.requests.failed == 0
    assert stage.summary.stamps == "kernel"
    assert stage.observation.window.duration_ns == 400_000_000
    assert stage.spec.target == url
    assert stage.spec.endpoint["protocol"] == "tgi"
    assert stage.spec.endpoint["model"] == "reference"


def test_nothing_is_printed(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A library is quiet where there is no terminal."""
    bench(url, Concurrency(1), workload=TWO, settings=BRIEF)

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("in_process", [True, False])
async def test_bench_works_inside_a_running_loop(url: str, *, in_process: bool) -> None:
    """As in a notebook's cell: the loop is blocked, as by any call that is not asynchronous."""
    settings = Settings(duration_s=0.3, warmup_s=0, in_process=in_process)
    stage = bench(url, Concurrency(1), workload=TWO, settings=settings)

    assert stage.summary.requests.completed > 4


def test_bench_works_in_another_thread(url: str) -> None:
    """Where no signals come."""
    stages = []
    in_thread(lambda: stages.append(bench(url, Concurrency(1), workload=TWO, settings=BRIEF)))

    assert stages[0].summary.requests.completed > 4


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_abench_works_on_any_loop(url: str, backend: str) -> None:
    """Its own process measures, so that a program on trio can use it, too."""
    measure = partial(abench, Watched(url), Concurrency(1), workload=TWO, settings=BRIEF)
    stage = anyio.run(measure, backend=backend)

    assert stage.summary.requests.completed > 4


def test_same_seed_asks_the_same() -> None:
    """A run can be repeated, to the word."""
    asked = []
    for seed in (7, 7, 8):
        echo = Echo()
        settings = evolve(FIVE, seed=seed)
        bench(Watched(transport=over(echo)), Concurrency(1), settings=settings)
        asked.append(echo.asked)

    assert asked[0] == asked[1]
    assert not set(asked[1]) & set(asked[2])


def test_seed_that_was_drawn_is_recorded() -> None:
    """So that a run without one can be repeated, too; the next one draws another."""
    echo = Echo()
    target = Watched(transport=over(echo))
    runs = [sweep(target, [Concurrency(1)], settings=FIVE) for _ in range(2)]

    assert runs[0].spec.seed == runs[0].spec.settings.seed != runs[1].spec.seed
    first = [
        prompt.text for _, prompt in zip(range(5), prompts_of(runs[0].spec.seed), strict=False)
    ]
    assert echo.asked[:5] == first


def prompts_of(seed: int) -> Iterator[Prompt]:
    """Return what the default workload asks with a seed."""
    return Synthetic().prompts(seed)


def test_stages_of_a_sweep_ask_different_prompts() -> None:
    """A prefix cache must not answer the second stage with the first one's work."""
    echo = Echo()
    run = sweep(
        Watched(transport=over(echo)),
        [Concurrency(1), Concurrency(2), ConstantRate(200)],
        settings=FIVE,
    )

    assert [stage.summary.requests.completed for stage in run.stages] == [5, 5, 5]
    assert len(set(echo.asked)) == len(echo.asked) == 15


def test_sweep_brings_the_target_up_once() -> None:
    """Its stages come in the order of the loads."""
    target = Watched(transport=Echo)
    loads: list[LoadProfile] = [Concurrency(2), Poisson(100), Concurrency(1)]
    run = sweep(target, loads, settings=FIVE, slo=Slo(ttft_ms=1))

    assert [stage.load for stage in run.stages] == loads
    assert target.events == ["up", "down"]
    assert {stage.summary.slo for stage in run.stages} == {Slo(ttft_ms=1)}


def test_run_is_kept_while_it_goes_on(tmp_path: Path) -> None:
    """What is loaded from the folder is what was returned."""
    settings = evolve(FIVE, folder=tmp_path)
    run = sweep(Watched(transport=Echo), [Concurrency(1), Concurrency(2)], settings=settings)

    assert load_run(tmp_path).to_dict() == run.to_dict()


def test_folder_with_a_run_in_it_is_refused(tmp_path: Path) -> None:
    """And the target taken down, with nothing asked."""
    settings = evolve(FIVE, folder=tmp_path)
    echo = Echo()
    target = Watched(transport=over(echo))
    bench(target, Concurrency(1), settings=settings)

    with pytest.raises(StoredRunError, match="there is a run in it already"):
        bench(target, Concurrency(1), settings=settings)
    assert target.events == ["up", "down"] * 2
    assert len(echo.asked) == 5


def test_error_of_a_workload_comes_out_as_itself() -> None:
    """Measured in this process: the very error, in no group; the target is taken down."""
    error = RuntimeError("no llamas")
    target = Watched(transport=Echo)
    with pytest.raises(RuntimeError) as raised:
        bench(target, Concurrency(1), workload=Raises(error), settings=FIVE)

    assert raised.value is error
    assert target.events == ["up", "down"]


def test_error_of_a_workload_in_its_process_is_one_clear_message(url: str) -> None:
    """What it was, and that what had come is kept."""
    target = Watched(url)
    workload = Raises(RuntimeError("no llamas"))
    with pytest.raises(MeasuringProcessError, match="RuntimeError: no llamas;") as raised:
        bench(target, Concurrency(1), workload=workload, settings=BRIEF)

    assert target.events == ["up", "down"]
    assert raised.value.__cause__ is not None


def test_error_while_bringing_up_comes_out_as_itself() -> None:
    """And what had been brought up until then is taken down."""

    def fail() -> None:
        raise StartError("the server", "no memory")

    target = Watched(bring_up=fail)
    with pytest.raises(StartError, match="no memory"):
        bench(target, Concurrency(1))
    assert target.events == ["up", "down"]


def test_server_that_is_not_there_is_unreachable() -> None:
    """A URL that nothing answers at."""
    with pytest.raises(UnreachableError, match="connection refused"):
        bench("http://127.0.0.1:9", Concurrency(1))


def test_url_that_is_none_is_said_at_once() -> None:
    """Nothing is started for it."""
    with pytest.raises(TargetUrlError):
        bench("no-scheme", Concurrency(1))


async def test_cancelling_takes_everything_down_and_keeps_the_journal(
    url: str, tmp_path: Path
) -> None:
    """What was measured stays in the folder, as an interrupted run."""
    target = Watched(url)
    settings = Settings(duration_s=600, warmup_s=0, folder=tmp_path / "run")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(abench, target, Concurrency(2), workload=TWO, settings=settings))
        await until(lambda: lines_of_journals(tmp_path) > 5)
        tasks.cancel_scope.cancel()

    assert target.events == ["up", "down"]
    [stage] = load_run(tmp_path / "run").stages
    assert stage.observation.interrupted
    assert stage.summary.requests.completed > 4
    indices = sorted(timeline.index for timeline in stage.timelines)
    assert indices == list(range(len(indices)))


async def test_cancelling_natively_is_cancelling(url: str, tmp_path: Path) -> None:
    """By asyncio's own means: the task is cancelled, and no error stands in for it."""
    target = Watched(url)
    settings = Settings(duration_s=600, warmup_s=0, folder=tmp_path / "run")
    task = asyncio.create_task(abench(target, Concurrency(2), workload=TWO, settings=settings))
    await until(lambda: lines_of_journals(tmp_path) > 5)
    task.cancel()

    with pytest.raises(asyncio.CancelledError), anyio.fail_after(PATIENCE_S):
        await task
    assert target.events == ["up", "down"]
    assert load_run(tmp_path / "run").stages[0].observation.interrupted


async def test_cancelling_while_bringing_up(tmp_path: Path) -> None:
    """What a half-started target holds is given back, and no folder is left for no run."""

    @frozen
    class Slow(Watched):
        @asynccontextmanager
        async def open(self) -> AsyncIterator[Endpoint]:
            self.events.append("up")
            try:
                await anyio.sleep_forever()
                yield Endpoint(base_url="", codec=Tgi())
            finally:
                self.events.append("down")

    target = Slow()
    with anyio.move_on_after(0.1):
        await asweep(target, [Concurrency(1)], settings=Settings(folder=tmp_path / "run"))

    assert target.events == ["up", "down"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("in_process", [True, False])
def test_interrupt_keeps_what_was_measured(url: str, tmp_path: Path, *, in_process: bool) -> None:
    """Ctrl-C: the error holds the run, judged, and the folder is complete."""
    target = Watched(url)
    settings = Settings(duration_s=600, warmup_s=0, folder=tmp_path, in_process=in_process)
    watcher = threading.Thread(
        target=interrupt_when, args=(lambda: lines_of_journals(tmp_path) > 5,)
    )
    watcher.start()
    with pytest.raises(InterruptedRunError) as raised:
        sweep(target, [Concurrency(2), Concurrency(3)], workload=TWO, settings=settings)
    watcher.join()
    run = raised.value.run

    assert target.events == ["up", "down"]
    assert len(run.stages) == 1
    assert run.stages[0].observation.interrupted
    assert run.stages[0].summary.requests.completed > 4
    assert load_run(tmp_path).to_dict() == run.to_dict()


def interrupt_when(condition: Callable[[], object]) -> None:
    """Press Ctrl-C once the condition holds."""
    anyio.run(until, condition)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_interrupt_while_bringing_up_is_a_plain_interrupt() -> None:
    """There is nothing to keep; what was half up is taken down."""

    @frozen
    class Slow(Watched):
        @asynccontextmanager
        async def open(self) -> AsyncIterator[Endpoint]:
            self.events.append("up")
            try:
                await anyio.sleep_forever()
                yield Endpoint(base_url="", codec=Tgi())
            finally:
                self.events.append("down")

    target = Slow()
    watcher = threading.Thread(target=interrupt_when, args=(lambda: target.events,))
    watcher.start()
    with pytest.raises(KeyboardInterrupt) as raised:
        bench(target, Concurrency(1))
    watcher.join()

    assert not isinstance(raised.value, InterruptedRunError)
    assert target.events == ["up", "down"]


def test_no_loads_are_no_stages() -> None:
    """Nothing to measure is a run of nothing."""
    target = Watched(transport=Echo)

    assert sweep(target, [], settings=FIVE).stages == ()
    assert target.events == ["up", "down"]


@frozen
class Telling:
    """A target that says how its bring-up stands."""

    url: str
    name: str = "telling"
    report: Callable[[str], None] | None = None

    def reporting(self, report: Callable[[str], None]) -> "Telling":
        """Return one that tells that."""
        return evolve(self, report=report)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Tell, and connect."""
        assert self.report is not None, "nobody listens"
        self.report("loading")
        yield Endpoint(base_url=self.url, codec=Tgi())


def test_a_target_that_can_tells_how_its_bring_up_stands(url: str) -> None:
    """It is given somebody to tell before it is opened."""
    stage = bench(Telling(url), Concurrency(1), workload=TWO, settings=BRIEF)

    assert stage.summary.requests.completed > 0
