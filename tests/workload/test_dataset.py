"""Prompts from files, in the formats that people have."""

import json
from itertools import islice
from pathlib import Path

import pytest

from llmperf_core.errors import UsageError
from llmperf_core.target import Prompt
from llmperf_core.workload import Dataset, read_dataset

SHAREGPT = [
    {
        "id": "a",
        "conversations": [
            {"from": "human", "value": "What is a llama?"},
            {"from": "gpt", "value": "An animal of the high mountains"},
            {"from": "human", "value": "And an alpaca?"},
        ],
    },
    {"id": "b", "conversations": [{"from": "gpt", "value": "I go on"}]},
    {"id": "c", "conversations": []},
    {
        "id": "d",
        "conversations": [
            {"from": "system", "value": "Be brief"},
            {"from": "tool", "value": "is nobody"},
            {"from": "human", "value": "Hello"},
        ],
    },
]
STUDY = [["Can you brainstorm", 25, 160], ["Write of llamas", 5, 3]]
LINES = [
    {"prompt": "one", "output_tokens": 5},
    {"text": "two", "max_tokens": 6, "parameters": {"top_k": 3}},
    {"inputs": "three"},
]
MESSAGES = {
    "messages": [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "What is a llama?"},
        {"role": "assistant", "content": "An animal indeed"},
    ]
}


def rows(tmp_path: Path, content: object, *, lines: bool = False) -> tuple[Prompt, ...]:
    """Return what is asked in a file with this content."""
    path = tmp_path / "data.json"
    assert isinstance(content, list)
    whole = "\n".join(map(json.dumps, content)) if lines else json.dumps(content, indent=1)
    path.write_text(whole)
    return read_dataset(path).rows


@pytest.mark.parametrize("lines", [False, True])
def test_sharegpt(tmp_path: Path, lines: bool) -> None:  # noqa: FBT001 -- a case
    """The first question; the answer after it says how long ours may be."""
    first, second = rows(tmp_path, SHAREGPT, lines=lines)

    assert (first.text, first.max_new_tokens, first.history) == ("What is a llama?", 8, ())
    assert (second.text, second.max_new_tokens) == ("Hello", 64)
    assert second.history == (("system", "Be brief"),)


@pytest.mark.parametrize("lines", [False, True])
def test_the_published_study(tmp_path: Path, lines: bool) -> None:  # noqa: FBT001 -- a case
    """Prompt, its tokens, and the tokens of the answer."""
    found = rows(tmp_path, STUDY, lines=lines)

    assert [(row.text, row.max_new_tokens) for row in found] == [(s[0], s[2]) for s in STUDY]


@pytest.mark.parametrize("lines", [False, True])
def test_plain_prompts(tmp_path: Path, lines: bool) -> None:  # noqa: FBT001 -- a case
    """With the names that people give them, and limits if there are any."""
    found = rows(tmp_path, LINES, lines=lines)

    assert [(row.text, row.max_new_tokens) for row in found] == [
        ("one", 5),
        ("two", 6),
        ("three", 64),
    ]
    assert found[1].parameters == {"top_k": 3}


def test_messages(tmp_path: Path) -> None:
    """The last question is asked, and what was said before it is its history."""
    [row] = rows(tmp_path, [MESSAGES])

    assert (row.text, row.max_new_tokens) == ("What is a llama?", 4)
    assert row.history == (("system", "Be brief"), ("user", "Hello"), ("assistant", "Yes?"))
    assert row.whole_text == "Be brief\n\nHello\n\nYes?\n\nWhat is a llama?"


def dataset(*texts: str, **options: object) -> Dataset:
    """Return a dataset of these prompts."""
    return Dataset(rows=tuple(Prompt(text=text) for text in texts), **options)  # type: ignore[arg-type]


def test_each_pass_is_in_another_order() -> None:
    """Every row once in each; a seed gives the same order again."""
    data = dataset(*"abcdefgh", unique=False)
    texts = [prompt.text for prompt in islice(data.prompts(1), 16)]

    assert sorted(texts[:8]) == sorted(texts[8:]) == list("abcdefgh")
    assert texts[:8] != texts[8:]
    assert texts == [prompt.text for prompt in islice(data.prompts(1), 16)]
    assert texts != [prompt.text for prompt in islice(data.prompts(2), 16)]


def test_no_prompt_is_asked_twice() -> None:
    """Each gets a salt of its own, in each pass, in front of all that is sent."""
    data = Dataset(rows=(Prompt(text="x", history=(("system", "Be brief"),)), Prompt(text="x")))
    prompts = list(islice(data.prompts(1), 500))

    assert len({prompt.whole_text for prompt in prompts}) == 500
    assert {prompt.whole_text[14:] for prompt in prompts} == {" Be brief\n\nx", " x"}


def test_limits_and_parameters_can_be_given_for_all() -> None:
    """The limit in place of the row's own; a row's own parameters go before those for all."""
    row = Prompt(text="x", max_new_tokens=9, parameters={"top_k": 3})
    data = Dataset(rows=(row,), output_tokens=5, parameters={"top_k": 1, "seed": 2})
    prompt = next(data.prompts(1))

    assert (prompt.max_new_tokens, prompt.parameters) == (5, {"top_k": 3, "seed": 2})


def test_a_stored_run_says_which_file_it_was(tmp_path: Path) -> None:
    """By its name and its digest, and not by where it lay."""
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "one"}\n')
    said = read_dataset(path, output_tokens=5, unique=False).describe()

    assert (said["kind"], said["source"], said["rows"]) == ("dataset", "data.jsonl", 1)
    assert (said["output_tokens"], said["unique"]) == (5, False)
    assert len(str(said["sha256"])) == 64
    assert str(tmp_path) not in str(said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "nothing is asked in it"),
        ("[]", "nothing is asked in it"),
        ("hello", "neither JSON nor JSON lines"),
        ("[1, 2", "neither JSON nor JSON lines"),
        ('"text"', "entry 1: an object or a list is needed, not str"),
        ('{"question": "x"}', "entry 1: .*none of prompt, text, inputs, messages, conversations"),
        ('{"prompt": ""}', "entry 1: .*text"),
        ('{"prompt": "x"}\n{"prompt": 1}', "entry 2: .*text"),
        ('{"prompt": "x", "max_tokens": 0}', "entry 1: .*max_new_tokens"),
        ('[["x", 1]]', "entry 1: not enough values"),
        ('{"messages": [{"role": "user"}]}', "entry 1: 'content'"),
        ('{"conversations": 5}', "entry 1"),
    ],
)
def test_what_is_no_dataset_is_said_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    """With the file, the place in it, and what is wrong."""
    path = tmp_path / "data"
    path.write_text(content)
    with pytest.raises(UsageError, match=said) as raised:
        read_dataset(path)
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or no text."""
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_dataset(tmp_path / "none")
    (tmp_path / "image").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match="neither JSON nor JSON lines"):
        read_dataset(tmp_path / "image")
