"""Users who go on, and users who go away."""

from itertools import islice

import numpy as np
import pytest

from llmperf_core.target import Prompt
from llmperf_core.workload import Cancelling, Conversations, Fixed, InOrder, Synthetic

QUESTIONS = Synthetic(16, 9, parameters={"top_k": 3})


def turns_of(first: Prompt) -> list[Prompt]:
    """Return a conversation in which turn k is answered `answer k`."""
    turns = [first]
    while (
        turns[-1].then is not None
        and (following := turns[-1].then(f"answer {len(turns)}")) is not None
    ):
        turns.append(following)
    return turns


def test_a_turn_has_all_that_was_said_before() -> None:
    """In its order, by who said it; and the text of a turn begins with that of the one before."""
    [first, second, third] = turns_of(next(Conversations(QUESTIONS, system="Be brief").prompts(0)))

    assert first.history == (("system", "Be brief"),)
    assert third.history == (
        ("system", "Be brief"),
        ("user", first.text),
        ("assistant", "answer 1"),
        ("user", second.text),
        ("assistant", "answer 2"),
    )
    assert third.whole_text.startswith(f"{second.whole_text}\n\nanswer 2\n\n")
    assert second.whole_text.startswith(f"{first.whole_text}\n\nanswer 1\n\n")
    assert {(turn.max_new_tokens, str(turn.parameters)) for turn in (first, second, third)} == {
        (9, "{'top_k': 3}")
    }


def test_conversations_have_the_turns_that_were_asked() -> None:
    """One or many; every question is a new one."""
    talks = [
        turns_of(first) for first in islice(Conversations(QUESTIONS, InOrder([1, 4])).prompts(0), 6)
    ]
    questions = [turn.text for talk in talks for turn in talk]

    assert [len(talk) for talk in talks] == [1, 4, 1, 4, 1, 4]
    assert questions == [prompt.text for prompt in islice(QUESTIONS.prompts(0), 15)]


def test_users_think_before_each_turn_but_the_first() -> None:
    """For an exponential time of the mean that was asked, the same for the same seed."""
    workload = Conversations(QUESTIONS, 5, think_s=2.0)
    talks = [turns_of(first) for first in islice(workload.prompts(3), 400)]
    pauses_s = np.array([turn.after_s for talk in talks for turn in talk[1:]])

    assert {talk[0].after_s for talk in talks} == {0}
    assert pauses_s.mean() == pytest.approx(2, rel=5 / 1600**0.5)
    assert pauses_s.std() == pytest.approx(2, rel=0.15)
    again = turns_of(next(workload.prompts(3)))
    assert [turn.after_s for turn in again] == [turn.after_s for turn in talks[0]]


def test_later_turns_are_meant_to_be_cached() -> None:
    """That is what a cache is for; the first turn is not."""
    turns = turns_of(next(Conversations(QUESTIONS).prompts(0)))

    assert [turn.reuse for turn in turns] == [False, True, True]


def test_a_stored_run_can_make_it_again() -> None:
    """The description holds that of the questions."""
    assert Conversations(Fixed("x"), InOrder([1, 2]), think_s=0).describe() == {
        "kind": "conversations",
        "questions": Fixed("x").describe(),
        "turns": {"distribution": "in_order", "count": 2, "mean": 1.5},
        "think_s": 0,
        "system": "",
    }


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_users_goes_away(share: float) -> None:
    """So many of them, the same for the same seed; nothing else of the prompts changes."""
    workload = Cancelling(QUESTIONS, share, after_s=2, after_tokens=5)
    prompts = list(islice(workload.prompts(0), 2000))
    leaving = [prompt.cancel_after_s == 2 for prompt in prompts]

    assert leaving == [prompt.cancel_after_tokens == 5 for prompt in prompts]
    assert np.mean(leaving) == pytest.approx(share, abs=5 * (0.25 / 2000) ** 0.5)
    assert [p.text for p in prompts] == [p.text for p in islice(QUESTIONS.prompts(0), 2000)]
    assert prompts == list(islice(workload.prompts(0), 2000))


def test_when_users_go_away_must_be_said() -> None:
    """And what is described is enough to do it again."""
    with pytest.raises(ValueError, match="neither 'after_s' nor 'after_tokens'"):
        Cancelling(QUESTIONS)
    assert Cancelling(Fixed("x"), 0.5, after_tokens=5).describe() == {
        "kind": "cancelling",
        "workload": Fixed("x").describe(),
        "share": 0.5,
        "after_s": None,
        "after_tokens": 5,
    }


def test_wrapped_workloads_are_counted_too() -> None:
    """The tokenizer of the questions is that of the whole; those that name none are left alone."""
    inner = Synthetic(30, tokenizer="server")
    for workload in (Conversations(inner), Cancelling(inner, after_s=1)):
        assert workload.tokenizer == "server"
        counted = workload.counted(lambda text: len(text.split()), "a test")
        assert "'counted_by': 'a test'" in str(counted.describe())
    assert Conversations(Fixed("x")).tokenizer is None
    assert Conversations(Fixed("x")).counted(len, "a test") == Conversations(Fixed("x"))
