"""Reading a server and its machine once a second, beside the measuring and never in its way.

It runs in the process that waits for the measuring one. What fails here is counted.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from llmperf_core.run.hardware import hardware
from llmperf_core.run.settings import Settings
from llmperf_core.target import Endpoint, Meter, Read
from llmperf_core.telemetry import Sample, Telemetry
from llmperf_core.timeline import Progress
from llmperf_core.units import NS_PER_MS, NS_PER_S, ns_from_s, s_from_ns
from llmperf_core.wire.address import is_loopback
from llmperf_core.wire.metrics_page import find_metrics_page
from llmperf_core.wire.stamps import Clock

_PERIOD_NS = NS_PER_S
# Timers of event loops tick in milliseconds, and some wake early: not to be taken for a turn ahead.
_EARLY_NS = 10 * NS_PER_MS
_LAST_READING_S = 3.0


async def meters_of(endpoint: Endpoint, settings: Settings) -> tuple[Meter, ...]:
    """Return what can be read while the endpoint is measured, and is worth it.

    Unless the user asks for it, this machine's hardware is read only if the server is on it, and
    nothing at all where the measuring is in this process, which reading would hold up.
    """
    if settings.telemetry is False or (settings.in_process and not settings.telemetry):
        return ()
    page = await find_metrics_page(endpoint)
    found = [*endpoint.meters, *([page] if page is not None else [])]
    if settings.telemetry or is_loopback(endpoint.base_url):
        found += [meter for kind in hardware().values() for meter in kind.meters()]
    return tuple(found)


@asynccontextmanager
async def sampling(
    meters: Sequence[Meter], settings: Settings, *, clock: Clock = time.monotonic_ns
) -> AsyncIterator["Sampler"]:
    """Read the meters until the block is left in peace, and each once more then."""
    sampler = Sampler(meters, settings, clock)
    async with anyio.create_task_group() as tasks:
        for meter in meters:
            tasks.start_soon(sampler.watch, meter)
        yield sampler
        with anyio.move_on_after(_LAST_READING_S):
            await sampler.end()
        tasks.cancel_scope.cancel()


class Sampler:
    """Readings under way. Their turns are set so that the window's edges are among them."""

    def __init__(self, meters: Sequence[Meter], settings: Settings, clock: Clock) -> None:
        self._meters, self._clock = meters, clock
        self._open_ns = ns_from_s(settings.warmup_s)
        self._length_ns = None if settings.duration_s is None else ns_from_s(settings.duration_s)
        self._zero_at_ns: int | None = None
        self._ending, self._ended = (
            anyio.Event(),
            {meter.name: anyio.Event() for meter in meters},
        )
        self._samples: list[Sample] = []
        self._failures: Counter[str] = Counter()

    def heard(self, report: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Return a `report` that also learns from the first progress when the stage began."""

        def hear(progress: Progress) -> None:
            if self._zero_at_ns is None:
                self._zero_at_ns = self._clock() - progress.elapsed_ns
            report(progress)

        return hear

    def telemetry(self, zero_at_ns: int) -> Telemetry | None:
        """Return what was read, on the clock of the run; None if there was nothing to read.

        Args:
            zero_at_ns: the run's zero on this machine's clock; 0 if it is not known, and then no
                reading can be told to be of the window, so that none is kept.
        """
        if not self._meters:
            return None
        samples = sorted(self._samples, key=lambda sample: sample.at_ns) if zero_at_ns else ()
        return Telemetry(
            meters={meter.name: meter.what for meter in self._meters},
            samples=tuple(
                Sample(at_ns=s.at_ns - zero_at_ns, meter=s.meter, values=s.values) for s in samples
            ),
            failures=dict(self._failures),
        )

    async def watch(self, meter: Meter) -> None:
        """Read one meter in its turns, until the end."""
        try:
            async with meter.open() as read:
                while True:
                    ending = self._ending.is_set()
                    await self._read(meter.name, read)
                    if ending:
                        break
                    with anyio.move_on_after(self._until_next_s()):
                        await self._ending.wait()
        except Exception:  # noqa: BLE001 -- a meter may be anybody's, and no stage fails for it
            self._failures[meter.name] += 1
        finally:
            self._ended[meter.name].set()

    async def end(self) -> None:
        """Have each meter read once more, and wait for that."""
        self._ending.set()
        for ended in self._ended.values():
            await ended.wait()

    async def _read(self, name: str, read: Read) -> None:
        before_ns = self._clock()
        try:
            values = await read()
        except Exception:  # noqa: BLE001 -- as above; the next turn may be luckier
            self._failures[name] += 1
            return
        at_ns = (before_ns + self._clock()) // 2
        self._samples.append(Sample(at_ns=at_ns, meter=name, values=values))

    def _until_next_s(self) -> float:
        """Return how long it is until the next turn: in whole seconds from the window's edges."""
        if self._zero_at_ns is None:
            return s_from_ns(_PERIOD_NS)
        since_open_ns = self._clock() - self._zero_at_ns - self._open_ns
        next_ns = ((since_open_ns + _EARLY_NS) // _PERIOD_NS + 1) * _PERIOD_NS
        close_ns = self._length_ns
        if close_ns is not None and since_open_ns + _EARLY_NS < close_ns < next_ns:
            next_ns = close_ns
        return s_from_ns(next_ns - since_open_ns)
