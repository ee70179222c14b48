"""Open loops whose rate changes while they run."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, count
from math import inf, sqrt
from typing import Literal, TypeAlias

import numpy as np
from attrs import field, frozen
from attrs.validators import and_, ge, gt, in_, lt

from llmperf_core.load.gaps import running_sum
from llmperf_core.units import NS_PER_S, s_from_ns

Spread: TypeAlias = Literal["poisson", "constant"]
"""How arrivals lie around a rate: by chance, or as evenly as it allows."""

_RATE = and_(ge(0.0), lt(inf))


@frozen
class _Piece:
    """A stretch in which the rate goes along a straight line."""

    from_rps: float
    to_rps: float
    duration_s: float
    """The last piece of a course has no end, and a rate that stays."""

    @property
    def _slope(self) -> float:
        return (self.to_rps - self.from_rps) / self.duration_s

    def expected(self, since_s: float) -> float:
        """Return the arrivals expected by then: the integral of the rate."""
        return self.from_rps * since_s + self._slope * since_s * since_s / 2

    def since_s(self, arrivals: float) -> float:
        """Return when so many arrivals are expected; the exact inverse of `expected`.

        In this form of the root nothing cancels while the rate rises; where it falls to 0 a
        rounding error may make the square negative.
        """
        square = self.from_rps * self.from_rps + 2 * self._slope * arrivals
        return 2 * arrivals / (self.from_rps + sqrt(max(square, 0.0))) if arrivals else 0.0


class _Course:
    """How the rate goes: pieces one after the other, the last of them without end."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self._pieces = pieces
        ended = pieces[:-1]
        self._begins_s = [0.0, *accumulate(piece.duration_s for piece in ended)]
        self._before = [0.0, *accumulate(piece.expected(piece.duration_s) for piece in ended)]

    def expected(self, at_s: float) -> float:
        """Return the arrivals expected by then."""
        k = bisect_right(self._begins_s, at_s) - 1
        return self._before[k] + self._pieces[k].expected(at_s - self._begins_s[k])

    def instants(self, spread: Spread, rng: np.random.Generator) -> Iterator[int]:
        """Yield when 0, 1, 2, … arrivals are expected, or the sums of a Poisson process of rate 1.

        Such a process is one of the changing rate when its time goes through the inverse of the
        expected count. Source: Çinlar, Introduction to Stochastic Processes, 4.7.
        """
        arrivals: Iterable[float] = count()
        if spread == "poisson":
            arrivals = running_sum(lambda size: rng.exponential(size=size))
        latest_ns = 0
        for arrived in arrivals:
            k = bisect_right(self._before, arrived) - 1
            if k == len(self._pieces) - 1 and self._pieces[k].from_rps == 0:
                return  # the rate stays at 0: nothing is ever due again
            at_s = self._begins_s[k] + self._pieces[k].since_s(arrived - self._before[k])
            latest_ns = max(latest_ns, round(at_s * NS_PER_S))
            yield latest_ns


def _planned(course: _Course, spread: Spread, from_ns: int, to_ns: int) -> int | None:
    if spread == "poisson":
        return None
    return int(course.expected(s_from_ns(to_ns)) - course.expected(s_from_ns(from_ns)))


@frozen
class Ramp:
    """Change the rate evenly from one to another, and stay there.

    A ramp down to 0 ends with its last request. The warm-up is part of the ramp.

    Raises:
        ValueError: a rate is negative or not finite, both are 0, or the duration is not positive.
    """

    from_rps: float = field(validator=_RATE)
    to_rps: float = field(validator=_RATE)
    duration_s: float = field(validator=and_(gt(0.0), lt(inf)), kw_only=True)
    spread: Spread = field(default="poisson", validator=in_(("poisson", "constant")), kw_only=True)
    kind: Literal["ramp"] = field(default="ramp", init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.from_rps == self.to_rps == 0:
            raise ValueError("'from_rps' and 'to_rps' are both 0: nothing would ever be due")

    @property
    def value(self) -> float:
        """The mean rate of the ramp, in requests per second."""
        return (self.from_rps + self.to_rps) / 2

    @property
    def label(self) -> str:
        """Such as `ramp 1→20/s in 60 s`."""
        return f"ramp {self.from_rps:g}→{self.to_rps:g}/s in {self.duration_s:g} s"

    @property
    def _course(self) -> _Course:
        ramp = _Piece(self.from_rps, self.to_rps, self.duration_s)
        return _Course([ramp, _Piece(self.to_rps, self.to_rps, inf)])

    def instants(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield the arrivals of the changing rate."""
        return self._course.instants(self.spread, rng)

    def planned(self, from_ns: int, to_ns: int) -> int | None:
        """Return how many requests are due in this stretch, or one fewer; None if by chance."""
        return _planned(self._course, self.spread, from_ns, to_ns)


def _pairs(steps: Iterable[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((rate_rps, duration_s) for rate_rps, duration_s in steps)


@frozen
class Steps:
    """Go through several rates, each for some seconds; the last one stays.

    A rate of 0 is a pause; as the last one it ends the plan.

    Raises:
        ValueError: there is no step or no rate above 0, a rate is negative or not finite, or a
            duration is not positive.
    """

    steps: tuple[tuple[float, float], ...] = field(converter=_pairs)
    """Pairs of requests per second and seconds."""
    spread: Spread = field(default="poisson", validator=in_(("poisson", "constant")), kw_only=True)
    kind: Literal["steps"] = field(default="steps", init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not any(rate_rps > 0 for rate_rps, _ in self.steps):
            raise ValueError(f"'steps' need a rate above 0: {self.steps}")
        if not all(0 <= rate_rps < inf and 0 < s < inf for rate_rps, s in self.steps):
            raise ValueError(f"'steps' are rates ≥ 0 with seconds > 0, not {self.steps}")

    @property
    def value(self) -> float:
        """The mean rate of the steps, in requests per second."""
        arrivals = sum(rate_rps * duration_s for rate_rps, duration_s in self.steps)
        return arrivals / sum(duration_s for _, duration_s in self.steps)

    @property
    def label(self) -> str:
        """Such as `steps 2, 4, 8/s`."""
        return f"steps {', '.join(f'{rate_rps:g}' for rate_rps, _ in self.steps)}/s"

    @property
    def _course(self) -> _Course:
        pieces = [_Piece(rate_rps, rate_rps, s) for rate_rps, s in self.steps]
        return _Course([*pieces, _Piece(pieces[-1].to_rps, pieces[-1].to_rps, inf)])

    def instants(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield the arrivals of the changing rate."""
        return self._course.instants(self.spread, rng)

    def planned(self, from_ns: int, to_ns: int) -> int | None:
        """Return how many requests are due in this stretch, or one fewer; None if by chance."""
        return _planned(self._course, self.spread, from_ns, to_ns)
