"""Users who ask, read the answer, think, and ask again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import numpy as np
from attrs import evolve, field, frozen
from attrs.validators import ge

from llmperf_core.target import Json, Prompt, Turn
from llmperf_core.workload.counting import counted_inside, tokenizer_of
from llmperf_core.workload.lengths import Length, checked, described, draws
from llmperf_core.workload.protocol import Workload
from llmperf_core.workload.synthetic import Synthetic
from llmperf_core.workload.words import Count


@frozen
class Conversations:
    """Conversations of several turns, each with all that was said before it.

    In a closed loop a slot is a user: it holds one conversation to its end and begins the next. In
    an open loop conversations begin when they are due, and their later turns follow on their own.
    A turn starts when its user has thought, so it has no lag. A conversation ends early when a
    turn fails, and what is left of it when the window closes is not asked.

    Args:
        questions: what is asked; a conversation takes as many prompts of it as it has turns.
        turns: how many, or a distribution.
        think_s: the mean time between an answer's end and the next question; exponential.
        system: what each conversation begins with, said by the system; empty for nothing. It is
            the same in all of them, so a server may have it in its cache.

    Raises:
        ValueError: a number is out of its range.
    """

    questions: Workload = field(factory=Synthetic)
    turns: Length = field(default=3, validator=checked)
    think_s: float = field(default=1.0, validator=ge(0), kw_only=True)
    system: str = field(default="", kw_only=True)

    @property
    def tokenizer(self) -> object:
        """What counts the questions' tokens; None if nothing does."""
        return tokenizer_of(self.questions)

    def counted(self, count: Count, counted_by: str) -> Self:
        """Return the workload whose lengths were counted in tokens."""
        return evolve(self, questions=counted_inside(self.questions, count, counted_by))

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield the first turns of conversations; `then` of each gives the next one."""
        questions = self.questions.prompts(seed)
        thinking = np.random.default_rng([seed, 7])
        said: tuple[Turn, ...] = (("system", self.system),) if self.system else ()
        for turns in draws(self.turns, np.random.default_rng([seed, 6])):
            asked = [next(questions) for _ in range(turns)]
            pauses_s = [0.0, *thinking.exponential(self.think_s, size=turns - 1).tolist()]
            yield _turn(asked, pauses_s, said, first=True)

    def describe(self) -> Mapping[str, Json]:
        """Return the kind and the fields."""
        return {
            "kind": "conversations",
            "questions": self.questions.describe(),
            "turns": described(self.turns),
            "think_s": self.think_s,
            "system": self.system,
        }


def _turn(
    asked: Sequence[Prompt], pauses_s: Sequence[float], said: tuple[Turn, ...], *, first: bool
) -> Prompt:
    question, *rest = asked
    history = (*question.history, *said)

    def then(answer: str) -> Prompt | None:
        so_far: tuple[Turn, ...] = (*history, ("user", question.text), ("assistant", answer))
        return _turn(rest, pauses_s[1:], so_far, first=False) if rest else None

    return evolve(
        question, history=history, after_s=pauses_s[0], reuse=question.reuse or not first, then=then
    )
