"""Calibrating, for real: the reference server plays, the measuring process measures."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from attrs import evolve

from llmperf_core import Concurrency, ConstantRate, Settings, acalibrate, calibrate
from llmperf_core import instrument as module
from llmperf_core.errors import HarnessError, StartError, UsageError
from llmperf_core.instrument import _highest, _Seen
from llmperf_core.load import LoadProfile
from llmperf_core.testing import ReferenceServer
from llmperf_core.units import NS_PER_MS
from tests.calibrated import GOOD, spread

pytestmark = pytest.mark.usefixtures("deadline")

QUIET = Settings(quiet=True)
GAP_NS = GOOD.gap_ns
WELL = _Seen(
    stamp_error=GOOD.stamp_error,
    read_lag=GOOD.read_lag,
    late=GOOD.reference_late,
    lag=None,
    coalesced_share=0.0,
    events_per_s=1.0,
    cpu_per_token_ns=1.0,
    failed=0,
    stamps="kernel",
)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take as little time for each part as shows that it is there, and search for nothing."""
    monkeypatch.setattr(module, "_WARMUP_S", 0.3)
    monkeypatch.setattr(module, "_LAG_WINDOW_S", 0.5)
    monkeypatch.setattr(module, "_SEARCH_S", 0)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("in_process", [False, True], ids=["own process", "in process"])
@pytest.mark.parametrize("load", [Concurrency(8), ConstantRate(40)], ids=repr)
def test_stamps_are_held_against_the_servers(load: LoadProfile, *, in_process: bool) -> None:
    """Each token is paired with its sending: the kernel's stamps follow within a millisecond."""
    settings = evolve(QUIET, in_process=in_process)
    found = calibrate(load, gap_s=0.01, output_tokens=20, duration_s=1, settings=settings)

    assert (found.load_kind, found.load_value) == (load.kind, load.value)
    assert (found.streams, found.gap_ns, found.failed) == (8, 10 * NS_PER_MS, 0)
    assert found.stamps == "kernel"
    assert found.stamp_error.p50_ns is not None
    assert found.stamp_error.p50_ns < NS_PER_MS
    assert found.read_lag is not None
    assert found.read_lag.count == found.reference_late.count == found.stamp_error.count
    assert found.events_per_s == found.stamp_error.count  # in a window of a second
    assert found.cpu_per_token_ns > 0
    assert found.lag is not None
    assert found.lag.count >= 20


@pytest.mark.usefixtures("brief")
async def test_it_can_be_awaited() -> None:
    """A load of which nothing is said is 100 streams."""
    found = await acalibrate(gap_s=0.05, duration_s=0.5, settings=QUIET)

    assert (found.load_kind, found.streams) == ("concurrency", 100)


@pytest.mark.usefixtures("brief")
def test_nothing_that_arrived_is_an_error() -> None:
    """The first token of this gap comes after the window: there is nothing to report."""
    with pytest.raises(HarnessError, match="calibrate for longer"):
        calibrate(Concurrency(1), gap_s=60, duration_s=0.1, settings=QUIET)


@pytest.mark.parametrize("argument", ["gap_s", "duration_s", "output_tokens"])
def test_what_is_out_of_range_is_refused(argument: str) -> None:
    """Before anything is started."""
    with pytest.raises(UsageError, match="above 0"):
        calibrate(**{argument: 0})  # type: ignore[arg-type]  # by name


def test_a_server_that_does_not_come_up_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the error that it is, and not as a group of them."""

    def fail(_: ReferenceServer) -> None:
        raise StartError("the reference server", "it ended before it listened")

    monkeypatch.setattr(ReferenceServer, "__enter__", fail)
    with pytest.raises(StartError, match="the reference server"):
        calibrate(Concurrency(1), settings=QUIET)


@pytest.mark.usefixtures("brief")
def test_a_server_that_dies_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its stamps there is nothing to hold ours against."""
    end = ReferenceServer.__exit__

    def die(server: ReferenceServer, *error: None) -> None:
        assert server._process is not None
        server._process.kill()
        end(server, *error)

    monkeypatch.setattr(ReferenceServer, "__exit__", die)
    with pytest.raises(HarnessError, match="the reference server died"):
        calibrate(Concurrency(1), duration_s=0.2, settings=QUIET)


async def test_cancelling_leaves_no_server_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended on the way out."""
    servers: list[ReferenceServer] = []
    start = ReferenceServer.__enter__

    def note(server: ReferenceServer) -> ReferenceServer:
        servers.append(start(server))
        return server

    monkeypatch.setattr(ReferenceServer, "__enter__", note)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acalibrate)
        while not servers:  # noqa: ASYNC110 -- another thread fills it
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()

    assert servers[0]._process is None


async def search(worse: Callable[[int], _Seen]) -> tuple[float | None, str, list[int]]:
    """Search from ten streams on; return what was found, and which streams were tried."""
    tried: list[int] = []

    async def play(streams: int) -> _Seen:
        tried.append(streams)
        return evolve(worse(streams), events_per_s=float(streams))

    held, limit = await _highest(play, 10, evolve(worse(10), events_per_s=10.0), GAP_NS)
    return held, limit, tried


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"coalesced_share": 0.011}, "coalesced"),
        ({"read_lag": spread(GAP_NS)}, "read_lag"),
        ({"late": spread(0.26 * GAP_NS)}, "reference"),
        ({"late": None}, "reference"),
        # What catches up sends several tokens at once, so that explains the rest.
        ({"late": spread(GAP_NS), "coalesced_share": 0.5}, "reference"),
    ],
)
async def test_the_search_ends_where_a_load_does_not_go_well(
    changes: dict[str, Any], limit: str
) -> None:
    """It says why, and half of that load is tried, too."""
    bad = evolve(WELL, **changes)

    assert await search(lambda n: bad if n > 100 else WELL) == (80.0, limit, [40, 160, 80])
    assert await search(lambda n: bad if n > 50 else WELL) == (40.0, limit, [40, 160, 80])
    assert await search(lambda _: bad) == (None, limit, [])


async def test_the_search_ends_when_no_more_connections_can_be_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then nothing has gone wrong: no more was tried."""
    monkeypatch.setattr(module, "_most_streams", lambda: 200)

    assert await search(lambda _: WELL) == (160.0, "tried", [40, 160])


async def test_the_search_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step begins later."""
    monkeypatch.setattr(module, "_SEARCH_S", 0)

    assert await search(lambda _: WELL) == (10.0, "tried", [])


async def test_reads_that_nobody_stamped_end_no_search() -> None:
    """Without the kernel's stamps, what came together is all that can be seen."""
    unknown = evolve(WELL, read_lag=None)
    bad = evolve(unknown, coalesced_share=0.5)

    assert await search(lambda n: bad if n > 10 else unknown) == (10.0, "coalesced", [40, 20])
