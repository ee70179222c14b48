"""One measured stage: start requests as the load says, through warm-up, window and drain."""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import anyio
import httpx
import numpy as np
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from llmperf_core._version import __version__
from llmperf_core.errors import UsageError
from llmperf_core.judge.precision import LOOKS, Watch
from llmperf_core.load import OpenLoop
from llmperf_core.run.exchange import Client, Tally, exchange
from llmperf_core.run.habits import Habits
from llmperf_core.run.job import Job, Listener
from llmperf_core.target import Endpoint, Prompt
from llmperf_core.timeline import (
    Failed,
    Observation,
    Outcome,
    Phase,
    Progress,
    Timeline,
    Window,
)
from llmperf_core.units import NS_PER_MS, ns_from_s, s_from_ns
from llmperf_core.wire import Wire, stamping
from llmperf_core.wire.stamps import Clock

# A request is prepared this long before it is due: its connection is ready by then, and setting it
# up is part of no latency.
_LEAD_NS = 20 * NS_PER_MS
_REPORT_EVERY_S = 0.25
# A server that refuses at once would be asked thousands of times a second by a closed loop.
_PAUSE_AFTER_FAILURE_S = 0.1
_LONGEST_PAUSE_S = 1.0


async def measure(
    job: Job, listener: Listener, stop: anyio.Event, *, clock: Clock = time.monotonic_ns
) -> Observation:
    """Measure one stage in this process, on the running event loop.

    Args:
        job: the stage.
        listener: is told of each request's end, and of progress.
        stop: when set, the stage ends at once: requests in flight are censored.
        clock: the monotonic clock; tests put a virtual one in.

    Returns:
        What the harness saw of itself, the window that counts among it.
    """
    cpu_ns = time.process_time_ns()
    async with _client(job, clock) as (client, wire):
        # Beside the zero: what a server's log stamped is held against the timelines by it.
        started_at = datetime.now(UTC).isoformat()
        stage = _Stage(job, client, listener)
        await stage.run(stop)
        ended_at_ns = clock() - client.zero_ns
        return Observation(
            window=stage.window(ended_at_ns),
            ended_at_ns=ended_at_ns,
            started_at=started_at,
            client_cpu_ns=time.process_time_ns() - cpu_ns,
            zero_at_ns=client.zero_ns,
            reads=client.tally.reads,
            user_stamped_reads=client.tally.user_stamped,
            clock_steps=wire.clock_steps if wire is not None else 0,
            repeated_prompts=stage.habits.repeated,
            reuse_meant=stage.habits.reuse_meant,
            caveats=stage.habits.caveats,
            interrupted=stop.is_set(),
            stopped_early=stage.stopped_early,
        )


@asynccontextmanager
async def _client(job: Job, clock: Clock) -> AsyncIterator[tuple[Client, Wire | None]]:
    with stamping() as stamped:
        transport = _transport(job.endpoint, stamped=stamped)
        wire = transport if isinstance(transport, Wire) else None
        http = httpx.AsyncClient(
            transport=transport,
            # httpx's default is a deadline of 5 s on each read; ours are in `exchange`.
            timeout=httpx.Timeout(None, connect=job.settings.deadlines.connect_s),
            headers={"accept-encoding": "identity", "user-agent": f"llmperf/{__version__}"},
            # Each request is another user's: a balancer's cookie would pin all to one replica.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            trust_env=False,
        )
        async with http:
            client = Client(
                http=http,
                endpoint=job.endpoint,
                settings=job.settings,
                until=wire.until if wire is not None else _sleeper(clock),
                on_wire=wire is not None,
                zero_ns=clock(),
                tally=Tally(),
                decoding=anyio.Lock(),
                admission=_admission(job),
                clock=clock,
            )
            yield client, wire


def _admission(job: Job) -> AbstractAsyncContextManager[object]:
    """Return what keeps an open loop's requests in flight to their limit; first come, first in."""
    limit = job.settings.max_in_flight
    if limit is None or not isinstance(job.load, OpenLoop):
        return nullcontext()
    return anyio.CapacityLimiter(limit)


def _transport(endpoint: Endpoint, *, stamped: bool) -> httpx.AsyncBaseTransport:
    """Return the endpoint's own transport, else the wire, else httpx's where nothing is stamped."""
    if endpoint.transport is not None:
        return endpoint.transport()
    if stamped:
        return Wire(verify=endpoint.verify)
    # Without httpx's silent cap of 100 connections.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncHTTPTransport(verify=endpoint.verify, trust_env=False, limits=limits)


def _sleeper(clock: Clock) -> Callable[[int], Awaitable[None]]:
    async def until(at_ns: int) -> None:
        # The timers of event loops tick in milliseconds, and some wake early.
        while (left_ns := at_ns - clock()) > 0:  # noqa: ASYNC110 -- it is a clock that is waited for
            await anyio.sleep(s_from_ns(left_ns))

    return until


class _Stage:
    """A stage under way: who may start, and what has been seen. Instants are on the run's clock."""

    def __init__(self, job: Job, client: Client, listener: Listener) -> None:
        self._job, self._client, self._listener = job, client, listener
        self._is_open_loop = isinstance(job.load, OpenLoop)
        self._prompts: Iterator[Prompt] = iter(job.workload.prompts(job.seed))
        settings = job.settings
        self._open_at_ns = ns_from_s(settings.warmup_s)
        self._close_at_ns = (
            None
            if settings.duration_s is None
            else self._open_at_ns + ns_from_s(settings.duration_s)
        )
        self.habits: Habits = Habits(job.endpoint.codec)
        self._exhausted = anyio.Event()
        self._draining = False
        self._started = self._counted = self._ended = 0
        self._last_end_ns = 0
        precision = settings.precision
        self._watch = Watch(precision) if precision is not None else None
        self.stopped_early: str = ""

    async def run(self, stop: anyio.Event) -> None:
        """Start requests until the window closes, then wait for those in flight."""
        async with anyio.create_task_group() as everything:
            everything.start_soon(_cancel_when, stop, everything)
            everything.start_soon(self._report)
            everything.start_soon(self._stop_when_precise)
            with anyio.CancelScope() as drain:
                async with anyio.create_task_group() as requests:
                    requests.start_soon(self._start_requests, requests)
                    await self._window_closes()
                    self._draining = True
                    drain.deadline = anyio.current_time() + self._job.settings.drain_s
            everything.cancel_scope.cancel()

    def window(self, ended_at_ns: int) -> Window:
        """Return the window: as planned, or closed by the end of the last request that counts."""
        close_at_ns = ended_at_ns
        if self._counted == self._job.settings.requests and not self._is_open_loop:
            close_at_ns = self._last_end_ns + 1  # the end itself is inside
        if self._close_at_ns is not None:
            close_at_ns = min(close_at_ns, self._close_at_ns)
        return Window(open_at_ns=min(self._open_at_ns, close_at_ns), close_at_ns=close_at_ns)

    def _now_ns(self) -> int:
        return self._client.clock() - self._client.zero_ns

    async def _start_requests(self, requests: TaskGroup) -> None:
        load = self._job.load
        if isinstance(load, OpenLoop):
            await self._start_when_due(load, requests)
            return
        for _ in range(load.slots):
            requests.start_soon(self._keep_one_in_flight)
            await checkpoint()  # the sockets are read between two starts

    async def _start_when_due(self, load: OpenLoop, requests: TaskGroup) -> None:
        last_due_at_ns = 0
        for due_at_ns in load.instants(np.random.default_rng(self._job.seed)):
            if not self._admit(due_at_ns):
                return
            await self._client.until(self._client.zero_ns + due_at_ns - _LEAD_NS)
            requests.start_soon(self._one, due_at_ns)
            # A plan that this machine cannot keep up with must not hold up what has started.
            await anyio.lowlevel.checkpoint()
            last_due_at_ns = due_at_ns
        self._end_plan(last_due_at_ns)

    def _end_plan(self, last_due_at_ns: int) -> None:
        """Close the window with the last instant of a plan that ends."""
        self._close_at_ns = last_due_at_ns + 1  # the instant itself is inside
        self._exhausted.set()

    async def _keep_one_in_flight(self) -> None:
        pause_s = 0.0
        while self._admit(self._now_ns()):
            if isinstance(await self._one(None), Failed):
                pause_s = min(pause_s + _PAUSE_AFTER_FAILURE_S, _LONGEST_PAUSE_S)
                await anyio.sleep(pause_s)
            else:
                pause_s = 0.0

    async def _one(self, due_at_ns: int | None) -> Outcome:
        """Make a request, and those that the same user makes after it; return how the last ended.

        Those that follow are not planned: each starts when it is sent, also in an open loop.
        """
        prompt = next(self._prompts, None)
        if prompt is None:
            raise UsageError(
                f"the workload has no prompt after the first {self._started}; it must yield "
                "prompts without end: see itertools.cycle"
            )
        while True:
            heard: list[str] = []
            index, self._started = self._started, self._started + 1
            self.habits.look_at(prompt)
            outcome = await exchange(
                self._client,
                prompt,
                index=index,
                due_at_ns=due_at_ns,
                note=self._note,
                hear=heard.append,
            )
            following = prompt.then(heard[0]) if prompt.then is not None and heard else None
            if following is None or not await self._goes_on(following):
                return outcome
            prompt, due_at_ns = following, None

    async def _goes_on(self, following: Prompt) -> bool:
        """Let the user think, and return whether there is still time to ask."""
        with anyio.move_on_after(min(following.after_s, self._left_s())):
            await self._exhausted.wait()
        return self._admit(self._now_ns(), planned=False)

    def _admit(self, start_at_ns: int, *, planned: bool = True) -> bool:
        """Return whether a request may start then.

        Args:
            start_at_ns: when.
            planned: whether the load has it in its plan; in an open loop others may follow.
        """
        if self._close_at_ns is not None and start_at_ns >= self._close_at_ns:
            return False
        if start_at_ns < self._open_at_ns:
            return True
        if self._counted == self._job.settings.requests:
            if self._is_open_loop:
                if not planned:
                    return False
                # The window is that of the plan: it lasts until the next request would be due.
                self._close_at_ns = start_at_ns
            self._exhausted.set()
            return False
        self._counted += 1
        return True

    async def _window_closes(self) -> None:
        with anyio.move_on_after(self._left_s()):
            await self._exhausted.wait()
            if self._is_open_loop:
                await anyio.sleep(self._left_s())

    async def _stop_when_precise(self) -> None:
        """Close the window at one of a few looks, if what was asked for is known well enough."""
        duration_s = self._job.settings.duration_s
        if self._watch is None or duration_s is None:
            return
        for share in LOOKS:
            look_at_ns = self._open_at_ns + ns_from_s(share * duration_s)
            await anyio.sleep(max(0.0, s_from_ns(look_at_ns - self._now_ns())))
            if self._draining:
                return
            window = Window(open_at_ns=self._open_at_ns, close_at_ns=self._now_ns())
            if self._watch.is_enough(window):
                self._close_at_ns = window.close_at_ns
                self.stopped_early = self._watch.precision.label
                self._exhausted.set()
                return

    def _left_s(self) -> float:
        """Return how long the window stays open, as far as that is known."""
        if self._close_at_ns is None:
            return math.inf
        return max(0.0, s_from_ns(self._close_at_ns - self._now_ns()))

    def _note(self, timeline: Timeline) -> None:
        self._ended += 1
        self._last_end_ns = max(self._last_end_ns, timeline.ended_at_ns)
        if self._watch is not None:
            self._watch.note(timeline)
        self._listener.note(timeline)

    async def _report(self) -> None:
        while True:
            now_ns = self._now_ns()
            phase: Phase = "measuring" if now_ns >= self._open_at_ns else "warm-up"
            self._listener.report(
                Progress(
                    phase="draining" if self._draining else phase,
                    elapsed_ns=now_ns,
                    in_flight=self._started - self._ended,
                    started=self._started,
                    ended=self._ended,
                )
            )
            await anyio.sleep(_REPORT_EVERY_S)


async def _cancel_when(stop: anyio.Event, tasks: TaskGroup) -> None:
    await stop.wait()
    tasks.cancel_scope.cancel()
