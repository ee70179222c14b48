"""Prompts from a file, in any of the formats that people have."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Literal, TypeAlias, cast

import msgspec
import numpy as np
from attrs import Factory, evolve, field, frozen
from attrs.validators import and_, gt, instance_of, min_len, optional

from llmperf_core.errors import UsageError
from llmperf_core.target import Json, Prompt, Turn
from llmperf_core.workload.salt import salts

_TOKENS_PER_WORD = 4 / 3
"""For reference answers that nobody counted. Source: OpenAI's help centre, "What are tokens and how
to count them": 100 tokens are about 75 English words."""
_LIMITS = ("output_tokens", "max_new_tokens", "max_tokens")
_DEFAULT_OUTPUT_TOKENS = 64
_SPEAKERS: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}
_Object: TypeAlias = Mapping[str, Json]


@frozen(kw_only=True)
class Dataset:
    """Prompts of a file in a seeded order, each pass in another one. `read_dataset` reads one.

    Raises:
        ValueError: there is no prompt, or `output_tokens` is not positive.
    """

    rows: tuple[Prompt, ...] = field(validator=min_len(1), repr=lambda rows: f"<{len(rows)}>")
    output_tokens: int | None = field(
        default=None, validator=optional(and_(instance_of(int), gt(0)))
    )
    """The limit on each answer; None takes that of the row."""
    parameters: Mapping[str, Json] = Factory(dict)
    """Further generation parameters; a row's own come before them."""
    unique: bool = True
    """Begin each prompt with a salt of 14 characters, so that no cache has it from an earlier run
    or an earlier pass."""
    source: str = ""
    """The name of the file."""
    sha256: str = ""
    """Of the file's bytes."""

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield the rows without end, shuffled anew for each pass."""
        salt = salts(seed)
        for lap in count():
            for row in np.random.default_rng([seed, 9, lap]).permutation(len(self.rows)):
                yield self._asked(self.rows[row], next(salt) if self.unique else "")

    def _asked(self, row: Prompt, salt: str) -> Prompt:
        history, text = row.history, salt + row.text
        if history and salt:  # what comes first is what a cache would know
            (speaker, said), *later = history
            history, text = ((speaker, salt + said), *later), row.text
        return evolve(
            row,
            text=text,
            history=history,
            max_new_tokens=self.output_tokens or row.max_new_tokens,
            parameters={**self.parameters, **row.parameters},
        )

    def describe(self) -> Mapping[str, Json]:
        """Return the kind, which file it was, and the fields; not the rows."""
        return {
            "kind": "dataset",
            "source": self.source,
            "sha256": self.sha256,
            "rows": len(self.rows),
            "output_tokens": self.output_tokens,
            "parameters": self.parameters,
            "unique": self.unique,
        }


def read_dataset(
    path: Path | str, *, output_tokens: int | None = None, unique: bool = True
) -> Dataset:
    """Return the prompts of a file of JSON, or of JSON lines. The format is found by looking.

    - Objects with `prompt` (or `text`, or `inputs`), and if there are any `output_tokens` (or
      `max_tokens`, `max_new_tokens`) and `parameters`.
    - Objects with `messages` as in OpenAI's API: the last message of the user is asked, those
      before it are its history.
    - ShareGPT: objects with `conversations`; the first question is asked. An answer that follows
      gives the limit on ours: 4/3 tokens a word, which is an approximation.
    - The published study's `[prompt, prompt_tokens, output_tokens]`.

    Rows in which nobody asks anything are left out; 64 tokens is the limit where nothing says one.

    Source: https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered;
    https://github.com/philschmid/text-generation-inference-tests, `sharegpt_load.js`.

    Args:
        path: the file.
        output_tokens: the limit on each answer, in place of that of the row.
        unique: make each prompt new to the server's cache.

    Raises:
        UsageError: the file cannot be read, is no JSON, or nothing is asked in it.
        ValueError: `output_tokens` is not positive.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        entries = _entries(content)
    except OSError as error:
        raise UsageError(f"dataset {str(path)!r} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"dataset {str(path)!r} is neither JSON nor JSON lines: {error}"
        ) from error
    rows = []
    for number, entry in enumerate(entries, start=1):
        try:
            row = _row(entry)
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"dataset {str(path)!r}, entry {number}: {error}") from error
        if row is not None:
            rows.append(row)
    if not rows:
        raise UsageError(f"dataset {str(path)!r}: nothing is asked in it")
    return Dataset(
        rows=tuple(rows),
        output_tokens=output_tokens,
        unique=unique,
        source=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _entries(content: bytes) -> Sequence[Json]:
    if content.lstrip().startswith(b"["):
        try:
            return cast("Sequence[Json]", msgspec.json.decode(content))
        except msgspec.DecodeError:
            pass  # lines of lists, maybe
    return [msgspec.json.decode(line) for line in content.splitlines() if line.strip()]


def _row(entry: Json) -> Prompt | None:
    """Return what an entry asks; None if it asks nothing."""
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        text, _, output_tokens = entry
        return Prompt(text=cast("str", text), max_new_tokens=cast("int", output_tokens))
    if not isinstance(entry, Mapping):
        raise TypeError(f"an object or a list is needed, not {type(entry).__name__}")
    if "conversations" in entry:
        turns = _turns(entry["conversations"], "from", "value")
        questions = [k for k, (speaker, _) in enumerate(turns) if speaker == "user"]
        return _asking(entry, turns, questions[0]) if questions else None
    if "messages" in entry:
        turns = _turns(entry["messages"], "role", "content")
        questions = [k for k, (speaker, _) in enumerate(turns) if speaker == "user"]
        return _asking(entry, turns, questions[-1]) if questions else None
    for name in ("prompt", "text", "inputs"):
        if name in entry:
            return _prompt(entry, cast("str", entry[name]), (), None)
    raise KeyError(f"none of prompt, text, inputs, messages, conversations in {list(entry)}")


def _turns(said: Json, speaker: str, text: str) -> list[Turn]:
    turns: list[Turn] = []
    for message in cast("Sequence[_Object]", said):
        role = _SPEAKERS.get(str(message[speaker]))
        if role is not None and message[text]:
            turns.append((role, str(message[text])))
    return turns


def _asking(entry: _Object, turns: Sequence[Turn], question: int) -> Prompt:
    history, (_, text), later = turns[:question], turns[question], turns[question + 1 :]
    answer = later[0][1] if later and later[0][0] == "assistant" else None
    return _prompt(entry, text, tuple(history), answer)


def _prompt(entry: _Object, text: str, history: tuple[Turn, ...], answer: str | None) -> Prompt:
    limits = [entry[name] for name in _LIMITS if name in entry]
    if answer is not None:
        limits.append(max(1, round(len(answer.split()) * _TOKENS_PER_WORD)))
    parameters = cast("_Object", entry.get("parameters") or {})
    return Prompt(
        text=text,
        history=history,
        parameters=parameters,
        max_new_tokens=cast("int", limits[0]) if limits else _DEFAULT_OUTPUT_TOKENS,
    )
