"""How long prompts and answers are: distributions of token counts."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle, repeat
from math import log, sqrt
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from attrs import field, frozen
from attrs.validators import and_, deep_iterable, ge, gt, instance_of, min_len, optional

from llmperf_core.target import Json

_DRAWN_AT_ONCE = 256
_COUNT = and_(instance_of(int), gt(0))


@runtime_checkable
class Lengths(Protocol):
    """A distribution of token counts."""

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield token counts without end, each at least 1."""
        ...

    def describe(self) -> Mapping[str, Json]:
        """Return what a stored run must say of it."""
        ...


Length: TypeAlias = int | Lengths
"""One length for all, or a distribution of them."""


@frozen
class Uniform:
    """Every whole number from `low` to `high`, both included, is as likely.

    Raises:
        ValueError: `low` is not positive, or `high` is below it.
    """

    low: int = field(validator=_COUNT)
    high: int = field(validator=_COUNT)

    def __attrs_post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError(f"'high' must be ≥ 'low': {self.high} < {self.low}")

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield token counts without end."""
        while True:
            yield from map(int, rng.integers(self.low, self.high + 1, size=_DRAWN_AT_ONCE))

    def describe(self) -> Mapping[str, Json]:
        """Return the distribution and its parameters."""
        return {"distribution": "uniform", "low": self.low, "high": self.high}


@frozen
class Normal:
    """A normal distribution, rounded; what falls outside `low` to `high` is drawn again.

    Raises:
        ValueError: a parameter is out of its range, or hardly anything would fall inside.
    """

    mean: float = field(validator=gt(0))
    sd: float = field(validator=ge(0))
    low: int = field(default=1, validator=_COUNT, kw_only=True)
    high: int | None = field(default=None, validator=optional(_COUNT), kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not self.low <= self.mean <= (self.high or self.mean):
            raise ValueError(f"'mean' must be from 'low' to 'high': {self}")

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield token counts without end."""
        while True:
            drawn = np.rint(rng.normal(self.mean, self.sd, size=_DRAWN_AT_ONCE))
            yield from _inside(drawn, self.low, self.high)

    def describe(self) -> Mapping[str, Json]:
        """Return the distribution and its parameters."""
        limits: dict[str, Json] = {"low": self.low, "high": self.high}
        return {"distribution": "normal", "mean": self.mean, "sd": self.sd, **limits}


@frozen
class LogNormal:
    """A log-normal distribution, rounded: many short ones, and few that are very long.

    What falls outside `low` to `high` is drawn again.

    Raises:
        ValueError: a parameter is out of its range, or hardly anything would fall inside.
    """

    mean: float = field(validator=gt(0))
    """Of the lengths themselves, and not of their logarithms."""
    sd: float = field(validator=gt(0))
    """Of the lengths themselves."""
    low: int = field(default=1, validator=_COUNT, kw_only=True)
    high: int | None = field(default=None, validator=optional(_COUNT), kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not self.low <= self.mean <= (self.high or self.mean):
            raise ValueError(f"'mean' must be from 'low' to 'high': {self}")

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield token counts without end.

        Source: Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions, ch. 14:
        σ² = ln(1 + sd² / mean²), μ = ln(mean) − σ² / 2.
        """
        square = log(1 + (self.sd / self.mean) ** 2)
        while True:
            drawn = rng.lognormal(log(self.mean) - square / 2, sqrt(square), size=_DRAWN_AT_ONCE)
            yield from _inside(np.rint(drawn), self.low, self.high)

    def describe(self) -> Mapping[str, Json]:
        """Return the distribution and its parameters."""
        limits: dict[str, Json] = {"low": self.low, "high": self.high}
        return {"distribution": "lognormal", "mean": self.mean, "sd": self.sd, **limits}


def _counts(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


@frozen
class Empirical:
    """Lengths that were seen, each as likely, drawn with replacement.

    Raises:
        ValueError: there is none, or one is not positive.
    """

    values: tuple[int, ...] = field(
        converter=_counts,
        validator=[min_len(1), deep_iterable(_COUNT)],
        repr=lambda v: f"<{len(v)} values>",
    )

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield token counts without end."""
        while True:
            yield from map(int, rng.choice(self.values, size=_DRAWN_AT_ONCE))

    def describe(self) -> Mapping[str, Json]:
        """Return the distribution, and how many values of which mean it draws from."""
        return {"distribution": "empirical", **_digest(self.values)}


@frozen
class InOrder:
    """Lengths in the order in which they were recorded; after the last the first comes again.

    Raises:
        ValueError: there is none, or one is not positive.
    """

    values: tuple[int, ...] = field(
        converter=_counts,
        validator=[min_len(1), deep_iterable(_COUNT)],
        repr=lambda v: f"<{len(v)} values>",
    )

    def draws(self, rng: np.random.Generator) -> Iterator[int]:  # noqa: ARG002 -- no chance
        """Yield the recorded token counts, again and again."""
        return cycle(self.values)

    def describe(self) -> Mapping[str, Json]:
        """Return the distribution, and how many values of which mean it goes through."""
        return {"distribution": "in_order", **_digest(self.values)}


def _digest(values: tuple[int, ...]) -> dict[str, Json]:
    return {"count": len(values), "mean": sum(values) / len(values)}


def _inside(
    drawn: "np.ndarray[tuple[int], np.dtype[np.float64]]", low: int, high: int | None
) -> Iterator[int]:
    kept = drawn[(drawn >= low) & (drawn <= (high or np.inf))]
    return map(int, kept)


def draws(length: Length, rng: np.random.Generator) -> Iterator[int]:
    """Yield token counts of a length without end."""
    return repeat(length) if isinstance(length, int) else length.draws(rng)


def described(length: Length) -> Json:
    """Return what a stored run must say of a length."""
    return length if isinstance(length, int) else length.describe()


def checked(_: object, attribute: object, value: Length) -> None:
    """Validate a field that holds a length.

    Raises:
        TypeError: it is neither a whole number nor a distribution.
        ValueError: it is a number below 1.
    """
    name = getattr(attribute, "name", "length")
    if isinstance(value, bool) or not isinstance(value, int | Lengths):
        raise TypeError(f"{name!r} must be a whole number or a distribution, not {value!r}")
    if isinstance(value, int) and value < 1:
        raise ValueError(f"{name!r} must be > 0: {value}")
