"""Users who have had enough: we end their requests, and say so."""

from collections.abc import Iterator, Mapping
from itertools import repeat

import anyio
import pytest
from attrs import evolve, frozen

from llmperf_core.load import Concurrency, ConstantRate, LoadProfile
from llmperf_core.target import Json, Prompt
from llmperf_core.timeline import Cancelled, Completed, Failed
from llmperf_core.units import NS_PER_S
from tests.run.asking import PROMPT, asking, failure
from tests.run.virtual import Behaviour, run_stage
from tests.scripted import Peer, babble, hang

IMPATIENT = evolve(PROMPT, cancel_after_s=0.3)
SATED = evolve(PROMPT, cancel_after_tokens=3)


async def test_enough_tokens_end_a_request() -> None:
    """Its tokens are kept, each with its instant and its read lag; they are at least as many."""
    async with asking(babble) as asker:
        timeline = await asker.ask(prompt=SATED)

    assert timeline.outcome == Cancelled("tokens")
    assert 3 <= timeline.tokens.output == len(timeline.token_at_ns) == len(timeline.read_lag_ns)
    assert timeline.ended_at_ns >= timeline.token_at_ns[-1]


async def test_enough_time_ends_a_request_that_speaks() -> None:
    """What came until then is kept."""
    async with asking(babble) as asker:
        timeline = await asker.ask(prompt=IMPATIENT)

    assert timeline.outcome == Cancelled("time")
    assert timeline.ended_at_ns >= 0.3 * NS_PER_S  # it began after the run's zero


async def test_enough_time_ends_a_request_that_is_silent() -> None:
    """Also before the head of the answer has come."""
    async with asking(hang) as asker:
        timeline = await asker.ask(prompt=IMPATIENT)

    assert (timeline.outcome, timeline.tokens.output) == (Cancelled("time"), 0)


async def test_a_deadline_before_it_is_still_a_failure() -> None:
    """Whichever comes first says how the request ended."""
    async with asking(hang, whole_s=0.2) as asker:
        timeline = await asker.ask(prompt=evolve(PROMPT, cancel_after_s=60))

    assert failure(timeline).error == "timeout_whole"


async def test_the_server_learns_of_it() -> None:
    """The connection is closed, so that a server can stop generating."""
    closed = anyio.Event()

    async def script(peer: Peer) -> None:
        try:
            await babble(peer)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            closed.set()
            raise

    async with asking(script) as asker:
        await asker.ask(prompt=SATED)
        with anyio.fail_after(20):
            await closed.wait()


@frozen
class Asks:
    """One prompt, again and again."""

    prompt: Prompt

    def prompts(self, seed: int) -> Iterator[Prompt]:  # noqa: ARG002 -- nothing is random here
        """Yield the prompt without end."""
        return repeat(self.prompt)

    def describe(self) -> Mapping[str, Json]:
        """Return the kind."""
        return {"kind": "asks"}


@pytest.mark.parametrize("load", [Concurrency(3), ConstantRate(3)])
def test_a_stage_goes_on_without_them(load: LoadProfile) -> None:
    """A slot asks again at once; no request fails, and each counts from its start."""
    prompt = Prompt(text="Write of llamas", max_new_tokens=6, cancel_after_s=0.75)
    measured = run_stage(load, workload=Asks(prompt))  # tokens come at 0.5, 0.6, 0.7, … s

    assert {timeline.outcome for timeline in measured.timelines} == {Cancelled("time")}
    assert {timeline.tokens.output for timeline in measured.timelines} == {3}
    assert measured.model.in_flight == 0
    spans = [t.ended_at_ns - (t.start_at_ns or 0) for t in measured.timelines]
    assert spans == [pytest.approx(0.75 * NS_PER_S)] * len(spans)


def test_tokens_are_counted_over_a_foreign_transport_too() -> None:
    """The request ends with the token that is enough; an answer that is shorter completes."""
    for enough, outcome in ((2, Cancelled("tokens")), (7, Completed("length"))):
        prompt = Prompt(text="Write of llamas", max_new_tokens=6, cancel_after_tokens=enough)
        measured = run_stage(Concurrency(1), workload=Asks(prompt))
        assert {timeline.outcome for timeline in measured.timelines} == {outcome}
        assert {len(timeline.token_at_ns) for timeline in measured.timelines} == {min(enough, 6)}


def test_a_refusal_is_still_a_failure() -> None:
    """It comes before anybody has had enough."""
    prompt = Prompt(text="Write of llamas", cancel_after_s=5, cancel_after_tokens=1)
    measured = run_stage(Concurrency(1), Behaviour(status=500), workload=Asks(prompt))

    assert {type(timeline.outcome) for timeline in measured.timelines} == {Failed}


@pytest.mark.parametrize("field", ["cancel_after_s", "cancel_after_tokens"])
def test_nobody_has_enough_of_nothing(field: str) -> None:
    """A limit of 0 would end each request before it began."""
    with pytest.raises(ValueError, match=field):
        Prompt(text="x", **{field: 0})  # type: ignore[arg-type] # by name
