"""Workloads as the command line and files write them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from llmperf_core.errors import UsageError
from llmperf_core.workload.conversations import Conversations
from llmperf_core.workload.dataset import read_dataset
from llmperf_core.workload.fixed import Fixed
from llmperf_core.workload.lengths import Length, LogNormal, Normal, Uniform
from llmperf_core.workload.protocol import Workload
from llmperf_core.workload.synthetic import Synthetic

_FORMS = (
    "fixed:TEXT, synthetic:LENGTH[?prefix=SHARE&prefixes=N], dataset:FILE, sharegpt:FILE or "
    "conversation:LENGTH[?turns=LENGTH&think=SECONDS], where LENGTH is a number, "
    "uniform(low,high), normal(mean,sd) or lognormal(mean,sd)"
)
_DISTRIBUTION = re.compile(r"(\w+)\(([^()]*)\)")
_DISTRIBUTIONS: Mapping[str, Callable[[float, float], Length]] = {
    "uniform": lambda low, high: Uniform(int(low), int(high)),
    "normal": Normal,
    "lognormal": LogNormal,
}


def length_of(text: str) -> Length:
    """Return the length or the distribution that a text names, as `64` or `normal(512,100)`.

    Raises:
        UsageError: it names none.
        ValueError: a number is out of its range.
    """
    if text.isdecimal():
        return int(text)
    match = _DISTRIBUTION.fullmatch(text)
    make = _DISTRIBUTIONS.get(match[1]) if match else None
    if match and make:
        try:
            first, second = (float(part) for part in match[2].split(","))
        except ValueError:
            raise UsageError(f"length {text!r} needs two numbers in its brackets") from None
        return make(first, second)
    raise UsageError(
        f"length {text!r} is neither a number nor uniform(low,high), normal(mean,sd) or "
        "lognormal(mean,sd)"
    )


def workload_of(
    spec: str,
    *,
    output_tokens: Length | None = None,
    unique: bool = True,
    tokenizer: Literal["server"] | Path | None = None,
) -> Workload:
    """Return the workload that a line of text names.

    Args:
        spec: `synthetic:LENGTH`, `fixed:TEXT`, `dataset:FILE`, `sharegpt:FILE` or
            `conversation:LENGTH`; LENGTH as in `length_of`. Options come after a question mark:
            `synthetic:512?prefix=0.5&prefixes=4`, `conversation:64?turns=5&think=2`.
        output_tokens: the limit on each answer; None takes that of the row of a file, else 64.
        unique: make a fixed prompt, or those of a file, new to the server's cache.
        tokenizer: what counts the tokens of synthetic prompts.

    Raises:
        UsageError: it names none, or a file cannot be read.
        ValueError: a number is out of its range.
    """
    kind, _, rest = spec.partition(":")
    limit = 64 if output_tokens is None else output_tokens
    match kind:
        case "fixed" if rest:
            return Fixed(rest, max_new_tokens=_one(limit), unique=unique)
        case "dataset" | "sharegpt" if rest:
            only = None if output_tokens is None else _one(output_tokens)
            return read_dataset(rest, output_tokens=only, unique=unique)
        case "synthetic" | "conversation" if rest:
            length, options = _options(rest, kind)
            asked = Synthetic(
                length_of(length),
                limit,
                prefix_share=float(options.get("prefix", 0)),
                prefixes=int(options.get("prefixes", 1)),
                tokenizer=tokenizer,
            )
            if kind == "synthetic":
                return asked
            turns = length_of(options.get("turns", "3"))
            return Conversations(asked, turns, think_s=float(options.get("think", 1)))
    raise UsageError(f"workload {spec!r} is none of {_FORMS}")


def _options(text: str, kind: str) -> tuple[str, Mapping[str, str]]:
    length, _, query = text.partition("?")
    known = {"prefix", "prefixes"} | ({"turns", "think"} if kind == "conversation" else set())
    options = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in known:
            raise UsageError(f"{kind} has no option {name!r}; there are {', '.join(sorted(known))}")
        options[name] = value
    return length, options


def _one(length: Length) -> int:
    if isinstance(length, int):
        return length
    raise UsageError("only the answers of synthetic prompts can have a distribution of lengths")
