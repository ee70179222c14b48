"""The highest load under which limits hold, found from stages that are noisy.

A search is a generator: it yields the stage that it wants measured, is sent what was measured, and
returns what it found. So it never waits, and need not know whether a server, a simulator or a test
answers.

At each load, a limit *holds* once the share of values beyond it is proved to be below the allowed
one, and is *broken* once it is proved to be above. A stage that proves neither is measured again
for twice as long, and all that was measured at that load counts together; after `LOOKS` looks it
stays undecided. What holds is looked at twice at least. So a lucky pass is no pass, and the answer
is the stretch between the highest load that held and the lowest that did not. It is assumed that
more load never helps to keep a limit.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
from attrs import asdict, field, frozen
from attrs.validators import ge, gt, in_, min_len

from llmperf_core.decide.limits import Exceeding, PercentileLimit
from llmperf_core.judge.metrics import samples
from llmperf_core.judge.summary import Summary
from llmperf_core.judge.verdict import Verdict
from llmperf_core.load import Concurrency, LoadProfile, Poisson
from llmperf_core.target import Json
from llmperf_core.timeline import Timeline
from llmperf_core.units import format_number

CHANCE = 0.005
"""Of a wrong decision at a load, to either side. A search decides at about ten loads, so the whole
answer is wrong in 5 % at most."""
LOOKS = 4
"""How often a load is looked at. Each look has its share of `CHANCE`.

Source: Bonferroni's inequality.
"""
LOOKS_TO_HOLD = 2
"""A load holds after so many looks at the earliest. Near its capacity, a server can be without a
queue for half a minute by luck, and nothing in that half minute tells that it was luck."""
_MOST_LOADS = 24


@frozen
class Step:
    """A stage that a plan wants measured."""

    load: LoadProfile
    duration_s: float | None = None
    """Length of the window; None leaves it to the settings."""
    seed: int | None = None
    """Of its prompts and arrivals; None takes one that no other stage of the run has."""
    cell: str | None = None
    """The address of the cell of a study that it is; None if it is none's."""


class Measured(Protocol):
    """What a plan needs to know of a measured stage."""

    @property
    def timelines(self) -> Sequence[Timeline]:
        """Every request."""
        ...

    @property
    def summary(self) -> Summary:
        """What they come to, and the window that counts."""
        ...

    @property
    def verdict(self) -> Verdict:
        """What the numbers are worth."""
        ...


@frozen(kw_only=True)
class Probe:
    """What was found at one load."""

    value: float
    """Requests per second, or requests in flight."""
    holds: bool | None
    """Whether all limits are proved to hold; False if one is proved broken, None if neither."""
    exceeding: tuple[Exceeding, ...]
    """For each limit, in its order."""
    requests: int
    duration_s: float
    """Of all looks together."""


@frozen(kw_only=True)
class Capacity:
    """The highest load under which limits hold, as far as it could be found."""

    kind: str
    """`poisson` in requests per second, or `concurrency` in requests in flight."""
    limits: tuple[PercentileLimit, ...]
    value: float | None
    """The estimate; None if no load was found on one of its sides."""
    holds_at: float | None
    """The highest load at which the limits are proved to hold; None if they hold at none."""
    broken_at: float | None
    """The lowest load at which one is proved broken; None if none is at the highest load tried."""
    probes: tuple[Probe, ...]
    """All loads that were tried, in the order of trying."""

    def __str__(self) -> str:
        unit = "in flight" if self.kind == "concurrency" else "req/s"
        limits = ", ".join(str(limit) for limit in self.limits)
        if self.holds_at is None:
            return f"{limits}: not proved to hold at any load, {self._least:g} {unit} included"
        if self.value is None:
            return f"{limits}: still holds at {_shown(self.holds_at)} {unit}, the most tried"
        low, high = _shown(self.holds_at), _shown(self.broken_at or math.inf)
        return f"{limits}: up to {_shown(self.value)} {unit} ({low} holds, {high} does not)"

    def to_dict(self) -> Mapping[str, Json]:
        """Return it as JSON says it."""
        limits = [str(limit) for limit in self.limits]
        return {**asdict(self), "question": "capacity", "limits": limits}

    @property
    def _least(self) -> float:
        return min(probe.value for probe in self.probes)


Plan: TypeAlias = Generator[Step, Measured, Capacity]


@frozen(kw_only=True)
class Search:
    """What is searched for, and how finely.

    Raises:
        ValueError: there is no limit, or a number is out of its range.
    """

    limits: Sequence[PercentileLimit] = field(validator=min_len(1))
    by: Literal["rate", "concurrency"] = field(
        default="rate", validator=in_(("rate", "concurrency"))
    )
    """What is varied: the rate of an open loop, or the requests in flight of a closed one."""
    arrivals: Callable[[float], LoadProfile] = Poisson
    """Makes the open loop of a rate: `Poisson`, `ConstantRate`, …"""
    start: float = field(default=1.0, validator=gt(0))
    """The first value tried. One that takes seconds saves the most time if it is near."""
    least: float = field(default=0.01, validator=gt(0))
    most: float = field(default=10_000.0, validator=gt(0))
    tolerance: float = field(default=0.05, validator=gt(0))
    """The search ends when the answer's two sides are this near to each other, as a share."""
    duration_s: float = field(default=30.0, validator=gt(0))
    """Of the first look at a load; each further one takes twice as long."""
    looks: int = field(default=LOOKS, validator=ge(1))

    def plan(self) -> Plan:
        """Yield the stages to measure; return what they come to."""
        probes: list[Probe] = []
        value: float | None = self._near(self.start)
        while value is not None and len(probes) < _MOST_LOADS:
            probes.append((yield from self._decide(value)))
            value = self._next(probes)
        low, high = _sides(probes)
        return Capacity(
            kind=self._load(probes[0].value).kind,
            limits=tuple(self.limits),
            value=None if low is None or high is None else self._estimate(probes, low, high),
            holds_at=low,
            broken_at=high,
            probes=tuple(probes),
        )

    @property
    def _whole(self) -> bool:
        return self.by == "concurrency"

    def _near(self, value: float) -> float:
        value = min(max(value, self.least), self.most)
        return max(1, round(value)) if self._whole else value

    def _load(self, value: float) -> LoadProfile:
        return Concurrency(round(value)) if self._whole else self.arrivals(value)

    def _decide(self, value: float) -> Generator[Step, Measured, Probe]:
        """Look at one load until it is decided, or has been looked at often enough."""
        inside: list[Timeline] = []
        chance = CHANCE / self.looks
        spent_s, duration_s = 0.0, self.duration_s
        holds: bool | None = None
        trusted = True
        exceeding: tuple[Exceeding, ...] = ()
        for look in range(1, self.looks + 1):
            measured = yield Step(self._load(value), duration_s)
            in_order = sorted(measured.timelines, key=lambda timeline: timeline.index)
            inside += samples(in_order, measured.summary.window)
            spent_s += duration_s
            duration_s *= 2
            exceeding = tuple(limit.exceeding(inside) for limit in self.limits)
            trusted = trusted and measured.verdict.status != "invalid"
            holds = self._holds(exceeding, chance)
            if holds and not (trusted and look >= min(LOOKS_TO_HOLD, self.looks)):
                holds = None
            if holds is not None:
                break
        return Probe(
            value=value,
            holds=holds,
            exceeding=exceeding,
            requests=len(inside),
            duration_s=spent_s,
        )

    def _holds(self, exceeding: Sequence[Exceeding], chance: float) -> bool | None:
        pairs = [
            (seen, limit.allowed_share) for seen, limit in zip(exceeding, self.limits, strict=True)
        ]
        # One of several is more easily broken by chance than one alone; that all hold is not.
        if any(seen.is_above(share, chance=chance / len(pairs)) for seen, share in pairs):
            return False
        return True if all(seen.is_below(share, chance=chance) for seen, share in pairs) else None

    def _next(self, probes: Sequence[Probe]) -> float | None:
        """Return the load to try next; None if the answer is near enough, or cannot be neared."""
        low, high = _sides(probes)
        tried = sorted(probe.value for probe in probes)
        if high is None:
            return self._beyond(tried[-1], self._near(tried[-1] * 2))
        if low is None:
            return self._beyond(tried[0], self._near(tried[0] / 2))
        if high / low <= 1 + self.tolerance:
            return None
        # Between the two sides lie only loads that stayed undecided: the answer is near them, so
        # the wider of the gaps around them is halved.
        between = [low, *(value for value in tried if low < value < high), high]
        gaps = [(between[1] / low, low, between[1]), (high / between[-2], between[-2], high)]
        ratio, below, above = max(gaps)
        value = self._near(math.sqrt(below * above))
        near_enough = len(between) > 2 and ratio <= 1 + self.tolerance / 2
        return None if near_enough or value in tried else value

    @staticmethod
    def _beyond(tried: float, value: float) -> float | None:
        return None if value == tried else value

    def _estimate(self, probes: Sequence[Probe], low: float, high: float) -> float:
        """Return where the tightest limit's share crosses the allowed one, between the two sides.

        A straight line through the log odds of the shares against the logarithm of the load, each
        weighed by its number of requests.
        """
        near = [probe for probe in probes if low <= probe.value <= high]
        at = np.log([probe.value for probe in near])
        excess = [self._log_odds_excess(probe) for probe in near]
        slope, offset = np.polyfit(at, excess, 1, w=np.sqrt([probe.requests for probe in near]))
        crossing = math.exp(-offset / slope) if slope > 0 else math.sqrt(low * high)
        # In whole numbers, the highest that is not known to break a limit.
        crossing = math.floor(crossing) if self._whole else crossing
        return min(max(crossing, low), high)

    def _log_odds_excess(self, probe: Probe) -> float:
        """Return how far the worst limit's share lies above the allowed one, in log odds."""
        return max(
            _log_odds(seen.share, max(seen.worth, 1)) - _log_odds(limit.allowed_share, math.inf)
            for seen, limit in zip(probe.exceeding, self.limits, strict=True)
        )


def _shown(value: float) -> str:
    return f"{value:g}" if value == int(value) else format_number(value)


def _log_odds(share: float, worth: float) -> float:
    # Half a value keeps "none" and "all" finite.
    nearest = 0.5 / worth
    share = min(max(share, nearest), 1 - nearest)
    return math.log(share / (1 - share))


def _sides(probes: Sequence[Probe]) -> tuple[float | None, float | None]:
    """Return the highest load that held and the lowest that did not."""
    low = max((probe.value for probe in probes if probe.holds), default=None)
    high = min((probe.value for probe in probes if probe.holds is False), default=None)
    return low, high
