"""Words of the command line that are more than one value."""

import json
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence

from llmperf_core.target import Json

_LIMITS = ("ttft", "itl", "tpot", "e2e")


def numbers(text: str) -> Sequence[float]:
    """Return `2,4,8` as numbers.

    Raises:
        ArgumentTypeError: one is none.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"numbers with commas between them, not {text!r}") from None


def whole_numbers(text: str) -> Sequence[int]:
    """Return `1,5,10` as integers.

    Raises:
        ArgumentTypeError: one is none.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"whole numbers with commas between them, not {text!r}") from None


def limits(text: str) -> Mapping[str, float]:
    """Return `ttft=500,itl=50` as milliseconds by name.

    Raises:
        ArgumentTypeError: a name is unknown or a limit no number.
    """
    found = {}
    for part in text.split(","):
        name, _, limit_ms = part.partition("=")
        if name not in _LIMITS:
            raise ArgumentTypeError(f"{name!r} is none of {', '.join(_LIMITS)}")
        try:
            found[name] = float(limit_ms)
        except ValueError:
            raise ArgumentTypeError(f"{name} needs milliseconds, not {limit_ms!r}") from None
    return found


def header(text: str) -> tuple[str, str]:
    """Return `Name: value` as a pair.

    Raises:
        ArgumentTypeError: there is no colon. The text is not repeated: it may hold a key.
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ArgumentTypeError("a header is written NAME:VALUE")
    return name.strip(), value.strip()


def json_object(text: str) -> Mapping[str, Json]:
    """Return `{"ignore_eos": true}` as a mapping.

    Raises:
        ArgumentTypeError: it is no JSON object.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ArgumentTypeError(f"a JSON object, not {text!r}")
    return found
