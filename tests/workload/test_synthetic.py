"""Prompts of random words, each different from every other."""

from collections import Counter
from itertools import islice, pairwise, takewhile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import UsageError
from llmperf_core.workload import InOrder, Synthetic, Uniform

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
        "counted_by": "words, as an approximation of tokens",
    }
    varied = Synthetic(Uniform(5, 9), InOrder([1]), prefix_share=0.5, prefixes=3).describe()
    assert varied["input_tokens"] == {"distribution": "uniform", "low": 5, "high": 9}
    assert (varied["prefix_share"], varied["prefixes"]) == (0.5, 3)


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_that_cannot_be_is_refused_at_once(length: int) -> None:
    """The message names the field that is wrong."""
    with pytest.raises(ValueError, match="input_tokens"):
        Synthetic(input_tokens=length)
    with pytest.raises(ValueError, match="output_tokens"):
        Synthetic(output_tokens=length)
    with pytest.raises(TypeError, match="'input_tokens' must be a whole number or a distribution"):
        Synthetic(input_tokens=1.5)  # type: ignore[arg-type] # that is what is tested


def test_lengths_can_vary() -> None:
    """Each prompt has the next length of its distribution, and so has its answer."""
    workload = Synthetic(InOrder([16, 100, 37]), InOrder([5, 6]))
    prompts = list(islice(workload.prompts(0), 6))

    assert [len(prompt.text.split()) for prompt in prompts] == [16, 100, 37, 16, 100, 37]
    assert [prompt.max_new_tokens for prompt in prompts] == [5, 6, 5, 6, 5, 6]


def in_common(a: str, b: str) -> int:
    """Return how many words two texts begin alike with."""
    pairs = zip(a.split(), b.split(), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_prefixes_have_the_share_that_was_asked(share: float) -> None:
    """Any two prompts have so much in common, and hardly more, whatever their lengths."""
    workload = Synthetic(Uniform(100, 300), prefix_share=share)
    prompts = list(islice(workload.prompts(0), 200))

    for a, b in pairwise(prompts):
        shortest = min(len(a.text.split()), len(b.text.split())) - 5
        assert 0 <= in_common(a.text, b.text) - round(share * shortest) <= 3
    assert all(prompt.reuse for prompt in prompts)
    assert not any(prompt.reuse for prompt in islice(Synthetic().prompts(0), 3))
    assert in_common(prompts[0].text, next(workload.prompts(1)).text) <= 3, "another run, others"


def test_there_can_be_several_prefixes() -> None:
    """Each about as often as the others."""
    workload = Synthetic(64, prefix_share=0.5, prefixes=4)
    begun = Counter(prompt.text[:60] for prompt in islice(workload.prompts(0), 400))

    assert len(begun) == 4
    assert min(begun.values()) > 60


def bytes_tokenizer(text: str) -> int:
    """Count as a made-up tokenizer does: one special token, and one for each four letters."""
    return 1 + sum(-(-len(word.strip(" .:")) // 4) for word in text.split()) + text.count(".") + 1


def test_counted_prompts_have_exactly_the_tokens_that_were_asked() -> None:
    """Words of several tokens are not used, and what is around them is counted."""
    workload = Synthetic(Uniform(20, 200)).counted(bytes_tokenizer, "a test")
    lengths = islice(Uniform(20, 200).draws(np.random.default_rng([3, 1])), 300)

    asked = [bytes_tokenizer(prompt.text) for prompt in islice(workload.prompts(3), 300)]
    assert asked == list(lengths)
    assert workload.describe()["counted_by"] == "a test"


def test_words_that_begin_a_text_are_counted_there() -> None:
    """A word without a space before it may be two tokens."""

    def count(text: str) -> int:
        return len(text.split()) + (text[0] in "aeiou")

    workload = Synthetic(30).counted(count, "a test")
    texts = [prompt.text for prompt in islice(workload.prompts(0), 500)]

    assert {count(text) for text in texts} == {30}
    assert any(" area " in text for text in texts)


def test_a_tokenizer_of_another_language_is_refused() -> None:
    """A few words only would make all prompts alike."""
    with pytest.raises(UsageError, match=r"\(a test\) has only 0 of \d+ common English words"):
        Synthetic(30).counted(len, "a test")
