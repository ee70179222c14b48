"""Open loops: requests start when they are due, not when the server is ready for them."""

from collections.abc import Iterator
from itertools import count
from math import inf
from typing import Literal

import numpy as np
from attrs import field, frozen
from attrs.validators import and_, gt, lt

from llmperf_core.load.gaps import running_sum
from llmperf_core.units import NS_PER_S, s_from_ns


@frozen
class ConstantRate:
    """Start requests at exactly equal gaps.

    Raises:
        ValueError: the rate is not positive and finite.
    """

    rate_rps: float = field(validator=and_(gt(0.0), lt(inf)))
    kind: Literal["constant"] = field(default="constant", init=False, repr=False)

    @property
    def value(self) -> float:
        """The rate in requests per second."""
        return self.rate_rps

    def instants(self, rng: np.random.Generator) -> Iterator[int]:  # noqa: ARG002 -- no chance
        """Yield k / rate for k = 0, 1, …; each computed anew, so rounding never adds up."""
        for k in count():
            yield round(k * NS_PER_S / self.rate_rps)

    def planned(self, from_ns: int, to_ns: int) -> int:
        """Return how many requests are due in this stretch, or one fewer."""
        return int(self.rate_rps * s_from_ns(to_ns - from_ns))


@frozen
class Poisson:
    """Start requests with independent exponential gaps, as many independent users do.

    Raises:
        ValueError: the rate is not positive and finite.
    """

    rate_rps: float = field(validator=and_(gt(0.0), lt(inf)))
    kind: Literal["poisson"] = field(default="poisson", init=False, repr=False)

    @property
    def value(self) -> float:
        """The mean rate in requests per second."""
        return self.rate_rps

    def instants(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield the running sum of exponential gaps of mean 1 / rate."""
        sums_s = running_sum(lambda size: rng.exponential(1 / self.rate_rps, size=size))
        return (round(at_s * NS_PER_S) for at_s in sums_s)


@frozen
class Gamma:
    """Start requests with independent gamma-distributed gaps: in bursts, or evenly.

    The gaps have mean 1 / rate and a coefficient of variation of 1 / √shape. A shape below 1
    makes bursts, 1 is Poisson, and the larger it is the more even the gaps. Other tools call the
    shape burstiness.

    Raises:
        ValueError: the rate or the shape is not positive and finite.
    """

    rate_rps: float = field(validator=and_(gt(0.0), lt(inf)))
    shape: float = field(validator=and_(gt(0.0), lt(inf)))
    kind: Literal["gamma"] = field(default="gamma", init=False, repr=False)

    @property
    def value(self) -> float:
        """The mean rate in requests per second."""
        return self.rate_rps

    @property
    def label(self) -> str:
        """Such as `gamma:0.25 8/s`."""
        return f"gamma:{self.shape:g} {self.rate_rps:g}/s"

    def instants(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield the running sum of gamma-distributed gaps of mean 1 / rate."""
        scale_s = 1 / (self.rate_rps * self.shape)
        sums_s = running_sum(lambda size: rng.gamma(self.shape, scale_s, size=size))
        return (round(at_s * NS_PER_S) for at_s in sums_s)
