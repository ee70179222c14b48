"""Each fault of the catalogue, played by the real server to the real client: its outcome."""

from collections.abc import Mapping

import anyio
import pytest
from attrs import frozen

from llmperf_core.run.settings import Deadlines, Settings
from llmperf_core.target import Codec, Endpoint
from llmperf_core.testing import (
    DIALECTS,
    FAULTS,
    TGI,
    Dialect,
    Fault,
    Played,
    ReferenceServer,
    Script,
    fault_schedule,
)
from llmperf_core.timeline import Completed, Timeline
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.tgi import Tgi
from tests.run.asking import SHORT_S, asking_at, failure

QUICK = Script(first_token_s=0.005, gap_s=0.005)
CODECS: dict[str | None, Codec] = {
    codec.name: codec
    for codec in (Tgi(), OpenAIChat(model="m"), OpenAICompletions(model="m"))
}  # fmt: skip
READABLE = [dialect for dialect in DIALECTS.values() if dialect.protocol in CODECS]
# A deadline that is met by accident would be another outcome: only the one that is meant is short.
DEADLINES = {
    "timeout_first_token": Deadlines(first_token_s=SHORT_S),
    "timeout_gap": Deadlines(gap_s=SHORT_S),
    "timeout_whole": Deadlines(whole_s=2 * SHORT_S),
}


@frozen
class Seen:
    """A request, from both its ends."""

    timeline: Timeline
    played: Played


def outcome_of(timeline: Timeline) -> str:
    """Return the outcome as the catalogue names it."""
    if isinstance(timeline.outcome, Completed):
        return "completed"
    return failure(timeline).error


async def ask_each(dialect: Dialect, faults: list[Fault]) -> dict[str, Seen]:
    """Return what became of a request with each fault, each by a client of its own."""
    timelines = []
    names = [fault.name for fault in faults]
    with ReferenceServer(QUICK, dialect=dialect, fault=names) as server:
        for fault in faults:
            settings = Settings(deadlines=DEADLINES.get(fault.outcome, Deadlines()))
            endpoint = Endpoint(base_url=server.url, codec=CODECS[dialect.protocol])
            async with asking_at(endpoint, settings) as asker:
                timelines.append(await asker.ask())
    assert server.truth is not None
    assert [played.fault for played in server.truth.played] == names
    return {
        name: Seen(timeline, played)
        for name, timeline, played in zip(names, timelines, server.truth.played, strict=True)
    }


def playable(dialect: Dialect) -> list[Fault]:
    """Return the faults that a request can meet in this dialect."""
    return [fault for fault in FAULTS.values() if fault.play and fault.fits(dialect)]


@pytest.fixture(scope="module")
async def seen() -> Mapping[str, Mapping[str, Seen]]:
    """Return for each dialect what became of a request with each fault that it can have."""
    seen: dict[str, Mapping[str, Seen]] = {}

    async def ask(dialect: Dialect) -> None:
        seen[dialect.name] = await ask_each(dialect, playable(dialect))

    async with anyio.create_task_group() as tasks:
        for dialect in READABLE:
            tasks.start_soon(ask, dialect)
    return seen


@pytest.mark.parametrize(
    ("dialect", "fault"),
    [
        pytest.param(dialect.name, fault, id=f"{dialect.name}-{fault.name}")
        for dialect in READABLE
        for fault in playable(dialect)
    ],
)
async def test_the_client_gives_the_outcome_that_is_warranted(
    seen: Mapping[str, Mapping[str, Seen]], dialect: str, fault: Fault
) -> None:
    """It names the outcome as the catalogue does, and has exactly the tokens that were sent."""
    timeline, played = seen[dialect][fault.name].timeline, seen[dialect][fault.name].played

    assert outcome_of(timeline) == fault.outcome
    if fault.countable:
        assert len(timeline.token_at_ns) == played.tokens
    if fault.outcome == "completed":
        assert (len(timeline.token_at_ns), timeline.tokens.output) == (3, 3)


@pytest.mark.parametrize("dialect", READABLE, ids=lambda dialect: dialect.name)
async def test_refused(dialect: Dialect) -> None:
    """Nobody listens: nothing is sent."""
    with ReferenceServer(dialect=dialect, fault="refuse") as server:
        endpoint = Endpoint(base_url=server.url, codec=CODECS[dialect.protocol])
        async with asking_at(endpoint) as asker:
            timeline = await asker.ask()

    assert outcome_of(timeline) == FAULTS["refuse"].outcome
    assert server.truth is not None
    assert server.truth.played == []


async def test_several_tokens_a_read_are_coalesced() -> None:
    """They are all counted, and the record says that they share an instant."""
    seen = await ask_each(TGI, [FAULTS["several-tokens-a-read"]])
    assert seen["several-tokens-a-read"].timeline.coalesced == 2


@pytest.mark.parametrize("fault", ["idle-close", None])
async def test_an_idle_connection_that_was_closed_is_replaced(fault: str | None) -> None:
    """The next request completes over a fresh connection; an open one is used again."""
    with ReferenceServer(QUICK, fault=[fault]) as server:
        async with asking_at(Endpoint(base_url=server.url, codec=Tgi())) as asker:
            first, second = await asker.ask(), await asker.ask()

    assert first.completed
    assert second.completed
    assert second.connection.fresh is (fault is not None)
    assert server.truth is not None
    assert [played.reused for played in server.truth.played][-1] is (fault is None)


async def test_a_refusal_says_why() -> None:
    """What the server says is the detail of the failure."""
    seen = await ask_each(TGI, [FAULTS["http-503-json"], FAULTS["http-429-retry-after"]])
    for each in seen.values():
        assert "told to fail" in failure(each.timeline).detail


def test_a_schedule_is_drawn_from_its_seed() -> None:
    """The same seed gives the same schedule, of faults that the dialect can have, and of none."""
    drawn = fault_schedule(500, seed=1)

    assert drawn == fault_schedule(500, seed=1) != fault_schedule(500, seed=2)
    assert None in drawn
    assert set(fault_schedule(50, seed=1, share=0)) == {None}
    assert all(FAULTS[name].fits(TGI) for name in drawn if name is not None)
    assert not {"refuse", "no-done"} & set(drawn)


@pytest.mark.parametrize("seed", range(3))
async def test_requests_and_tokens_are_conserved(seed: int) -> None:
    """Over a random schedule, on connections that are kept: all that was sent has arrived."""
    schedule = [
        name if name is None or FAULTS[name].countable else None
        for name in fault_schedule(40, seed=seed)
    ]
    # A wait for a token that never comes is short, so one that comes may be missed: not counted.
    schedule = [
        name if name is None or "timeout" not in FAULTS[name].outcome else None for name in schedule
    ]
    with ReferenceServer(QUICK, fault=schedule) as server:
        async with asking_at(Endpoint(base_url=server.url, codec=Tgi())) as asker:
            timelines = [await asker.ask() for _ in range(30)]
    assert server.truth is not None
    played = server.truth.played

    # What was broken off without a byte on a kept connection was asked again, unasked.
    again = [p for p in played if p.reused and (p.fault or "").endswith("before-headers")]
    assert len(played) == len(timelines) + len(again)
    assert sum(p.tokens for p in played) == sum(len(t.token_at_ns) for t in timelines)
    outcomes = [
        FAULTS[p.fault].outcome if p.fault else "completed" for p in played if p not in again
    ]
    assert [outcome_of(timeline) for timeline in timelines] == outcomes


def test_what_is_no_fault_is_refused() -> None:
    """A name that is not in the catalogue, one of another dialect, and a refusal of some."""
    with pytest.raises(ValueError, match="tgi has no fault 'tired'"):
        ReferenceServer(fault="tired")
    with pytest.raises(ValueError, match="tgi has no fault 'no-done'"):
        ReferenceServer(fault=["garbage", "no-done"])
    with pytest.raises(ValueError, match="'refuse' is no single request's"):
        ReferenceServer(fault=["refuse", None])
