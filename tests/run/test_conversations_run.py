"""A user's later turns follow in the same slot, or on their own; in virtual time."""

from collections.abc import Iterator, Mapping
from itertools import count, groupby

import pytest
from attrs import evolve, frozen

from llmperf_core.load import Concurrency, ConstantRate, Poisson
from llmperf_core.target import Json, Prompt
from llmperf_core.timeline import Failed, Timeline
from llmperf_core.units import NS_PER_S
from llmperf_core.workload import Conversations, Fixed, Synthetic
from tests.run.virtual import Behaviour, Measured, run_stage

pytestmark = pytest.mark.usefixtures("deadline")

SECOND = NS_PER_S
"""What an answer takes, by default: 0.5 s to the first of six tokens, and 0.1 s to each other."""


@frozen
class Talks:
    """Conversations whose texts say which they are and how they went."""

    turns: int = 3
    think_s: float = 2.0

    def prompts(self, seed: int) -> Iterator[Prompt]:  # noqa: ARG002 -- nothing is random here
        """Yield the first turns."""
        return (self._turn(f"talk {k}", 0) for k in count())

    def _turn(self, said: str, number: int) -> Prompt:
        def then(answer: str) -> Prompt | None:
            if number + 1 == self.turns:
                return None
            return evolve(self._turn(f"{said} [{answer}]", number + 1), after_s=self.think_s)

        return Prompt(text=said, max_new_tokens=6, then=then)

    def describe(self) -> Mapping[str, Json]:
        """Return the kind."""
        return {"kind": "talks"}


def starts_s(timelines: list[Timeline]) -> list[float]:
    """Return when they were sent, in seconds."""
    return [round((timeline.sent_at_ns or 0) / SECOND, 6) for timeline in timelines]


def texts(measured: Measured) -> list[str]:
    """Return what the model was asked, in order."""
    return measured.model.prompts


def test_a_slot_follows_its_conversation() -> None:
    """The next turn is asked when its user has thought; then comes the next conversation."""
    measured = run_stage(Concurrency(1), workload=Talks(), duration_s=12)

    assert starts_s(measured.by_index) == [0, 3, 6, 7, 10]
    answer = "[ llama llama llama llama llama llama]"
    assert texts(measured)[:4] == [
        "talk 0",
        f"talk 0 {answer}",
        f"talk 0 {answer} {answer}",
        "talk 1",
    ]
    assert [timeline.index for timeline in measured.by_index] == list(range(5))


def test_users_who_think_are_not_in_flight() -> None:
    """A slot is a user: there are never more of them, and fewer while some think."""
    measured = run_stage(Concurrency(4), workload=Talks(), duration_s=60)

    assert max(measured.model.levels) <= 4
    assert len(measured.timelines) > 60


def test_an_open_loop_plans_conversations_and_not_turns() -> None:
    """First turns start when due; the later ones are not planned, so they cannot lag."""
    measured = run_stage(ConstantRate(1), workload=Talks(turns=2, think_s=0.25), drain_s=100)
    due = [t for t in measured.by_index if t.due_at_ns is not None]
    later = [t for t in measured.by_index if t.due_at_ns is None]

    assert starts_s(due) == [float(k) for k in range(10)]
    assert starts_s(later) == [k + 1.25 for k in range(9)]
    assert all(t.start_at_ns == t.sent_at_ns for t in later)


def test_nobody_asks_after_the_window() -> None:
    """A user who thinks when it closes is not waited for."""
    measured = run_stage(Concurrency(2), workload=Talks(think_s=500), duration_s=10)

    assert len(measured.timelines) == 2
    assert measured.observation.ended_at_ns == 10 * SECOND


@pytest.mark.parametrize("load", [Concurrency(2), ConstantRate(2), Poisson(2)])
def test_turns_count_for_the_number_of_requests(load: Concurrency | ConstantRate | Poisson) -> None:
    """Exactly so many start in the window, first or later ones."""
    measured = run_stage(load, workload=Talks(think_s=0.5), duration_s=None, requests=11)

    assert len(measured.inside) == len(measured.timelines) == 11
    assert all(timeline.completed for timeline in measured.timelines)


def test_a_turn_that_fails_ends_the_conversation() -> None:
    """There is no answer to go on from."""
    measured = run_stage(
        ConstantRate(0.1),
        lambda k: Behaviour(status=500) if k == 1 else Behaviour(),
        workload=Talks(),
        duration_s=20,
    )

    assert [type(t.outcome) is Failed for t in measured.by_index] == [
        False,
        True,
        False,
        False,
        False,
    ]
    assert [text.split(" [")[0] for text in texts(measured)] == ["talk 0"] * 2 + ["talk 1"] * 3


def test_repeats_and_reuse_are_seen() -> None:
    """What was asked word for word before, and what is meant to be cached."""
    fixed = Fixed("Write of llamas", max_new_tokens=6)
    salted = run_stage(Concurrency(2), workload=fixed).observation
    repeated = run_stage(Concurrency(2), workload=evolve(fixed, unique=False))
    talks = run_stage(Concurrency(2), workload=Conversations(Synthetic(16, 6))).observation
    shared = run_stage(Concurrency(2), workload=Synthetic(64, 6, prefix_share=0.5)).observation

    assert (salted.repeated_prompts, salted.reuse_meant) == (0, False)
    assert repeated.observation.repeated_prompts == len(repeated.timelines) - 1
    assert (talks.repeated_prompts, talks.reuse_meant) == (0, True)
    assert (shared.repeated_prompts, shared.reuse_meant) == (0, True)


def test_caveats_are_kept_once_each() -> None:
    """However many prompts have them."""
    workload = Fixed("x", 6, {"ignore_eos": True, "min_tokens": 6})
    seen = run_stage(Concurrency(2), workload=workload).observation.caveats

    assert seen == ("ignore_eos is ignored by TGI", "min_tokens is ignored by TGI")
    assert not run_stage(Concurrency(2)).observation.caveats


def test_each_user_of_conversations_keeps_to_one() -> None:
    """With a real workload: a turn follows the one before with its answer in its history."""
    workload = Conversations(Synthetic(16, 6), 3, think_s=0.5)
    asked = texts(run_stage(Concurrency(1), workload=workload, duration_s=30))

    for _, talk in groupby(asked[:9], key=lambda text: text[:40]):
        turns = list(talk)
        assert len(turns) == 3
        assert turns[1].startswith(turns[0] + "\n\n llama llama")
        assert turns[2].startswith(turns[1])
