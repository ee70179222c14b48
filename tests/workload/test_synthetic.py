"""Prompts of random words, each different from every other."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.workload import Synthetic

PROMPTS = 2000


def texts(seed: int, count: int = PROMPTS, *, input_tokens: int = 64) -> list[str]:
    """Return the first texts of a workload."""
    return [prompt.text for prompt in islice(Synthetic(input_tokens).prompts(seed), count)]


@given(st.integers(0, 2**63))
def test_a_seed_gives_the_same_prompts_again(seed: int) -> None:
    """The same seed asks the same things in the same order; another asks others."""
    assert texts(seed, 5) == texts(seed, 5)
    assert not set(texts(seed, 5)) & set(texts(seed + 1, 5))


def test_no_two_prompts_are_alike() -> None:
    """No prompt can be answered from the cache of an earlier one."""
    assert len(set(texts(0))) == PROMPTS
    assert len(set(texts(0, input_tokens=16))) == PROMPTS


def test_prompts_part_ways_at_the_first_word() -> None:
    """A prefix cache finds hardly a word: two prompts seldom share even their first."""
    firsts = [text.split(maxsplit=1)[0] for text in texts(0)]
    shared = sum(a == b for a, b in pairwise(firsts))

    # With a vocabulary of 90 words, one pair in 90 shares it: 22 ± 5 of 2,000.
    assert shared < 22 + 5 * 5
    assert len(set(firsts)) > 80


@pytest.mark.parametrize("input_tokens", [16, 64, 1000])
def test_a_prompt_has_about_as_many_words_as_tokens_were_asked(input_tokens: int) -> None:
    """A word counts as a token, the instruction at the end included."""
    assert {len(text.split()) for text in texts(0, 3, input_tokens=input_tokens)} == {input_tokens}


def test_budget_and_parameters_go_with_each_prompt() -> None:
    """Each prompt carries the limit on its answer and the parameters."""
    workload = Synthetic(output_tokens=9, parameters={"top_p": 0.5})

    for prompt in islice(workload.prompts(0), 3):
        assert (prompt.max_new_tokens, prompt.parameters) == (9, {"top_p": 0.5})


def test_a_stored_run_can_make_it_again() -> None:
    """The description names the kind and holds every field."""
    assert Synthetic(input_tokens=5, output_tokens=9).describe() == {
        "kind": "synthetic",
        "input_tokens": 5,
        "output_tokens": 9,
        "parameters": {},
    }


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_that_cannot_be_is_refused_at_once(length: int) -> None:
    """The message names the field that is wrong."""
    with pytest.raises(ValueError, match="input_tokens"):
        Synthetic(input_tokens=length)
    with pytest.raises(ValueError, match="output_tokens"):
        Synthetic(output_tokens=length)
