"""What is chosen among: a target under a load, with what its runs say of it."""

from collections.abc import Mapping, Sequence

from attrs import Factory, field, frozen

from llmperf_core.bringup import Price
from llmperf_core.decide.cost import Rates
from llmperf_core.decide.limits import LIMITED, Exceeding, PercentileLimit
from llmperf_core.judge.estimate import (
    PERCENTILES,
    RATES,
    Estimate,
    Estimates,
    Figure,
    taken_together,
)
from llmperf_core.judge.slo import Slo
from llmperf_core.judge.verdict import Status
from llmperf_core.load import LoadProfile, load_label

_FROM_THE_HIGHEST = [f"{percentile:g}" for percentile in sorted(PERCENTILES, reverse=True)]


def _in_order(repeats: Sequence[Estimates]) -> tuple[Estimates, ...]:
    return tuple(repeats)


@frozen(kw_only=True, eq=False)
class Candidate:
    """A target under a load, and what was measured of it."""

    target: str
    load: LoadProfile
    repeats: tuple[Estimates, ...] = field(converter=_in_order)
    """The figures of each run of it whose numbers may be used; none if there is no such run."""
    price: Price | None = None
    status: Status = "valid"
    """The gravest of the verdicts of these runs; `invalid` if there is none."""
    reasons: tuple[str, ...] = ()
    """What speaks against them, in words."""
    left_out: tuple[str, ...] = ()
    """Why other runs of it do not count, one line each."""
    slo: Slo | None = None
    """What its goodput is of."""
    exceeding: Mapping[PercentileLimit, Exceeding] = Factory(dict)
    """For each limit that was looked at: the share of values beyond it, over all repeats."""
    memory_bytes: float | None = None
    """The most that its GPUs were seen to use together; None if nobody looked."""
    input_per_output: float | None = None
    """How many input tokens the workload has for each output token."""
    simulated: bool = False

    def __str__(self) -> str:
        return f"{self.target} at {self.load_label}"

    @property
    def load_label(self) -> str:
        """The load in words."""
        return load_label(self.load)

    def figure(self, name: str) -> Figure | None:
        """Return the figure of that name if every repeat has it: `ttft.p50`, `goodput`."""
        for figure in self.repeats[0] if self.repeats else ():
            if figure.name == name and all(figure in repeat for repeat in self.repeats):
                return figure
        return None

    def estimates(self, name: str) -> list[Estimate]:
        """Return what each repeat says of a figure; nothing if one does not know it."""
        figure = self.figure(name)
        return [] if figure is None else [repeat[figure] for repeat in self.repeats]

    def value(self, name: str) -> float | None:
        """Return a figure over the repeats: their geometric mean; None if one does not know it."""
        measured = self.estimates(name)
        return taken_together(measured).value if measured else None

    @property
    def rates(self) -> Rates:
        """What it does a second, without what differs from run to run beyond the repeats."""
        found = {
            name: taken_together(measured).quantity(figure.unit)
            for name, figure in RATES.items()
            if (measured := self.estimates(name))
        }
        return Rates(**found, input_per_output=self.input_per_output)

    @property
    def keeps_no_limit_below(self) -> Mapping[str, float]:
        """For the highest percentile known of each metric: the limit in ms that it cannot keep."""
        found: dict[str, float] = {}
        for metric in LIMITED:
            for percentile in _FROM_THE_HIGHEST:
                value = self.value(f"{metric}.p{percentile}")
                if value is not None:
                    found[f"{metric}.p{percentile}"] = value
                    break
        return found
