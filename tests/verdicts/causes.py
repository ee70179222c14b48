"""What makes each reason of a verdict: its cause, brought about for real.

No timeline is written by hand here. Servers are asked over sockets; or in virtual time, by the same
code, where the cause lies in the load or in the server and would take minutes.
"""

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event
from typing import TypeAlias

import httpx
import pynvml
import pytest
from attrs import evolve, frozen

from llmperf_core import (
    Concurrency,
    ConstantRate,
    Endpoint,
    Fixed,
    Settings,
    bench,
    calibrate,
    import_results,
    testing,
)
from llmperf_core.backends import target_of
from llmperf_core.judge import Precision, Reason, judge, summarize
from llmperf_core.load import LoadProfile
from llmperf_core.run import stage as running
from llmperf_core.target import Json, Options, Prompt, Target
from llmperf_core.testing import ReferenceServer, Script
from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_core.wire.metrics_page import find_metrics_page
from llmperf_core.wire.stamps import WallOffset
from llmperf_core.wire.tgi import Tgi
from llmperf_core.workload import Workload
from llmperf_local import Answers, CpuModel, Hardware, ServerOptions, Simulated
from llmperf_local.sim import Ask, Scheduler, VirtualStage, run_virtually
from tests.calibrated import GOOD
from tests.local.fake_nvml import FakeNvml
from tests.local.sim.machines import MACHINE
from tests.local.sim.serving import FAST, SLOW, served, setup_of
from tests.run.virtual import Behaviour, Measured, run_stage
from tests.starving import PROCESSORS, hogging, spinning

Reasons: TypeAlias = tuple[Reason, ...]
Make: TypeAlias = Callable[[bool], Reasons]
"""Takes whether the cause is there; returns what is then said."""

FIVE_TOKENS = Fixed("Write of llamas", max_new_tokens=5)
TWENTY_TOKENS = Fixed("Write of llamas", max_new_tokens=20)
EVEN = Script(first_token_s=0.02, gap_s=0.02, scatter=True)
IMPORTED = Path(__file__).parents[1] / "data" / "imports" / "llmeter"


@frozen
class Cause:
    """How some reasons come about."""

    codes: tuple[tuple[str, str], ...]
    """The module of `judge/` that gives the reason, and its code."""
    make: Make
    controlled: bool
    """Whether the reasons stay away without the cause, on a busy machine too."""


CAUSES: list[Cause] = []


def causes(*codes: str, by: str = "verdict", controlled: bool = True) -> Callable[[Make], Make]:
    """Enter a function among the causes, with the codes of the reasons that it makes."""

    def enter(make: Make) -> Make:
        CAUSES.append(Cause(tuple((by, code) for code in codes), make, controlled))
        return make

    return enter


def measured(
    target: Target | str, load: LoadProfile, workload: Workload = FIVE_TOKENS, **settings: object
) -> Reasons:
    """Return what is said of a stage that was measured over sockets."""
    usual: Mapping[str, object] = {"warmup_s": 0, "quiet": True, "seed": 1}
    how = Settings(**{**usual, **settings})  # type: ignore[arg-type] # by name
    return bench(target, load, workload=workload, settings=how).verdict.reasons


def in_virtual_time(load: LoadProfile, stage: Measured) -> Reasons:
    """Return what is said of a stage that was measured in virtual time."""
    summary = summarize(stage.timelines, stage.observation, load=load)
    return judge(summary, stage.observation).reasons


def simulated(
    load: LoadProfile,
    asks: Iterator[Ask],
    options: ServerOptions,
    *,
    duration_s: int = 30,
    hardware: Hardware = MACHINE,
) -> Reasons:
    """Return what is said of a stage in which a simulated server was asked in virtual time."""
    stage = VirtualStage(duration_ns=duration_s * NS_PER_S, warm_up_ns=10 * NS_PER_S)
    scheduler = Scheduler(hardware, options)
    timelines, observation = run_virtually(scheduler, asks, load=load, stage=stage)
    return judge(summarize(timelines, observation, load=load), observation).reasons


@causes("no_completed_request")
def a_server_that_refuses(caused: bool) -> Reasons:  # noqa: FBT001
    """Every request is answered with 503."""
    with ReferenceServer(EVEN, fault="http-503-json" if caused else None) as server:
        return measured(server.url, Concurrency(1), duration_s=None, requests=3)


@causes("too_few_samples")
def a_handful_of_requests(caused: bool) -> Reasons:  # noqa: FBT001
    """Five requests are measured."""
    with ReferenceServer(EVEN) as server:
        requests = 5 if caused else 80
        return measured(server.url, Concurrency(8), duration_s=None, requests=requests)


@causes("errors")
def an_overloaded_server(caused: bool) -> Reasons:  # noqa: FBT001
    """It has room for two requests, is asked six at a time, and says so in its streams."""
    options = ServerOptions(max_concurrent_requests=2 if caused else 128)
    return measured(Simulated(SLOW, server=options), Concurrency(6), duration_s=1)


@causes("other_clients", by="watching")
def a_second_client(caused: bool) -> Reasons:  # noqa: FBT001
    """Somebody else asks the same server all the while, which its own counter shows."""
    with served(setup_of()) as server, ThreadPoolExecutor(1) as other:
        over = Event()

        def ask() -> None:
            while not over.is_set():
                server.generate("Write of alpacas", max_new_tokens=1)

        asking = other.submit(ask) if caused else None
        try:
            return measured(server.url, Concurrency(2), duration_s=2)
        finally:
            over.set()
            if asking is not None:
                asking.result()


@causes("offered_load")
def a_load_that_waits_at_its_cap(caused: bool) -> Reasons:  # noqa: FBT001
    """Two requests may be in flight, and the server answers a fifth of what is due."""
    how: dict[str, object] = {"max_in_flight": 2, "drain_s": 0} if caused else {}
    return measured(Simulated(SLOW), ConstantRate(40), FIVE_TOKENS, duration_s=1.5, **how)


@causes("lag", controlled=False)
def requests_that_wait_at_the_cap(_: bool) -> Reasons:  # noqa: FBT001
    """As above, but all are sent in the end: late."""
    return measured(Simulated(SLOW), ConstantRate(40), duration_s=1.5, max_in_flight=2)


@causes("censored")
def a_hard_deadline(caused: bool) -> Reasons:  # noqa: FBT001
    """What takes a tenth of a second is cut off when the window closes."""
    with ReferenceServer(EVEN) as server:
        drain_s = 0 if caused else 60
        return measured(server.url, ConstantRate(40), duration_s=1, drain_s=drain_s)


@causes("early_end")
def a_model_that_ends_its_answers(caused: bool) -> Reasons:  # noqa: FBT001
    """Each token has a chance of a third to be the last."""
    options = ServerOptions(answers=Answers(eos_hazard=0.3 if caused else 0))
    target = Simulated(FAST, server=options)
    return measured(target, Concurrency(4), TWENTY_TOKENS, duration_s=None, requests=40)


@causes("non_stationary")
def a_queue_that_grows(caused: bool) -> Reasons:  # noqa: FBT001
    """A server that can answer eight requests a second is asked twelve."""
    asks = (Ask(input_tokens=10, max_new_tokens=20, seed=seed) for seed in count())
    load = ConstantRate(12 if caused else 4)
    return simulated(load, asks, ServerOptions(prefix_caching=False, max_batch_size=4))


@causes("littles_law")
def a_server_that_hangs(caused: bool) -> Reasons:  # noqa: FBT001
    """From the middle of the window on no answer ends."""
    load = Concurrency(4)
    hangs_from = 40 if caused else 1_000
    stage = run_stage(load, lambda k: Behaviour(whole=k < hangs_from), duration_s=20)
    return in_virtual_time(load, stage)


@causes("read_lag", "coalesced", controlled=False)
def a_busy_program(_: bool) -> Reasons:  # noqa: FBT001
    """The stage is measured in a process whose other threads keep it from reading."""
    with ReferenceServer(EVEN) as server, hogging():
        load = Concurrency(8)
        return measured(server.url, load, TWENTY_TOKENS, duration_s=1.5, in_process=True)


@causes("degraded_instrument", by="calibration", controlled=False)
def a_program_that_was_idle_when_calibrated(_: bool) -> Reasons:  # noqa: FBT001
    """As above, after a calibration that found nothing wrong."""
    calibration = evolve(GOOD, streams=8, load_value=8)
    how: dict[str, object] = {"in_process": True, "calibration": calibration}
    with ReferenceServer(EVEN) as server, hogging():
        return measured(server.url, Concurrency(8), TWENTY_TOKENS, duration_s=1.5, **how)


@causes("client_cpu")
def a_program_that_computes(caused: bool) -> Reasons:  # noqa: FBT001
    """Whatever starts a request computes for longer, of the processor's time, than it takes."""

    def behave(_: int) -> Behaviour:
        until_ns = time.process_time_ns() + (NS_PER_S // 3 if caused else 0)
        while time.process_time_ns() < until_ns:
            pass
        return Behaviour(first_s=0.1, gap_s=0.01)

    load = Concurrency(1)
    return in_virtual_time(load, run_stage(load, behave, duration_s=1))


@causes("bursts", controlled=False)
def a_server_that_sends_two_at_a_time(_: bool) -> Reasons:  # noqa: FBT001
    """Two tokens come in each write, half a second apart: any client is in time for them."""
    script = Script(timeline=[(0.5, 2), (1, 2), (1.5, 2), (2, 2)])
    with ReferenceServer(script) as server:
        return measured(server.url, Concurrency(12), duration_s=None, requests=12)


_READINGS_BEFORE = 10
"""Of the wall clock, as one comes with each batch of reads."""


@causes("clock_step")
def a_wall_clock_that_is_set(caused: bool) -> Reasons:  # noqa: FBT001
    """It jumps by 5 ms while answers arrive, for who reads it: a test cannot set the real one."""
    readings = count(1)

    def wall_ns() -> int:
        is_set = next(readings) > _READINGS_BEFORE and caused
        return time.time_ns() + is_set * 5 * NS_PER_MS

    with ReferenceServer(EVEN) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(WallOffset.__init__, "__defaults__", (time.monotonic_ns, wall_ns))
        return measured(server.url, Concurrency(4), duration_s=2, in_process=True)


@frozen
class _OneBeginning:
    """Prompts that differ in their last word only, and are not said to."""

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield each once."""
        for number in count(seed):
            yield Prompt(text=f"{'llama ' * 300}{number}", max_new_tokens=4)

    def describe(self) -> dict[str, Json]:
        """Return nothing: no run is kept."""
        return {}


@causes("cached_prompts")
def a_server_that_remembers(caused: bool) -> Reasons:  # noqa: FBT001
    """llama.cpp, with its prefix cache on, says what it took from there."""
    target = CpuModel("tiny", slots=2, options=Options(body={"cache_prompt": caused}))
    return measured(target, Concurrency(2), _OneBeginning(), duration_s=None, requests=20)


@causes("cached_prompts")
def prompts_that_repeat(caused: bool) -> Reasons:  # noqa: FBT001
    """The workload asks the same again and again."""
    workload = Fixed("Write of llamas", max_new_tokens=5, unique=not caused)
    with ReferenceServer(EVEN) as server:
        return measured(server.url, Concurrency(4), workload, duration_s=None, requests=20)


@causes("flat_ttft")
def answers_from_a_cache(caused: bool) -> Reasons:  # noqa: FBT001
    """All prompts are beginnings of one document, which the server has read before."""
    whole = tuple(range(2_000))
    asks = (
        Ask(input_tokens=n, max_new_tokens=5, prefix=whole[:n], seed=n)
        for n in (200 + 797 * k % 1_801 for k in count())
    )
    options = ServerOptions(prefix_caching=caused)
    hardware = evolve(MACHINE, kv_tokens=20_000)
    return simulated(Concurrency(1), asks, options, duration_s=150, hardware=hardware)


@causes("caveats")
def a_parameter_that_the_server_ignores(caused: bool) -> Reasons:  # noqa: FBT001
    """TGI knows no `ignore_eos`."""
    body: dict[str, Json] = {"parameters": {"ignore_eos": True}} if caused else {}
    with ReferenceServer(EVEN) as server:
        target = target_of(server.url, Options(body=body))
        return measured(target, Concurrency(2), duration_s=None, requests=4)


@causes("interrupted")
def somebody_who_stops_the_stage(caused: bool) -> Reasons:  # noqa: FBT001
    """After three of its ten seconds."""
    load = Concurrency(2)
    return in_virtual_time(load, run_stage(load, stop_after_s=3 if caused else None))


@causes("stopped_early")
def a_clear_answer(caused: bool) -> Reasons:  # noqa: FBT001
    """All requests take a second, and the stage may stop when that is known."""
    load = Concurrency(20)
    precision = Precision("e2e", 50) if caused else None
    return in_virtual_time(load, run_stage(load, duration_s=80, warmup_s=3, precision=precision))


@frozen
class _OverHttpx:
    """A server that is reached over httpx's own transport, or over ours."""

    url: str
    foreign: bool

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Connect."""
        transport = partial(httpx.AsyncHTTPTransport, trust_env=False) if self.foreign else None
        yield Endpoint(base_url=self.url, codec=Tgi(), transport=transport)


@causes("user_stamps")
def a_foreign_transport(caused: bool) -> Reasons:  # noqa: FBT001
    """The bytes come through httpx, which hands out no stamps of the kernel."""
    with ReferenceServer(EVEN) as server:
        target = _OverHttpx(server.url, foreign=caused)
        return measured(target, Concurrency(2), duration_s=None, requests=4)


class _Gateway(httpx.AsyncHTTPTransport):
    """Stands between us and a server; of a stream it passes on every other event, and the end."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask the server."""
        answer = await super().handle_async_request(request)
        kind, body = answer.headers["content-type"], await answer.aread()
        if kind.startswith("text/event-stream"):
            *events, last, done, nothing = body.split(b"\n\n")
            body = b"\n\n".join([*events[::2], last, done, nothing])
        return httpx.Response(answer.status_code, headers={"content-type": kind}, content=body)


@frozen
class _BehindAGateway:
    """A simulated server, and perhaps a gateway before it."""

    there: bool
    name: str = "gateway"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Start the server. It is not asked to count: we have to."""
        options = Options(protocol="openai-chat", body={"stream_options": None})
        async with Simulated(FAST, options=options).open() as endpoint:
            page = await find_metrics_page(endpoint)
            assert page is not None
            transport = partial(_Gateway, trust_env=False) if self.there else None
            yield evolve(endpoint, transport=transport, metrics_path=None, meters=[page])


@causes("token_counter_mismatch", by="watching")
def a_gateway_that_swallows_tokens(caused: bool) -> Reasons:  # noqa: FBT001
    """The server generates them and counts them, and half of them never arrive."""
    return measured(_BehindAGateway(caused), Concurrency(2), TWENTY_TOKENS, duration_s=2)


@causes("throttled", by="watching")
def a_hot_gpu(caused: bool) -> Reasons:  # noqa: FBT001
    """It holds its clocks down; NVML is played, as there is no GPU here."""
    nvml = FakeNvml(throttle_reasons=pynvml.nvmlClocksThrottleReasonHwThermalSlowdown * caused)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", nvml)
        return measured(Simulated(FAST), Concurrency(2), duration_s=4)


@causes("imported", by="source", controlled=False)
def another_tool(_: bool) -> Reasons:  # noqa: FBT001
    """It is llmeter that measured, and its files were imported."""
    (run,) = import_results("llmeter", IMPORTED)
    return run.stages[0].verdict.reasons


def _calibrated(gap_s: float = 0.02, *, in_process: bool = True) -> Reasons:
    settings = Settings(in_process=in_process, quiet=True)
    return calibrate(
        Concurrency(8), gap_s=gap_s, output_tokens=20, duration_s=1.5, settings=settings
    ).reasons


@causes("read_lag", "coalesced", "lag", by="calibration", controlled=False)
def a_busy_program_that_is_calibrated(_: bool) -> Reasons:  # noqa: FBT001
    """Other threads of the process keep it from reading, and from sending."""
    with hogging():
        return _calibrated()


@causes("stamp_error", by="calibration", controlled=False)
def a_kernel_that_does_not_stamp(_: bool) -> Reasons:  # noqa: FBT001
    """The program stamps what it reads, and is busy."""

    @contextmanager
    def unstamped() -> Iterator[bool]:
        yield False

    with pytest.MonkeyPatch.context() as patch, hogging():
        patch.setattr(running, "stamping", unstamped)
        return _calibrated()


@causes("reference_late", "errors", by="calibration", controlled=False)
def a_busy_reference_server(_: bool) -> Reasons:  # noqa: FBT001
    """It shares its processor with others who never stop, and every third request fails."""
    faults = (None, None, "in-band-error")
    with pytest.MonkeyPatch.context() as patch, spinning(PROCESSORS[0]):
        server = partial(ReferenceServer, core=PROCESSORS[0], fault=faults)
        patch.setattr(testing, "ReferenceServer", server)
        return _calibrated(gap_s=0.005, in_process=False)
