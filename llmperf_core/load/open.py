"""Open loops: requests start when they are due, not when the server is ready for them."""

from collections.abc import Iterator
from itertools import count
from math import inf
from typing import Literal

import numpy as np
from attrs import field, frozen
from attrs.validators import and_, gt, lt

from llmperf_core.units import NS_PER_S

_DRAWN_AT_ONCE = 1024


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
        at_s = 0.0
        while True:
            for gap_s in rng.exponential(1 / self.rate_rps, size=_DRAWN_AT_ONCE):
                at_s += gap_s
                yield round(at_s * NS_PER_S)
