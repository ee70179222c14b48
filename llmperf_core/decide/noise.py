"""How far a figure may be off from one run to the next, where many targets are ranked by it.

A stage's own spread holds chance within the stage. Another start, another machine of the same kind,
another hour move a figure, too, and only repeats show how far. A target has few of them, so those
of all targets are taken together: relative to the figure, they are assumed to vary alike. Where
every target was measured once, nothing shows it, and a variation is assumed.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from attrs import frozen

from llmperf_core.judge.estimate import Estimate
from llmperf_core.units import percent

BETWEEN_RUNS = 0.05
"""The standard deviation from run to run, as a share of the figure, where nobody measured it.

GPUs of one kind differ by 8 % on average and by 22 % at most between the ends of a cluster, so a
start on another one moves a figure by a few per cent. Source: Sinha et al., "Not All GPUs Are
Created Equal" (SC 2022).
"""
_MOST_FREEDOM = 1000


@frozen(kw_only=True)
class Variation:
    """What one run's figure differs from the next one's, of all targets of a choice."""

    share: float
    """Standard deviation, as a share of the figure."""
    freedom: int | None
    """Its degrees of freedom; None if it is assumed."""

    @property
    def measured(self) -> bool:
        """Whether repeats showed it."""
        return self.freedom is not None

    def __str__(self) -> str:
        if self.freedom is None:
            return (
                "one run of each: what differs from one start to the next was not measured, "
                f"{percent(self.share)} (standard deviation) is assumed"
            )
        return (
            f"from run to run {percent(self.share)} (standard deviation), as the repeats of all "
            f"targets show with {self.freedom} degrees of freedom"
        )


def variation_of(
    repeats: Mapping[str, Sequence[Sequence[Estimate]]], *, assumed: float = BETWEEN_RUNS
) -> Variation:
    """Return how much a figure varies from run to run.

    Args:
        repeats: for each target, the repeats under each of its loads. The stages of one bring-up
            vary together, so the loads of a target add nothing to what its repeats are worth.
        assumed: what to take where no target has repeats.

    Source: the pooled variance of an analysis of variance, of logarithms.
    """
    scatter, freedom = 0.0, 0
    for loads in repeats.values():
        several = [[math.log(one.value) for one in load] for load in loads if len(load) > 1]
        if several:
            worth = max(map(len, several)) - 1
            scatter += worth * fmean(map(variance, several))
            freedom += worth
    if not freedom:
        return Variation(share=assumed, freedom=None)
    return Variation(share=math.sqrt(scatter / freedom), freedom=freedom)


def over_runs(repeats: Sequence[Estimate], variation: Variation) -> Estimate:
    """Return what the repeats of a candidate make together, with what differs from run to run.

    A measured variation has chance within the runs in it, so the larger of the two counts; an
    assumed one has not, so both do. Without either there is no spread.

    Args:
        repeats: one at least, with positive values.
        variation: of all candidates that it is ranked with.
    """
    count = len(repeats)
    value = math.exp(fmean(math.log(one.value) for one in repeats))
    known = [one.spread for one in repeats if one.spread is not None]
    within = math.hypot(*known) / count if len(known) == count else None
    between = variation.share / math.sqrt(count)
    freedom = sum(one.freedom for one in repeats)
    if variation.freedom is None:
        return Estimate(value) if within is None else _both(value, within, between, freedom)
    if within is not None and within > between:
        return Estimate(value, within, freedom)
    # Two candidates share this variance. The freedom of their difference is made as if each had
    # its own, which counts it twice.
    return Estimate(value, between, max(1, variation.freedom // 2))


def _both(value: float, within: float, between: float, freedom: int) -> Estimate:
    """Return the estimate whose spread is made of both; what is assumed has endless freedom.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components" (1946).
    """
    spread = math.hypot(within, between)
    if within > 0:
        freedom = int(min(freedom * (spread / within) ** 4, _MOST_FREEDOM))
    return Estimate(value, spread, freedom)
