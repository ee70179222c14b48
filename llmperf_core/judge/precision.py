"""How sure is sure enough: a stage may end before its time where the answer is already clear."""

from array import array

import numpy as np
import numpy.typing as npt
from attrs import field, frozen
from attrs.validators import and_, gt, lt

from llmperf_core.judge.batches import Batches
from llmperf_core.judge.intervals import BATCHES
from llmperf_core.judge.metrics import METRICS, Metric, began_at_ns
from llmperf_core.judge.quantity import Quantity
from llmperf_core.judge.rates import Arrivals, binned, rate
from llmperf_core.judge.steadiness import LEAST_REQUESTS, warmup_requests
from llmperf_core.timeline import Timeline, Window

RATES = ("requests_per_s", "output_tokens_per_s")
LOOKS: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2)
"""Where a stage may stop, in shares of its longest duration.

Who looks all the time stops where the interval is narrow by chance, and then it holds the truth
less often than it says. Few looks, each at twice the data of the one before, leave that below what
the study can see: `docs/statistics.md` has the coverage.
"""
_BY_NAME = {metric.name: metric for metric in METRICS if metric.over == "requests"}


@frozen
class Precision:
    """The width of an interval at which a stage may stop.

    Raises:
        ValueError: the metric is none that can be watched, or a field is out of its range.
    """

    metric: str = field(default="e2e")
    """A metric with one value for each request, `requests_per_s` or `output_tokens_per_s`."""
    percentile: float | None = 50.0
    """Which of the metric's; None for a rate."""
    relative: float = field(default=0.05, kw_only=True, validator=and_(gt(0.0), lt(1.0)))
    """Half of the 95 % interval's width ÷ the value."""

    @metric.validator
    def _check_metric(self, _: object, value: str) -> None:
        if value not in (*RATES, *_BY_NAME):
            known = ", ".join((*_BY_NAME, *RATES))
            raise ValueError(f"'metric' must be one of {known}: {value!r}")

    def __attrs_post_init__(self) -> None:
        if (self.percentile is None) != (self.metric in RATES):
            raise ValueError(f"'percentile' is for metrics and not for rates: {self.label}")

        if self.percentile is not None and not 0 < self.percentile < 100:
            raise ValueError(f"'percentile' must be between 0 and 100: {self.percentile}")

    @property
    def label(self) -> str:
        """What is to be known how well, in words: `ttft p50 ± 5 %`."""
        which = "" if self.percentile is None else f" p{self.percentile:g}"
        return f"{self.metric}{which} ± {100 * self.relative:g} %"

    def is_met_by(self, quantity: Quantity | None) -> bool:
        """Return whether a quantity's interval is narrow enough."""
        if quantity is None or quantity.ci95 is None or not quantity.value:
            return False
        low, high = quantity.ci95
        return (high - low) / 2 <= self.relative * abs(quantity.value)


class Watch:
    """What a stage that may stop early remembers of its requests: three numbers of each."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self._metric: Metric | None = _BY_NAME.get(precision.metric)
        self._began, self._ended = array("q"), array("q")
        self._values = array("q")

    def note(self, timeline: Timeline) -> None:
        """Take in a request that has ended; only completed ones count."""
        if not timeline.completed:
            return
        self._began.append(began_at_ns(timeline))
        self._ended.append(timeline.ended_at_ns)
        self._values.append(self._value_of(timeline))

    def _value_of(self, timeline: Timeline) -> int:
        if self._metric is None:
            return timeline.tokens.output if self.precision.metric == "output_tokens_per_s" else 1
        values = self._metric.values(timeline)
        return int(values[0]) if values.size else -1

    def is_enough(self, window: Window) -> bool:
        """Return whether what has ended of a window is known as well as was asked for.

        Those in flight are missing, the long ones more than the short; so this decides when to
        stop, and what is reported comes of all that started, when they have ended.
        """
        began, ended, values = (
            np.array(column, dtype=np.int64) for column in (self._began, self._ended, self._values)
        )
        order = np.argsort(began, kind="stable")
        inside = order[(began[order] >= window.open_at_ns) & (began[order] < window.close_at_ns)]
        if inside.size < LEAST_REQUESTS:
            return False
        cut = warmup_requests((ended - began)[inside].astype(np.float64))
        kept = Window(open_at_ns=int(began[inside[cut]]), close_at_ns=window.close_at_ns)
        if self._metric is None:
            arrivals = Arrivals(at_ns=ended, weights=values.astype(np.float64))
            return self.precision.is_met_by(rate(binned(arrivals, kept), kept, unit=""))
        return self.precision.is_met_by(self._of_metric(values[inside[cut:]]))

    def _of_metric(self, values: npt.NDArray[np.int64]) -> Quantity | None:
        values = values[values >= 0]
        batches = Batches(keep_all=True)
        for number, part in enumerate(np.array_split(values, BATCHES)):
            batches.add([part], np.array([number]))
        middle = batches.percentile(self.precision.percentile or 0)
        if middle is None:
            return None
        return Quantity(middle, "", batches.interval(self.precision.percentile or 0))
