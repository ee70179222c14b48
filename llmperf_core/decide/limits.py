"""Limits on percentiles, and whether what was measured proves that they hold."""

import math
import re
from collections.abc import Sequence
from statistics import NormalDist
from typing import Self

import numpy as np
from attrs import field, frozen
from attrs.validators import gt, in_, lt

from llmperf_core.errors import UsageError
from llmperf_core.judge.batches import Batches
from llmperf_core.judge.intervals import BATCHES, NORMAL_975, binomial_cdf, percentile_of
from llmperf_core.judge.metrics import E2E, ITL, TPOT, TTFT, Metric, Values
from llmperf_core.judge.student import two_sided_point
from llmperf_core.timeline import Timeline
from llmperf_core.units import format_number, ns_from_ms

_METRICS: dict[str, Metric] = {metric.name: metric for metric in (TTFT, ITL, TPOT, E2E)}
LIMITED = tuple(_METRICS)
"""The metrics that there can be limits on."""
_WRITTEN = re.compile(r"(?P<metric>\w+)\.p(?P<percentile>\d+(\.\d+)?)=(?P<limit_ms>\d+(\.\d+)?)")
_BEYOND = np.array((np.iinfo(np.int64).max,), dtype=np.int64)


@frozen
class PercentileLimit:
    """A percentile of a metric that may not exceed a value, such as TTFT p99 ≤ 500 ms.

    Raises:
        ValueError: there is no such metric, or a number is out of its range.
    """

    metric: str = field(validator=in_(tuple(_METRICS)))
    percentile: float = field(validator=[gt(0), lt(100)])
    limit_ms: float = field(validator=gt(0))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the limit that is written `ttft.p99=500`, in milliseconds.

        Raises:
            UsageError: it is written otherwise, or its metric or a number is none.
        """
        written = _WRITTEN.fullmatch(text.strip())
        if written is None or written["metric"] not in _METRICS:
            known = ", ".join(_METRICS)
            raise UsageError(f"limit {text!r}: write METRIC.pPERCENTILE=MS with one of {known}")
        try:
            return cls(written["metric"], float(written["percentile"]), float(written["limit_ms"]))
        except ValueError as error:
            raise UsageError(f"limit {text!r}: {error.args[0]}") from error

    def __str__(self) -> str:
        return f"{self.metric}.p{self.percentile:g}={self.limit_ms:g}"

    @property
    def allowed_share(self) -> float:
        """The share of values that may exceed the limit. 0 to 1."""
        return 1 - self.percentile / 100

    def exceeding(self, timelines: Sequence[Timeline]) -> "Exceeding":
        """Return how many values exceed the limit. A request that did not complete does.

        Args:
            timelines: in the order of starting.
        """
        metric = _METRICS[self.metric]
        parts = [metric.values(t) if t.completed else _BEYOND for t in timelines]
        return Exceeding.of(parts, limit=ns_from_ms(self.limit_ms), percentile=self.percentile)


@frozen(kw_only=True)
class Exceeding:
    """The share of values beyond a limit, and how many independent ones it rests on."""

    share: float
    """0 to 1."""
    worth: int
    """As many independent values would say as much."""

    @classmethod
    def of(cls, parts: Sequence[Values], *, limit: int, percentile: float) -> Self:
        """Return it of the values of each request, in the order of starting.

        How much neighbours depend on each other shows where values differ: at the limit, or at the
        percentile itself where all lie on one side of the limit. A request counts for one at most,
        however many values it has.
        """
        filled = [part for part in parts if part.size]
        if not filled:
            return cls(share=0.0, worth=0)
        batches = Batches(keep_all=True)
        batches.add(filled, np.arange(len(filled)) * BATCHES // len(filled))
        values = batches.ordered()
        share = float((values > limit).mean())
        shows_at = limit if 0 < share < 1 else percentile_of(values, percentile)
        return cls(share=share, worth=min(batches.worth(shows_at), len(filled)))

    def is_below(self, allowed: float, *, chance: float) -> bool:
        """Return whether the true share is below `allowed`, with this chance of being wrong."""
        worth = self._worth_at(chance)
        if not worth:
            return False
        # How likely so few or fewer are if the allowed share is the true one of a binomial.
        at_most = binomial_cdf(worth, allowed)
        return bool(at_most[math.ceil(self.share * worth)] <= chance)

    def is_above(self, allowed: float, *, chance: float) -> bool:
        """Return whether the true share is above `allowed`, with this chance of being wrong."""
        turned = Exceeding(share=1 - self.share, worth=self.worth)
        return turned.is_below(1 - allowed, chance=chance)

    def _worth_at(self, chance: float) -> int:
        """Return what the values are worth for a decision that may be wrong so rarely.

        The worth rests on the spread of a few batches, and is right for decisions at 2.5 %. The
        rarer an error may be, the more the tail of Student's t exceeds that of the normal
        distribution.
        """
        usual = NORMAL_975 / two_sided_point(0.05, BATCHES - 1)
        here = -NormalDist().inv_cdf(chance) / two_sided_point(2 * chance, BATCHES - 1)
        return int(self.worth * min(1.0, here / usual) ** 2)

    def __str__(self) -> str:
        return f"{format_number(100 * self.share)} %"
