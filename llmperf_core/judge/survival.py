"""Percentiles where some values are only known to be longer than what was seen of them.

A deadline cuts off the longest requests first. To leave them out would make the server look quick;
to count them as long as they were seen would, too. They are at risk until they are cut off.
"""

import math

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from llmperf_core.judge.batches import Batches
from llmperf_core.judge.intervals import LEAST_BATCHES, MOST_WORTH, NORMAL_975
from llmperf_core.judge.metrics import Values
from llmperf_core.judge.quantity import Interval
from llmperf_core.judge.student import two_sided_point


@frozen(eq=False)
class Survival:
    """The estimate of Kaplan and Meier of values of which some are censored.

    Source: Kaplan, Meier, "Nonparametric estimation from incomplete observations" (1958).
    """

    seen: Batches
    """The whole values, all kept; one at least."""
    cut_off: Batches
    """How long the censored ones had lasted, all kept."""
    _steps: "_Steps" = field(init=False, repr=False)

    @_steps.default
    def _make_steps(self) -> "_Steps":
        seen, cut_off = self.seen.ordered(), self.cut_off.ordered()
        at, events = np.unique(seen, return_counts=True)
        # One that was cut off at the very instant of an event was still at risk of it.
        gone = np.searchsorted(seen, at) + np.searchsorted(cut_off, at)
        at_risk = seen.size + cut_off.size - gone
        with np.errstate(divide="ignore"):  # the last step to 0 has no variance
            greenwood = np.cumsum(events / (at_risk * (at_risk - events)))
        return _Steps(at, events, at_risk, np.cumprod(1 - events / at_risk), greenwood)

    def percentile(self, percentile: float) -> float | None:
        """Return the smallest value that this share does not exceed.

        Args:
            percentile: 0 to 100.

        Returns:
            None where it lies beyond what was seen.
        """
        found = np.flatnonzero(self._steps.above <= 1 - percentile / 100 + 1e-12)
        return float(self._steps.at[found[0]]) if found.size else None

    def interval(self, percentile: float) -> Interval | None:
        """Return the 95 % interval of a percentile: all that a log-log test would not rule out.

        Args:
            percentile: between 0 and 100.

        Returns:
            None where one of its ends lies beyond what was seen.

        Source: Brookmeyer, Crowley, "A confidence interval for the median survival time" (1982),
        with Greenwood's variance and the log-log transformation (Kalbfleisch, Prentice, "The
        Statistical Analysis of Failure Time Data" (1980), section 1.3).
        """
        steps, target = self._steps, 1 - percentile / 100
        middle = self.percentile(percentile)
        inflation = None if middle is None else self._inflation(middle)
        if inflation is None:
            return None
        inside = (steps.above > 0) & (steps.above < 1)
        above, at = steps.above[inside], steps.at[inside]
        error = np.sqrt(steps.greenwood[inside] * inflation) / np.abs(np.log(above))
        score = (np.log(-np.log(above)) - math.log(-math.log(target))) / error
        # The score rises with the values, in a long tail not at each step.
        not_below, too_high = (
            np.flatnonzero(score >= -NORMAL_975),
            np.flatnonzero(score > NORMAL_975),
        )
        if not not_below.size or not too_high.size:
            return None
        return float(at[not_below[0]]), float(at[too_high[0]])

    def _inflation(self, until: float) -> float | None:
        """Return how many times the variance up to a value exceeds that of independent values.

        In each batch, the values seen up to there less those that the hazards of all make expect
        of it: if requests are independent, the squares add up to about the number that was seen.
        None if there are too few batches.

        Source: the martingale residuals of Andersen, Gill, "Cox's regression model for counting
        processes" (1982).
        """
        steps = self._steps
        hazard = np.concatenate(([0.0], np.cumsum(steps.events / steps.at_risk)))
        residuals = []
        for seen, cut_off in zip(self.seen.each(), self.cut_off.each(), strict=True):
            lasted = np.minimum(np.concatenate((seen, cut_off)), until)
            expected = hazard[np.searchsorted(steps.at, lasted, side="right")].sum()
            if lasted.size:
                residuals.append(np.count_nonzero(seen <= until) - float(expected))
        batches = len(residuals)
        if batches < LEAST_BATCHES:
            return None
        wider = (two_sided_point(0.05, batches - 1) / NORMAL_975) ** 2
        seen_until = steps.events[steps.at <= until].sum()
        spread = float(np.square(residuals).sum()) * batches / (batches - 1) / float(seen_until)
        return max(spread * wider, 1 / MOST_WORTH)

    @property
    def mean(self) -> float | None:
        """The mean; None where the longest was censored, for nobody knows how long it took."""
        if not self._steps.above.size or self._steps.above[-1] > 1e-12:
            return None
        mass = -np.diff(self._steps.above, prepend=1.0)
        return float(mass @ self._steps.at)


@frozen(eq=False)
class _Steps:
    """The estimate after each value that was seen whole."""

    at: Values
    events: Values
    """How many of them."""
    at_risk: Values
    """How many had lasted as long, those cut off later among them."""
    above: npt.NDArray[np.float64]
    """The share of values above it."""
    greenwood: npt.NDArray[np.float64]
    """Variance ÷ square of that share, for independent values.

    Source: Greenwood, "The natural duration of cancer" (1926).
    """
