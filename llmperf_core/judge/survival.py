"""Percentiles where some values are only known to be longer than what was seen of them.

A deadline cuts off the longest requests first. To leave them out would make the server look quick;
to count them as long as they were seen would, too. They are at risk until they are cut off.
"""

import math

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from llmperf_core.judge.batches import Batches
from llmperf_core.judge.intervals import NORMAL_975
from llmperf_core.judge.metrics import Values
from llmperf_core.judge.quantity import Interval


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
        return _Steps(at, np.cumprod(1 - events / at_risk), greenwood)

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

        The variance is as many times that of independent values as the whole values have more of
        them than they are worth.

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
        worth = 0 if middle is None else self.seen.worth(middle)
        if not worth:
            return None
        inflation = self.seen.count / worth
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
    above: npt.NDArray[np.float64]
    """The share of values above it."""
    greenwood: npt.NDArray[np.float64]
    """Variance ÷ square of that share, for independent values.

    Source: Greenwood, "The natural duration of cancer" (1926).
    """
