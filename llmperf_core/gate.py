"""A gate for test suites: has a server become slower than its baseline, by a change that is proved?

A single measurement may be unlucky in a way that no interval of its own can know: the machine was
busy, the server was started on a bad day. So what looks worse is measured again, and all that was
measured is taken together; then what differs from repeat to repeat is in the interval, too.
"""

import math
from collections.abc import Callable, Sequence

from attrs import field, frozen
from attrs.validators import deep_iterable, ge, gt, in_

from llmperf_core.comparison import Comparison, compare
from llmperf_core.judge import Change
from llmperf_core.judge.estimate import COMPARED, PERCENTILES, RATES
from llmperf_core.results import StageResult
from llmperf_core.units import percent

FIGURES = ("ttft.p50", "itl.p50", "tpot.p50", "e2e.p50", "output_tokens_per_s")
"""What is gated unless the caller says otherwise: what a change of the server moves as a whole, and
one slow answer does not."""
_STATISTICS = ("mean", *(f"p{percentile:g}" for percentile in PERCENTILES))
_KNOWN = {
    *RATES,
    *(f"{metric.name}.{statistic}" for metric in COMPARED for statistic in _STATISTICS),
}


@frozen(kw_only=True)
class Gate:
    """What may not become worse, and by how much.

    Raises:
        ValueError: there is no such figure, or a number is out of its range.
    """

    margin: float = field(default=0.05, validator=gt(0))
    """A change up to this is let through, however certain it is: 0.05 is 5 %."""
    figures: tuple[str, ...] = field(default=FIGURES, validator=deep_iterable(in_(_KNOWN)))
    repeats: int = field(default=3, validator=ge(1))
    """How many measurements a baseline is made of, and how many at most have to agree that
    something is worse."""

    def judge(self, baseline: Sequence[StageResult], measure: Callable[[], StageResult]) -> "Gated":
        """Measure, and again while something looks worse; stop at the first that lets it through.

        Args:
            baseline: repeats of what is to be compared with.
            measure: measures the candidate once.

        Raises:
            UnlikeRunsError: the two differ in what must be alike.
        """
        candidate: list[StageResult] = []
        while True:
            candidate.append(measure())
            # Another model at the same address may be the very change that is to be gated.
            comparison = compare(
                baseline, candidate, margin=self.margin, allow_differences=["model"]
            )
            gated = Gated(
                gate=self, comparison=comparison, candidate=tuple(candidate), baseline=len(baseline)
            )
            if not gated.worse or len(candidate) >= self.repeats:
                return gated

    def proves_worse(self, change: Change) -> bool:
        """Return whether a figure is worse by more than the margin, and by no chance."""
        if change.outcome != "worse" or change.ci95 is None:
            return False
        low, high = change.ci95
        if change.figure.direction == "higher":
            return high < 1 / (1 + self.margin) - 1
        return low > self.margin


@frozen(kw_only=True)
class Gated:
    """What a gate found."""

    gate: Gate
    comparison: Comparison
    candidate: tuple[StageResult, ...]
    """Every measurement that it took."""
    baseline: int
    """Of how many measurements the baseline is made."""

    @property
    def changes(self) -> list[Change]:
        """The gated figures, each with what became of it."""
        return [
            change
            for pair in self.comparison.stages
            for change in pair.changes
            if change.figure.name in self.gate.figures
        ]

    @property
    def worse(self) -> list[Change]:
        """Those that are proved to be worse by more than the margin."""
        return [change for change in self.changes if self.gate.proves_worse(change)]

    @property
    def smallest_seen(self) -> float | None:
        """The smallest change for the worse that would have been proved, as 0.08 for 8 %.

        It is the best of the gated figures: a change of the server moves them together.
        None if no figure has an interval.
        """
        reaches = [
            math.sqrt((1 + change.ci95[1]) / (1 + change.ci95[0]))
            for change in self.changes
            if change.ci95 is not None and change.ci95[0] > -1
        ]
        return (1 + self.gate.margin) * min(reaches) - 1 if reaches else None

    def __str__(self) -> str:
        measured = f"{len(self.candidate)} against {self.baseline} measurements"
        smallest = self.smallest_seen
        seen = (
            "the data are too few to see any change"
            if smallest is None
            else f"a change of {percent(smallest)} would have been seen"
        )
        margin = percent(self.gate.margin)
        if not self.worse:
            return f"nothing is proved to be worse by more than {margin} ({measured}; {seen})"
        head = f"worse than the baseline by more than {margin} ({measured}; {seen}):"
        return "\n".join([head, *(f"  {_said(change)}" for change in self.worse)])


def _said(change: Change) -> str:
    figure, (low, high) = change.figure, change.ci95 or (math.nan, math.nan)
    return (
        f"{figure.name}: {change.baseline:.4g} → {change.candidate:.4g} {figure.unit}, "
        f"{change.effect or 0:+.1%} (95 %: {low:+.1%} to {high:+.1%})"
    )
