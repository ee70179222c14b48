"""One prompt, asked again and again."""

from itertools import islice

import pytest

from llmperf_core.target import Prompt
from llmperf_core.workload import Fixed


def test_the_prompt_is_the_same_each_time() -> None:
    """Whatever the seed, the text, the budget and the parameters are those that were given."""
    workload = Fixed("Hello", max_new_tokens=7, parameters={"seed": 1})
    prompt = Prompt(text="Hello", max_new_tokens=7, parameters={"seed": 1})

    assert list(islice(workload.prompts(1), 3)) == [prompt] * 3
    assert list(islice(workload.prompts(2), 3)) == [prompt] * 3


def test_a_stored_run_can_make_it_again() -> None:
    """The description names the kind and holds every field."""
    description = Fixed("Hello", max_new_tokens=7).describe()

    assert description == {"kind": "fixed", "text": "Hello", "max_new_tokens": 7, "parameters": {}}


@pytest.mark.parametrize(("text", "max_new_tokens"), [("", 1), ("Hello", 0), ("Hello", -1)])
def test_what_cannot_be_asked_is_refused_at_once(text: str, max_new_tokens: int) -> None:
    """An empty prompt or an empty budget fails when it is written, not when it is sent."""
    with pytest.raises(ValueError, match=r"text|max_new_tokens"):
        Fixed(text, max_new_tokens=max_new_tokens)
