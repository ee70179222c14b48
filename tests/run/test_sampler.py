"""Readings beside a stage: when they are made, and that no failure of theirs matters."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest
import trio
from attrs import evolve, frozen
from trio.testing import MockClock

from llmperf_core.run.hardware import hardware
from llmperf_core.run.sampler import Sampler, meters_of, sampling
from llmperf_core.run.settings import Settings
from llmperf_core.target import Endpoint, Json, Meter, Read
from llmperf_core.telemetry import Telemetry
from llmperf_core.timeline import Progress
from llmperf_core.units import NS_PER_S, ns_from_s
from llmperf_core.wire.tgi import Tgi
from tests.run.virtual import now_ns, seconds

ENDPOINT = Endpoint(base_url="http://127.0.0.1:9", codec=Tgi(), metrics_path=None)


@frozen
class Thermometer:
    """A meter that is read in virtual time."""

    name: str = "thermometer"
    takes_s: float = 0.0
    fails: Callable[[], bool] = lambda: False
    opens: bool = True

    @property
    def what(self) -> str:
        """What it is."""
        return "a thermometer"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Read]:
        """Open it, unless it cannot be."""
        if not self.opens:
            raise RuntimeError("it is locked")

        async def read() -> Mapping[str, float]:
            await anyio.sleep(self.takes_s)
            if self.fails():
                raise ZeroDivisionError
            return {"temperature_c": 20.0}

        yield read


def watched(
    *meters: Meter,
    settings: Settings | None = None,
    stage: Callable[[Sampler], Awaitable[None]] | None = None,
) -> Telemetry:
    """Return what is read beside a stage of ten seconds that starts in 0.4 s, in virtual time."""

    async def ten_seconds(sampler: Sampler) -> None:
        report = sampler.heard(lambda _: None)
        await anyio.sleep(0.4)
        for elapsed_s in (0.0, 0.25):
            progress = Progress(
                phase="warm-up", elapsed_ns=ns_from_s(elapsed_s), in_flight=0, started=0, ended=0
            )
            report(progress)
            await anyio.sleep(0.25)
        await anyio.sleep(9.5)

    async def main() -> Telemetry | None:
        asked = settings or Settings(warmup_s=2.5, duration_s=6.3)
        # Its zero is not that of the system, as it never is.
        await anyio.sleep(100)
        async with sampling(meters, asked, clock=now_ns) as sampler:
            zero_at_ns = now_ns() + ns_from_s(0.4)
            await (stage or ten_seconds)(sampler)
        return sampler.telemetry(zero_at_ns)

    found = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert found is not None
    return found


def test_the_windows_edges_are_among_the_readings() -> None:
    """Once a second, and at its opening and its close, and before and after everything."""
    found = watched(Thermometer())

    at_s = seconds([sample.at_ns for sample in found.samples])
    assert at_s == pytest.approx(
        [-0.4, 0.6, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 8.8, 9.5, 10.0]
    )
    assert found.meters == {"thermometer": "a thermometer"}
    assert found.failures == {}


def test_without_a_length_it_is_read_each_second_from_the_opening() -> None:
    """The close of a window that a number of requests ends is not known before."""
    found = watched(Thermometer(), settings=Settings(warmup_s=2.3, duration_s=None, requests=5))

    at_s = seconds([sample.at_ns for sample in found.samples])
    assert at_s == pytest.approx([-0.4, 0.6, *(k + 0.3 for k in range(1, 10)), 10.0])


def test_a_reading_is_of_its_middle() -> None:
    """What takes a fifth of a second was so a tenth after it was asked."""
    found = watched(Thermometer(takes_s=0.2))

    assert found.samples[0].at_ns == ns_from_s(-0.3)


def test_failures_are_counted_and_the_others_go_on() -> None:
    """A meter that cannot be opened, one that fails every other time, and one that works."""
    turns = iter([True, False] * 20)
    found = watched(
        Thermometer(),
        Thermometer(name="locked", opens=False),
        Thermometer(name="moody", fails=lambda: next(turns)),
    )

    read = [sample.meter for sample in found.samples]
    assert (read.count("thermometer"), read.count("moody"), read.count("locked")) == (13, 6, 0)
    assert found.failures == {"locked": 1, "moody": 7}


def test_a_meter_that_hangs_holds_nothing_up() -> None:
    """It is given up soon after the stage has ended, and what others read is kept."""
    found = watched(Thermometer(), Thermometer(name="hangs", takes_s=1e9))

    assert len(found.samples) == 13


def test_an_error_of_the_stage_is_not_held_up() -> None:
    """Nothing is read once more where the stage failed: its error comes out."""

    async def broken(_: Sampler) -> None:
        await anyio.sleep(1)
        raise RuntimeError("the stage is broken")

    with pytest.raises(ExceptionGroup) as caught:
        watched(Thermometer(takes_s=1e9), stage=broken)
    assert caught.group_contains(RuntimeError, match="the stage is broken")


def test_where_the_runs_zero_is_not_known_nothing_can_be_told() -> None:
    """A reading that may be of any part of the stage is not kept; that it was tried is."""
    sampler = Sampler((Thermometer(),), Settings(), now_ns)

    assert sampler.telemetry(0) == Telemetry(meters={"thermometer": "a thermometer"})
    assert Sampler((), Settings(), now_ns).telemetry(NS_PER_S) is None


@frozen
class Weather:
    """A part of this machine with one meter."""

    def describe(self) -> Json:
        """Nothing."""
        return None

    def meters(self) -> list[Meter]:
        """Return the one."""
        return [Thermometer(name="outside")]


@pytest.mark.parametrize(
    ("settings", "url", "names"),
    [
        (Settings(), "http://127.0.0.1:9", ["container", "outside"]),
        (Settings(), "http://localhost:9", ["container", "outside"]),
        (Settings(), "http://[::1]:9", ["container", "outside"]),
        (Settings(), "http://llm.example:9", ["container"]),
        (Settings(telemetry=True), "http://llm.example:9", ["container", "outside"]),
        (Settings(telemetry=False), "http://127.0.0.1:9", []),
        (Settings(in_process=True), "http://127.0.0.1:9", []),
        (Settings(in_process=True, telemetry=True), "http://127.0.0.1:9", ["container", "outside"]),
    ],
)
async def test_what_is_read_is_worth_it(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, url: str, names: list[str]
) -> None:
    """This machine's parts only for a server on it; nothing beside a measuring in this process."""
    monkeypatch.setattr("llmperf_core.run.sampler.hardware", lambda: {"weather": Weather()})
    endpoint = evolve(ENDPOINT, base_url=url, meters=(Thermometer(name="container"),))

    assert [meter.name for meter in await meters_of(endpoint, settings)] == names


async def test_a_part_whose_code_is_broken_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run goes on without it, and its environment tells why there is nothing of it."""

    class Entry:
        name = "weather"

        def load(self) -> object:
            raise ImportError("no barometer")

    monkeypatch.setattr("llmperf_core.run.hardware.entry_points", lambda **_: [Entry()])
    broken = hardware()["weather"]

    assert broken.describe() == {"none_because": "it cannot be loaded: ImportError: no barometer"}
    assert broken.meters() == ()
