"""Text of a wanted length, made of words whose tokens have been counted."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from attrs import frozen

from llmperf_core.errors import UsageError

Count: TypeAlias = Callable[[str], int]
"""Returns how many tokens a text has."""

# Short, common English words: byte-pair vocabularies trained on English have each as one token
# with its leading space, so a word is close to a token even where nobody counted.
_COMMON_WORDS = """
time year people way day man thing woman life child world school state family student group
country problem hand part place case week company system program question work number night
point home water room mother area money story fact month lot right study book eye job word
business issue side kind head house service friend father power hour game line end member
law car city community name president team minute idea body information back parent face
level office door health person art war history party result change morning reason research
girl guy moment air teacher force education
"""
_WORDS = tuple(_COMMON_WORDS.split())
_INSTRUCTION = "Continue this text at length:"
_LEAST_WORDS = 16
"""With fewer, prompts of one run would soon be alike."""


@frozen
class Vocabulary:
    """Words to make text of, and what is known of their tokens."""

    words: tuple[str, ...] = _WORDS
    """Each is one token with a space before it, as far as that was counted."""
    firsts: tuple[str, ...] = _WORDS
    """Those that are one token at the beginning of a text, too."""
    around: int = len(_INSTRUCTION.split())
    """The tokens of a text beside its words."""
    counted_by: str = "words, as an approximation of tokens"

    def words_for(self, tokens: int) -> int:
        """Return how many words make a text of so many tokens; at least one."""
        return max(1, tokens - self.around)

    def drawn(self, rng: np.random.Generator, words: int, *, first: bool) -> list[str]:
        """Return random words; the first of them may begin a text if `first` is set."""
        drawn = [self.words[i] for i in rng.integers(len(self.words), size=words)]
        if first and drawn and self.firsts != self.words:
            drawn[0] = self.firsts[int(rng.integers(len(self.firsts)))]
        return drawn


def text_of(words: Sequence[str]) -> str:
    """Return the words as a prompt that asks for a long answer.

    The instruction comes last: a shared beginning would be served from a prefix cache.
    """
    return f"{' '.join(words)}. {_INSTRUCTION}"


def counted_vocabulary(count: Count, counted_by: str) -> Vocabulary:
    """Return the common words that a tokenizer has as one token each.

    Tokenizers split a text at its spaces first, so the counts of its words add up, and a text of n
    such words has exactly n tokens beside those around them.

    Args:
        count: counts with that tokenizer, special tokens that it adds among them.
        counted_by: what did, for stored runs.

    Raises:
        UsageError: hardly any of the words is one token: the tokenizer is of another language.
    """
    anchor = _WORDS[0]
    alone = count(text_of([anchor]))
    words = tuple(_single(_WORDS, lambda some: count(text_of([anchor, *some])) - alone))
    firsts = tuple(word for word in words if count(text_of([word])) == alone)
    if min(len(words), len(firsts)) < _LEAST_WORDS:
        raise UsageError(
            f"the tokenizer ({counted_by}) has only {len(words)} of {len(_WORDS)} common English "
            "words as one token: leave `tokenizer` out, or bring prompts of your own as a dataset"
        )
    return Vocabulary(words, firsts, alone - 1, counted_by)


def _single(words: Sequence[str], tokens_of: Callable[[Sequence[str]], int]) -> Iterator[str]:
    """Yield the words that are one token: as each has at least one, a sum tells for many."""
    if tokens_of(words) == len(words):
        yield from words
    elif len(words) > 1:
        middle = len(words) // 2
        yield from _single(words[:middle], tokens_of)
        yield from _single(words[middle:], tokens_of)
