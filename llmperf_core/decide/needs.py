"""What is needed of a deployment: the rules to choose by, and the constraints."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from attrs import field, frozen
from attrs.validators import deep_iterable, ge, gt, in_, optional

from llmperf_core.decide.candidate import Candidate
from llmperf_core.decide.limits import Exceeding, PercentileLimit
from llmperf_core.decide.noise import BETWEEN_RUNS
from llmperf_core.judge.comparison import ALPHA
from llmperf_core.judge.slo import Slo
from llmperf_core.units import BYTES_PER_GB, format_number, percent

RuleName: TypeAlias = Literal["cost", "throughput", "latency"]
RULE_NAMES: tuple[RuleName, ...] = ("cost", "throughput", "latency")
AtLoad: TypeAlias = float | str
"""Loads by their value, such as 5, or by their label, such as `poisson 8/s`."""
_STATISTIC = re.compile(r"\w+\.(mean|p50|p90|p99)")


def _names(names: Sequence[RuleName]) -> tuple[RuleName, ...]:
    return tuple(names)


def _limits(limits: Sequence[PercentileLimit]) -> tuple[PercentileLimit, ...]:
    return tuple(limits)


def _by_rule(at: AtLoad | Mapping[RuleName, AtLoad] | None) -> Mapping[RuleName, AtLoad]:
    if at is None:
        return {}
    if not isinstance(at, Mapping):
        return dict.fromkeys(RULE_NAMES, at)
    if unknown := set(at) - set(RULE_NAMES):
        raise ValueError(f"no rule {min(unknown)!r}; there are {', '.join(RULE_NAMES)}")
    return dict(at)


@frozen(kw_only=True)
class Needs:
    """By which rules to choose, and what a candidate must keep to count.

    Raises:
        ValueError: a field is out of its range.
    """

    rules: tuple[RuleName, ...] = field(
        default=RULE_NAMES, converter=_names, validator=deep_iterable(in_(RULE_NAMES))
    )
    latency: str | None = None
    """The figure of the latency rule, such as `ttft.p90`: mean, p50, p90 or p99 of a metric. None
    takes the median of time_per_token as the published study did, or of tpot or e2e where that is
    not known of all."""
    slo: Slo | None = None
    """Cost and throughput then count the requests that met it, and no others."""
    limits: tuple[PercentileLimit, ...] = field(default=(), converter=_limits)
    """What must be proved to hold."""
    budget_usd_per_h: float | None = field(default=None, validator=optional(gt(0)))
    """What an hour may cost at most."""
    memory_gb: float | None = field(default=None, validator=optional(gt(0)))
    """What its GPUs may use at most, together, as it was seen."""
    loads: tuple[float, float] | None = None
    """The least and the largest load, both inclusive."""
    at_load: Mapping[RuleName, AtLoad] = field(default=None, converter=_by_rule)
    """The load of all rules, or of some; each target's best one for those that are not named."""
    utilisation: float = field(default=1.0, validator=gt(0))
    """The share of the paid hours in which it is loaded. Above 0 to 1."""
    between_runs: float = field(default=BETWEEN_RUNS, validator=ge(0))
    """How much a figure varies from run to run, as a share, where no repeats show it."""

    def __attrs_post_init__(self) -> None:
        if self.latency is not None and not _STATISTIC.fullmatch(self.latency):
            raise ValueError(
                f"latency {self.latency!r}: write METRIC.mean, .p50, .p90 or .p99, as in ttft.p90"
            )
        if self.utilisation > 1:
            raise ValueError(f"a utilisation is above 0 and at most 1: {self.utilisation:g}")

    def refused(self, candidate: Candidate, *, among: int) -> str | None:
        """Return why a candidate does not count; None if it does.

        Args:
            candidate: what is looked at.
            among: how many there are. Each may slip through by chance, so that all limits are kept
                by all that count is wrong in 5 % of choices at most.
        """
        if candidate.status == "invalid":
            return "; ".join(candidate.reasons) or "its numbers are invalid"
        if self.slo is not None and candidate.slo != self.slo:
            return "its requests were not held against this SLO: only figures are known of it"
        return self._too_large(candidate) or self._limit_broken(candidate, ALPHA / max(among, 1))

    def _too_large(self, candidate: Candidate) -> str | None:
        if self.loads is not None and not self.loads[0] <= candidate.load.value <= self.loads[1]:
            return f"its load is not within {self.loads[0]:g} to {self.loads[1]:g}"
        if self.budget_usd_per_h is not None:
            if candidate.price is None:
                return "its price is not known, and there is a budget"
            if candidate.price.usd_per_h > self.budget_usd_per_h:
                usd = format_number(candidate.price.usd_per_h)
                return f"{usd} USD/h are over the budget of {self.budget_usd_per_h:g} USD/h"
        if self.memory_gb is not None:
            if candidate.memory_bytes is None:
                return "nobody saw how much memory it uses"
            used_gb = candidate.memory_bytes / BYTES_PER_GB
            if used_gb > self.memory_gb:
                return f"{format_number(used_gb)} GB are over {self.memory_gb:g} GB"
        return None

    def _limit_broken(self, candidate: Candidate, chance: float) -> str | None:
        for limit in self.limits:
            seen = candidate.exceeding.get(limit)
            if seen is None or not seen.worth:
                return f"{limit} cannot be checked: too little is known of its requests"
            if not seen.is_below(limit.allowed_share, chance=chance):
                return _not_kept(limit, seen, chance)
        return None

    def is_at_load(self, rule: RuleName, candidate: Candidate) -> bool:
        """Return whether a candidate's load is that of the rule; so is any where none is named."""
        at = self.at_load.get(rule)
        return at is None or at in (candidate.load.value, candidate.load_label)


def _not_kept(limit: PercentileLimit, seen: Exceeding, chance: float) -> str:
    beyond = f"{seen} of its values are beyond {limit.metric} {format_number(limit.limit_ms)} ms"
    allowed = f"{percent(limit.allowed_share)} may be"
    if seen.is_above(limit.allowed_share, chance=chance):
        return f"it breaks {limit}: {beyond}, {allowed}"
    return f"{limit} is not proved to hold: {beyond}, {allowed}; measure for longer"
