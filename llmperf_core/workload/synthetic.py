"""Prompts of random common words."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

import numpy as np
from attrs import Factory, evolve, field, frozen
from attrs.validators import and_, ge, gt, instance_of, le

from llmperf_core.target import Json, Prompt
from llmperf_core.workload.lengths import Length, checked, described, draws
from llmperf_core.workload.words import Count, Vocabulary, counted_vocabulary, text_of


@frozen
class Synthetic:
    """Prompts of about `input_tokens` random words that differ from their first word on.

    So no prefix cache helps, and with 16 tokens and more no two prompts of a run are alike.

    Args:
        input_tokens: the length to aim at, or a distribution of lengths.
        output_tokens: the limit on the answer, or a distribution of limits. The server may end
            before it.
        parameters: further generation parameters, under the protocol's own names.
        prefix_share: of each prompt, the share that it has in common with others, from 0 to 1: a
            server with a prefix cache computes that only once.
        prefixes: how many such beginnings there are.
        tokenizer: `"server"` counts tokens with the server's `/tokenize`, a path with a file
            `tokenizer.json` (needs the extra `tokenizers`). None takes a word as a token, which is
            an approximation. What the server counted in the end is in the result.

    Raises:
        ValueError: a number is out of its range.
        TypeError: a length is neither a whole number nor a distribution.
    """

    input_tokens: Length = field(default=64, validator=checked)
    output_tokens: Length = field(default=64, validator=checked)
    parameters: Mapping[str, Json] = Factory(dict)
    prefix_share: float = field(default=0.0, validator=and_(ge(0), le(1)), kw_only=True)
    prefixes: int = field(default=1, validator=and_(instance_of(int), gt(0)), kw_only=True)
    tokenizer: Literal["server"] | Path | None = field(default=None, kw_only=True)
    _vocabulary: Vocabulary = field(default=Vocabulary(), repr=False, kw_only=True)

    def counted(self, count: Count, counted_by: str) -> Self:
        """Return the workload whose lengths were counted in tokens.

        Raises:
            UsageError: the tokenizer does not know enough of the words.
        """
        return evolve(self, vocabulary=counted_vocabulary(count, counted_by))

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield prompts that differ from their first word, or from the end of their prefix, on."""
        rng, vocabulary = np.random.default_rng(seed), self._vocabulary
        prefixes = [_Prefix(vocabulary, seed, k) for k in range(self.prefixes)]
        inputs = draws(self.input_tokens, np.random.default_rng([seed, 1]))
        outputs = draws(self.output_tokens, np.random.default_rng([seed, 2]))
        for input_tokens, output_tokens in zip(inputs, outputs, strict=True):
            words = vocabulary.words_for(input_tokens)
            shared = round(self.prefix_share * words)
            begun = prefixes[int(rng.integers(self.prefixes))].first(shared) if shared else []
            drawn = vocabulary.drawn(rng, words - shared, first=not shared)
            yield Prompt(
                text=text_of([*begun, *drawn]),
                max_new_tokens=output_tokens,
                parameters=self.parameters,
                reuse=shared > 0,
            )

    def describe(self) -> Mapping[str, Json]:
        """Return the kind and the fields, and what the lengths were counted by."""
        shared = {"prefix_share": self.prefix_share, "prefixes": self.prefixes}
        return {
            "kind": "synthetic",
            "input_tokens": described(self.input_tokens),
            "output_tokens": described(self.output_tokens),
            "parameters": self.parameters,
            **(shared if self.prefix_share else {}),
            "counted_by": self._vocabulary.counted_by,
        }


class _Prefix:
    """A beginning that prompts share; it grows to what the longest of them takes of it."""

    def __init__(self, vocabulary: Vocabulary, seed: int, number: int) -> None:
        self._rng = np.random.default_rng([seed, 3, number])
        self._vocabulary = vocabulary
        self._words = vocabulary.drawn(self._rng, 1, first=True)

    def first(self, words: int) -> list[str]:
        missing = max(0, words - len(self._words))
        self._words += self._vocabulary.drawn(self._rng, missing, first=False)
        return self._words[:words]
