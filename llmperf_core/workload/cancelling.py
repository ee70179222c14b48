"""Users who go away before they have their answer."""

from collections.abc import Iterator, Mapping
from typing import Self

import numpy as np
from attrs import evolve, field, frozen
from attrs.validators import and_, ge, gt, instance_of, le, optional

from llmperf_core.target import Json, Prompt
from llmperf_core.workload.counting import counted_inside, tokenizer_of
from llmperf_core.workload.protocol import Workload
from llmperf_core.workload.words import Count


@frozen
class Cancelling:
    """Another workload, of which a share of the requests is ended by us.

    Args:
        workload: what is asked.
        share: of the requests, from 0 to 1; the seed says which.
        after_s: end them so long after they were due, or begun.
        after_tokens: end them once so many tokens have come. Whichever comes first.

    Raises:
        ValueError: a number is out of its range, or neither limit is given.
    """

    workload: Workload
    share: float = field(default=1.0, validator=and_(ge(0), le(1)))
    after_s: float | None = field(default=None, validator=optional(gt(0)), kw_only=True)
    after_tokens: int | None = field(
        default=None, validator=optional(and_(instance_of(int), gt(0))), kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        if self.after_s is None and self.after_tokens is None:
            raise ValueError("neither 'after_s' nor 'after_tokens' says when; give one")

    @property
    def tokenizer(self) -> object:
        """What counts the prompts' tokens; None if nothing does."""
        return tokenizer_of(self.workload)

    def counted(self, count: Count, counted_by: str) -> Self:
        """Return the workload whose lengths were counted in tokens."""
        return evolve(self, workload=counted_inside(self.workload, count, counted_by))

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield the prompts, some of them with a limit to their user's patience."""
        rng = np.random.default_rng([seed, 8])
        for prompt in self.workload.prompts(seed):
            leaves = rng.random() < self.share
            yield self._impatient(prompt) if leaves else prompt

    def _impatient(self, prompt: Prompt) -> Prompt:
        return evolve(prompt, cancel_after_s=self.after_s, cancel_after_tokens=self.after_tokens)

    def describe(self) -> Mapping[str, Json]:
        """Return the kind and the fields."""
        return {
            "kind": "cancelling",
            "workload": self.workload.describe(),
            "share": self.share,
            "after_s": self.after_s,
            "after_tokens": self.after_tokens,
        }
