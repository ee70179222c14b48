"""Words of the command line that are more than one value."""

import json
import math
import re
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from llmperf_core.bringup import Price
from llmperf_core.judge import Precision
from llmperf_core.target import Json

_PRECISION = re.compile(
    r"(?P<metric>\w+)(\.p(?P<percentile>\d+(\.\d+)?))?=(?P<percent>\d+(\.\d+)?)%"
)
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


def arrival(text: str) -> str | float:
    """Return `poisson` or `constant`, or the shape of `gamma:SHAPE`.

    Raises:
        ArgumentTypeError: it is none of them.
    """
    kind, _, shape = text.partition(":")
    if kind == "gamma" and shape:
        return numbers(shape)[0]
    if text not in ("poisson", "constant"):
        raise ArgumentTypeError(f"poisson, constant or gamma:SHAPE, not {text!r}")
    return text


def ramp(text: str) -> tuple[float, float, float]:
    """Return `1:20:60` as the two rates and the seconds between them.

    Raises:
        ArgumentTypeError: it is no such thing.
    """
    parts = numbers(text.replace(":", ","))
    if len(parts) != 3:
        raise ArgumentTypeError(f"FROM:TO:SECONDS, such as 1:20:60, not {text!r}")
    return parts[0], parts[1], parts[2]


def steps(text: str) -> Sequence[tuple[float, float]]:
    """Return `2:30,8:30` as rates, each with its seconds.

    Raises:
        ArgumentTypeError: it is no such thing.
    """
    pairs = [numbers(part.replace(":", ",")) for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise ArgumentTypeError(f"RATE:SECONDS with commas between them, not {text!r}")
    return [(pair[0], pair[1]) for pair in pairs]


def whole_numbers(text: str) -> Sequence[int]:
    """Return `1,5,10` as integers.

    Raises:
        ArgumentTypeError: one is none.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"whole numbers with commas between them, not {text!r}") from None


def port(text: str) -> int:
    """Return `8080` as a TCP port.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not (text.isdecimal() and int(text) < 1 << 16):
        raise ArgumentTypeError(f"a whole number from 0 to 65535, not {text!r}")
    return int(text)


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


def share(text: str) -> float:
    """Return `5%` or `5` as 0.05.

    Raises:
        ArgumentTypeError: it is no number.
    """
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        raise ArgumentTypeError(f"a number of per cent such as 5%, not {text!r}") from None


def precision(text: str) -> Precision:
    """Return `ttft.p50=5%` or `requests_per_s=2%` as what is to be known how well.

    Raises:
        ArgumentTypeError: it is written in another way, or nothing that can be watched.
    """
    found = _PRECISION.fullmatch(text)
    if found is None:
        raise ArgumentTypeError(f"METRIC.pNN=5% or RATE=5%, not {text!r}")
    percentile = None if found["percentile"] is None else float(found["percentile"])
    try:
        return Precision(found["metric"], percentile, relative=float(found["percent"]) / 100)
    except ValueError as error:
        raise ArgumentTypeError(str(error.args[0])) from None


def price(text: str) -> tuple[str, Price]:
    """Return `TARGET=1.515` as a pattern and a price of today. A target may hold a `=` itself.

    Raises:
        ArgumentTypeError: it is written in another way.
    """
    target, _, usd_per_h = text.rpartition("=")
    today = datetime.now(UTC).date().isoformat()
    try:
        found = Price(usd_per_h=float(usd_per_h), as_of=today, source="given with --price")
    except ValueError:
        found = None
    if found is None or not math.isfinite(found.usd_per_h) or not target:
        raise ArgumentTypeError(f"TARGET=USD/H, such as http://a:8080=1.515, not {text!r}")
    return target, found


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
