"""The instrument held against known truth: its error on this host, at a load.

The reference server streams at the load that is about to be measured, through the same measuring
process, and what was stamped is compared with what the server says that it sent.
"""

import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio
import numpy as np
import numpy.typing as npt
from anyio.from_thread import start_blocking_portal
from anyio.to_thread import run_sync
from attrs import evolve, field, frozen

from llmperf_core.errors import HarnessError, UsageError, leaf_of
from llmperf_core.judge import Calibration, Spread
from llmperf_core.judge.calibration import REFERENCE_LATE_DEGRADED, Limit
from llmperf_core.judge.verdict import COALESCED_SUSPECT
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile, OpenLoop
from llmperf_core.run import Executor, Job, Listener, Settings
from llmperf_core.run.executors import in_own_process, in_process
from llmperf_core.show import load_label
from llmperf_core.show.live import Live
from llmperf_core.target import Endpoint, Json, Prompt
from llmperf_core.timeline import Durations, Failed, Instants, Observation, Stamps, Timeline, int64
from llmperf_core.units import ns_from_s, per_second
from llmperf_core.wire.tgi import Tgi

# What serves for tests is loaded where a calibration runs, and not with the library.
if TYPE_CHECKING:
    from llmperf_core.testing import ReferenceServer, Truth

_DEFAULT_LOAD = Concurrency(100)
_DEFAULT_SETTINGS = Settings()
_WARMUP_S = 1.0
_LONGEST_WARMUP_S = 4.0
"""An open loop has all its streams only when the first answer has ended; this much is waited."""
_LAG_WINDOW_S = 4.0
_STARTS_PER_S = 100.0
"""Of the open loop that shows the lag of a closed one: 400 in its window, enough for a p99."""
_STEP = 4
"""The search for the highest load takes so many times the streams; when that did not go well, it
tries half of it and ends."""
_STEP_WINDOW_S = 1.0
_SEARCH_S = 10.0
"""No step of the search begins later than this after the first."""
_SPARE_FILES = 64
"""Of the files that a process may open, those that are no connections of ours."""


def calibrate(
    load: LoadProfile | None = None,
    *,
    gap_s: float = 0.02,
    output_tokens: int = 64,
    duration_s: float = 4.0,
    settings: Settings = _DEFAULT_SETTINGS,
) -> Calibration:
    """Return this host's instrument error at a load. It takes 15 to 25 s and works anywhere.

    Args:
        load: the load about to be used; None stands for 100 streams.
        gap_s: the usual time between two tokens of a stream there.
        output_tokens: the usual length of an answer there.
        duration_s: how long the load is measured; the search for the highest takes its own time.
        settings: how stages are going to be measured: in which process, and whether quietly.

    Raises:
        UsageError: an argument is out of its range.
        StartError: the reference server did not come up.
        HarnessError: nothing could be measured.
    """
    measure = partial(
        acalibrate,
        load,
        gap_s=gap_s,
        output_tokens=output_tokens,
        duration_s=duration_s,
        settings=settings,
    )
    options = {"use_uvloop": sys.platform != "win32"}
    with start_blocking_portal("asyncio", backend_options=options) as portal:
        return portal.call(measure)


async def acalibrate(
    load: LoadProfile | None = None,
    *,
    gap_s: float = 0.02,
    output_tokens: int = 64,
    duration_s: float = 4.0,
    settings: Settings = _DEFAULT_SETTINGS,
) -> Calibration:
    """Return this host's instrument error: `calibrate` for code that is asynchronous itself."""
    if not (0 < gap_s < math.inf and 0 < duration_s < math.inf and output_tokens > 0):
        raise UsageError(
            "a calibration needs a gap, a duration and a number of output tokens above 0, not "
            f"{gap_s} s, {duration_s} s and {output_tokens}"
        )
    try:
        return await _Player(gap_s, output_tokens, settings).calibrate(
            load or _DEFAULT_LOAD, duration_s
        )
    except BaseExceptionGroup as group:
        error = leaf_of(group)
        raise error from error.__cause__


@frozen
class _Numbered:
    """A workload whose prompts are numbers, by which the server's stamps are found."""

    tokens: int

    def prompts(self, seed: int) -> Iterator[Prompt]:  # noqa: ARG002 -- nothing is random here
        number = 0
        while True:
            yield Prompt(text=str(number), max_new_tokens=self.tokens)
            number += 1

    def describe(self) -> dict[str, Json]:
        return {"kind": "numbered"}


@frozen(kw_only=True)
class _Seen:
    """What a load that was played comes to: figures of what arrived in the window."""

    stamp_error: Spread | None
    read_lag: Spread | None
    late: Spread | None
    """Of the server, against its own plan."""
    lag: Spread | None
    coalesced_share: float
    events_per_s: float
    cpu_per_token_ns: float
    failed: int
    stamps: Stamps

    @classmethod
    def of(
        cls, timelines: Sequence[Timeline], observation: Observation, truth: "Truth", gap_ns: int
    ) -> Self:
        """Hold what was measured against what was sent."""
        answers = [_Answer.of(timeline, observation, truth) for timeline in timelines]
        tokens = sum(int(np.count_nonzero(answer.inside)) for answer in answers)
        all_tokens = sum(timeline.token_at_ns.size for timeline in timelines)
        kernel = all(timeline.stamps == "kernel" for timeline in timelines)
        return cls(
            stamp_error=_spread(answer.stamp_error_ns() for answer in answers),
            read_lag=_spread(answer.read_lag_ns() for answer in answers) if kernel else None,
            late=_spread(answer.late_ns(gap_ns) for answer in answers),
            lag=_spread(answer.lag_ns(observation) for answer in answers),
            coalesced_share=sum(answer.coalesced() for answer in answers) / max(tokens, 1),
            events_per_s=per_second(tokens, observation.window.duration_ns),
            cpu_per_token_ns=observation.client_cpu_ns / max(all_tokens, 1),
            failed=sum(isinstance(timeline.outcome, Failed) for timeline in timelines),
            stamps="kernel" if kernel else "user",
        )

    def limit(self, gap_ns: int) -> Limit | None:
        """Return why this load was not measured well; None if it was."""
        if self.late is None or self.late.high[1] > REFERENCE_LATE_DEGRADED * gap_ns:
            # It catches up with several tokens at a time, so nothing else can be told.
            return "reference"
        if self.coalesced_share > COALESCED_SUSPECT:
            return "coalesced"
        if self.read_lag is not None and self.read_lag.high[1] >= gap_ns:
            return "read_lag"
        return None


@frozen(eq=False)
class _Answer:
    """One answer as it was measured, beside what the server says of it."""

    timeline: Timeline
    sent_at_ns: Instants
    """When the server sent each of the timeline's tokens, on the run's clock."""
    inside: npt.NDArray[np.bool_]
    """Which of them arrived in the window."""

    @classmethod
    def of(cls, timeline: Timeline, observation: Observation, truth: "Truth") -> Self:
        """Find what the server sent: the n-th token that came is the n-th that left."""
        at_ns, window = timeline.token_at_ns, observation.window
        # A request that had to be sent again has several answers there; we have the last one.
        answers = truth.sent_at_ns.get(str(timeline.index), [[]])
        return cls(
            timeline,
            int64(answers[-1][: at_ns.size]) - observation.zero_at_ns,
            (at_ns >= window.open_at_ns) & (at_ns < window.close_at_ns),
        )

    def stamp_error_ns(self) -> Durations:
        return (self.timeline.token_at_ns - self.sent_at_ns)[self.inside]

    def read_lag_ns(self) -> Durations:
        return self.timeline.read_lag_ns[self.inside]

    def late_ns(self, gap_ns: int) -> Durations:
        """Return how late the server sent each token, against the one that was least late."""
        if not self.sent_at_ns.size:
            return self.sent_at_ns
        off_ns = self.sent_at_ns - np.arange(self.sent_at_ns.size) * gap_ns
        late_ns: Durations = (off_ns - off_ns.min())[self.inside]
        return late_ns

    def lag_ns(self, observation: Observation) -> Durations:
        due_at_ns, sent_at_ns = self.timeline.due_at_ns, self.timeline.sent_at_ns
        if due_at_ns is None or sent_at_ns is None or due_at_ns not in observation.window:
            return int64(())
        return int64((sent_at_ns - due_at_ns,))

    def coalesced(self) -> int:
        together = np.diff(self.timeline.token_at_ns) == 0
        return int(np.count_nonzero(together & self.inside[1:]))


def _spread(parts: Iterable[Durations]) -> Spread | None:
    return Spread.of(np.concatenate([int64(()), *parts]))


@asynccontextmanager
async def _serving(server: "ReferenceServer") -> AsyncIterator[None]:
    """Have the server run; neither its start nor its end holds up the event loop."""
    await run_sync(server.__enter__)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(server.__exit__, None, None, None)


@frozen
class _Player:
    """Plays loads and measures them."""

    gap_s: float
    output_tokens: int
    settings: Settings
    live: Live = field(init=False)

    @live.default
    def _live(self) -> Live:
        return Live(quiet=self.settings.quiet)

    @property
    def gap_ns(self) -> int:
        return ns_from_s(self.gap_s)

    @property
    def answer_s(self) -> float:
        """How long an answer takes, from its request to its last token."""
        return self.output_tokens * self.gap_s

    async def calibrate(self, load: LoadProfile, duration_s: float) -> Calibration:
        is_open_loop = isinstance(load, OpenLoop)
        streams = max(1, round(load.value * self.answer_s if is_open_loop else load.value))
        calibrated_at = datetime.now(UTC).isoformat(timespec="seconds")
        seen = await self._play(load, duration_s)
        if seen.stamp_error is None or seen.late is None:
            raise HarnessError(
                f"nothing of the reference server's answers arrived in {duration_s:g} s "
                f"({seen.failed} requests failed); calibrate for longer"
            )
        lag = seen.lag if is_open_loop else await self._lag(streams)
        held_events_per_s, limit = await _highest(self._step, streams, seen, self.gap_ns)
        return Calibration(
            load_kind=load.kind,
            load_value=load.value,
            streams=streams,
            gap_ns=self.gap_ns,
            calibrated_at=calibrated_at,
            events_per_s=seen.events_per_s,
            failed=seen.failed,
            stamps=seen.stamps,
            stamp_error=seen.stamp_error,
            read_lag=seen.read_lag,
            lag=lag,
            coalesced_share=seen.coalesced_share,
            cpu_per_token_ns=seen.cpu_per_token_ns,
            held_events_per_s=held_events_per_s,
            limit=limit,
            reference_late=seen.late,
        )

    async def _lag(self, streams: int) -> Spread | None:
        """Return the lag of an open loop with as many streams, and starts enough to judge it."""
        rate_rps = max(_STARTS_PER_S, streams / self.answer_s)
        tokens = max(1, round(streams / rate_rps / self.gap_s))
        return (await self._play(ConstantRate(rate_rps), _LAG_WINDOW_S, tokens=tokens)).lag

    async def _step(self, streams: int) -> _Seen:
        return await self._play(Concurrency(streams), _STEP_WINDOW_S)

    async def _play(
        self, load: LoadProfile, window_s: float, *, tokens: int | None = None
    ) -> _Seen:
        """Have the load played, measure it as stages are measured, and compare."""
        from llmperf_core.testing import ReferenceServer, Script

        tokens, warmup_s = tokens or self.output_tokens, _WARMUP_S
        if isinstance(load, OpenLoop):
            warmup_s = max(warmup_s, min(tokens * self.gap_s, _LONGEST_WARMUP_S))
        server = ReferenceServer(
            # Streams that march in step would be one burst every gap.
            script=Script(first_token_s=self.gap_s, gap_s=self.gap_s, scatter=True)
        )
        settings = evolve(
            self.settings,
            duration_s=window_s,
            requests=None,
            warmup_s=warmup_s,
            drain_s=0,  # of what is cut off, the tokens that came count
            folder=None,
            calibration=None,
        )
        execute: Executor = in_process if settings.in_process else in_own_process
        timelines: list[Timeline] = []
        title = f"calibrating, {load_label(load)}"
        async with _serving(server):
            job = Job(
                endpoint=Endpoint(base_url=server.url, codec=Tgi()),
                load=load,
                workload=_Numbered(tokens),
                settings=settings,
                seed=settings.seed or 0,
            )
            with self.live.stage(title, warmup_s + window_s) as live:
                listener = Listener(note=timelines.append, report=live.report)
                observation = await execute(job, listener, anyio.Event())
        if server.truth is None:
            raise HarnessError("the reference server died: there is nothing to compare with")
        return _Seen.of(timelines, observation, server.truth, self.gap_ns)


async def _highest(
    play: Callable[[int], Awaitable[_Seen]], streams: int, seen: _Seen, gap_ns: int
) -> tuple[float | None, Limit]:
    """Return the events per second of the highest load that went well, and what ended the search.

    Args:
        play: measures so many streams.
        streams: those of the load itself.
        seen: how that went.
        gap_ns: between two tokens of a stream.
    """
    limit = seen.limit(gap_ns)
    if limit is not None:
        return None, limit
    held_events_per_s, most = seen.events_per_s, _most_streams()
    until_s = anyio.current_time() + _SEARCH_S
    while limit is None:
        streams *= _STEP
        if streams > most or anyio.current_time() >= until_s:
            return held_events_per_s, "tried"
        seen = await play(streams)
        limit = seen.limit(gap_ns)
        if limit is None:
            held_events_per_s = seen.events_per_s
    half = await play(streams // 2)
    if half.limit(gap_ns) is None:
        held_events_per_s = half.events_per_s
    return held_events_per_s, limit


def _most_streams() -> int:
    """Return how many connections a process may have open."""
    import resource  # which only Unix has, and the wire needs Linux anyway

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if most == resource.RLIM_INFINITY else most - _SPARE_FILES
