"""The simulator's language: a tokenizer that counts, and answers that are words without a model.

A token is at most eight letters or digits with the one space before them, or any other character by
itself: about one token a word, as in a real model, and the same count on every machine.
"""

import re
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

_PIECE = re.compile(r"[ ]?\w{1,8}|[ ]?[^\w\s]|\s")
_IDS = 31_000
_FIRST_ID = 1_000
"""The ids below are left to special tokens, as in many vocabularies."""

BOS, BOS_ID = "<s>", 1
"""Begins each prompt but a chat's, whose template would write it."""
EOS, EOS_ID = "</s>", 2

_STORY = """
once upon a time there lived one small llama who had always wanted to see what lay behind the high
hills so she packed some dry grass said goodbye and walked until evening came down over every valley
then slept under old stars while far away soft bells rang for another herd going home
"""
WORDS: Sequence[str] = tuple(f" {word}" for word in _STORY.split())
"""The vocabulary of every answer, each word one token, in the order in which they come."""
_ROUND = "".join(WORDS)
_STARTS = (0, *accumulate(map(len, WORDS)))
"""Where each word begins in it."""


def pieces_of(text: str) -> list[str]:
    """Return the tokens of a text; together they are the text."""
    return _PIECE.findall(text)


def id_of(piece: str) -> int:
    """Return a token's id. Different tokens may share one."""
    return _FIRST_ID + zlib.crc32(piece.encode()) % _IDS


def blocks_of(pieces: Sequence[str], size: int) -> tuple[int, ...]:
    """Return one number for each whole block of `size` tokens: equal blocks have equal numbers."""
    whole = len(pieces) - len(pieces) % size
    return tuple(
        zlib.crc32("".join(pieces[start : start + size]).encode())
        for start in range(0, whole, size)
    )


def answer_of(first_word: int, tokens: int) -> str:
    """Return the text of that many tokens, from that word on and around again."""
    rounds, last = divmod(first_word + tokens, len(WORDS))
    start, end = _STARTS[first_word], rounds * len(_ROUND) + _STARTS[last]
    return (_ROUND * (rounds + 1))[start:end]


def tokens_until_stop(first_word: int, tokens: int, stops: Sequence[str]) -> int | None:
    """Return after how many of an answer's tokens a stop sequence is complete; None if it never is.

    Source: TGI looks for stop sequences after each token, anywhere in what was generated.
    """
    text = answer_of(first_word, tokens)
    ends = [found + len(stop) for stop in stops if stop and (found := text.find(stop)) >= 0]
    if not ends:
        return None
    lengths = [len(WORDS[(first_word + index) % len(WORDS)]) for index in range(tokens)]
    return bisect_left(list(accumulate(lengths)), min(ends)) + 1
