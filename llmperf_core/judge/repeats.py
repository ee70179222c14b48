"""One figure over several stages of the same target under the same load.

A stage's own interval says how far chance in that stage may have moved a figure. A restart, another
hour or another machine moves it, too, and only repeats show how far.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from attrs import frozen

from llmperf_core.judge.intervals import NORMAL_975
from llmperf_core.judge.quantity import Interval, Quantity
from llmperf_core.judge.student import two_sided_point

_CHANCE = 0.05


@frozen(kw_only=True)
class Repeats:
    """What repeats of a stage say of one figure."""

    mean: Quantity
    """The mean of the repeats. Its interval is made of how much they differ; it holds for the next
    repeat's mean as well, and is wide for few: 12.7 standard errors of two, 4.3 of three."""
    pooled: Interval | None
    """What the interval would be if the stages differed by chance alone: made of their own
    intervals. None unless each has one."""
    stages: int

    @property
    def dispersion(self) -> float | None:
        """How many times more the stages differ than their own intervals promise.

        About 1 where only chance is at work. From 2 on something else differs from stage to stage,
        and a single stage says less of the next than its interval claims. None if it is not known.
        """
        if self.pooled is None or self.mean.ci95 is None or self.pooled[0] == self.pooled[1]:
            return None
        between = (self.mean.ci95[1] - self.mean.ci95[0]) / 2
        between /= two_sided_point(_CHANCE, self.stages - 1)
        return between / ((self.pooled[1] - self.pooled[0]) / 2 / NORMAL_975)


def over_repeats(quantities: Sequence[Quantity]) -> Repeats:
    """Return what repeats say of a figure, such as `[run["ttft"].p50 for run in repeats]`.

    Args:
        quantities: one of each stage, all in one unit; two at least.

    Raises:
        ValueError: there are fewer than two, or they are of several units.

    Source: the t interval of a mean, over the means of replications: Law, Kelton, "Simulation
    Modeling and Analysis", section 9.4.1.
    """
    if len(quantities) < 2:
        raise ValueError(f"repeats are two at least: {len(quantities)}")
    units = {quantity.unit for quantity in quantities}
    if len(units) > 1:
        raise ValueError(f"repeats of one figure have one unit: {', '.join(sorted(units))}")
    values = [quantity.value for quantity in quantities]
    mean, count = fmean(values), len(values)
    reach = two_sided_point(_CHANCE, count - 1) * stdev(values) / math.sqrt(count)
    return Repeats(
        mean=Quantity(mean, units.pop(), (mean - reach, mean + reach)),
        pooled=_pooled(mean, [quantity.ci95 for quantity in quantities]),
        stages=count,
    )


def _pooled(mean: float, intervals: Sequence[Interval | None]) -> Interval | None:
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        return None
    squares = sum(((high - low) / 2) ** 2 for low, high in known)
    reach = math.sqrt(squares) / len(known)
    return mean - reach, mean + reach
