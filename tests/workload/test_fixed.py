"""One prompt, asked again and again, and new to a cache each time."""

from itertools import islice

import pytest

from llmperf_core.target import Prompt
from llmperf_core.workload import Fixed


def test_the_prompt_is_the_same_each_time_but_for_its_salt() -> None:
    """A seed gives the same prompts again; within a run, and under another seed, none is alike."""
    workload = Fixed("Hello", max_new_tokens=7, parameters={"seed": 1})
    once, again, other = (list(islice(workload.prompts(seed), 500)) for seed in (1, 1, 2))

    assert once == again
    texts = {prompt.text for prompt in [*once, *other]}
    assert len(texts) == 1000
    assert {text[14:] for text in texts} == {" Hello"}
    assert len({text[:3] for text in texts}) > 200, "they part ways at once"
    assert {(p.max_new_tokens, str(p.parameters)) for p in once} == {(7, "{'seed': 1}")}


def test_without_salt_the_text_is_as_it_was_given() -> None:
    """For those who measure the cache."""
    workload = Fixed("Hello", max_new_tokens=7, parameters={"seed": 1}, unique=False)
    prompt = Prompt(text="Hello", max_new_tokens=7, parameters={"seed": 1})

    assert list(islice(workload.prompts(1), 3)) == [prompt] * 3


def test_a_stored_run_can_make_it_again() -> None:
    """The description names the kind and holds every field."""
    description = Fixed("Hello", max_new_tokens=7).describe()

    fields = {"text": "Hello", "max_new_tokens": 7, "parameters": {}, "unique": True}
    assert description == {"kind": "fixed", **fields}


@pytest.mark.parametrize(("text", "max_new_tokens"), [("", 1), ("Hello", 0), ("Hello", -1)])
def test_what_cannot_be_asked_is_refused_at_once(text: str, max_new_tokens: int) -> None:
    """An empty prompt or an empty budget fails when it is written, not when it is sent."""
    with pytest.raises(ValueError, match=r"text|max_new_tokens"):
        Fixed(text, max_new_tokens=max_new_tokens)
