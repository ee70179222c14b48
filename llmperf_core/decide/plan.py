"""What a study would take: its bring-ups in order, with time, money and what stands in the way."""

import heapq
from collections.abc import Iterable, Mapping
from math import ceil, fsum

from attrs import asdict, field, frozen
from attrs.validators import ge

from llmperf_core.bringup import BringUp, Finding, Price
from llmperf_core.decide.cells import Cell
from llmperf_core.load import ClosedLoop, LoadProfile, load_label
from llmperf_core.run import Settings
from llmperf_core.target import Json
from llmperf_core.units import format_span, format_usd, h_from_s

_ROUNDED_UP = 1 + 1e-9
"""A target reckons its worst case itself, and may add it up in another order: what it is allowed
must not be less by a rounding error."""
PARALLEL = "parallel"
"""The limit that all targets share that cost money."""
_AROUND_STAGE_S = 30.0
"""At worst, beside warm-up, window and drain: the measuring process comes and goes, each with a
patience of 10 s, and the figures are made."""


@frozen
class StageTime:
    """How long one stage takes."""

    expected_s: float | None
    """None where requests end it, so that the server decides."""
    worst_s: float


def stage_time(load: LoadProfile, settings: Settings) -> StageTime:
    """Return how long a stage takes under a load, drain and processes included at worst."""
    if settings.duration_s is None:
        window_s = _longest_window_s(load, settings)
        expected_s = None
    else:
        window_s = settings.duration_s
        expected_s = settings.warmup_s + window_s
    worst_s = settings.warmup_s + window_s + settings.drain_s + _AROUND_STAGE_S
    return StageTime(expected_s, worst_s)


def _longest_window_s(load: LoadProfile, settings: Settings) -> float:
    """Return how long a window can be that a number of requests ends."""
    requests, whole_s = settings.requests or 0, settings.deadlines.whole_s
    if isinstance(load, ClosedLoop):
        return ceil(requests / load.slots) * whole_s
    # Arrivals by chance take twice their mean time only where there are very few.
    return 2 * requests / load.value + whole_s


@frozen(kw_only=True)
class PlannedBringUp:
    """One bring-up of a target, and the cells that it serves."""

    target: str
    """The target's name."""
    cells: tuple[Cell, ...]
    """Those that are still to be measured, in order."""
    times: tuple[StageTime, ...]
    """Of each cell."""
    done: int = 0
    """Cells of the target that are measured already."""
    bring_up: BringUp | None = None
    """None where the target does not say: it is only connected to, or comes in seconds."""
    price: Price | None = None
    paid: bool = False
    """It costs money from its bring-up on, and needs a budget."""
    findings: tuple[Finding, ...] = ()

    @property
    def refusal(self) -> str | None:
        """Why it would not come up; None if nothing speaks against it."""
        return next((finding.detail for finding in self.findings if finding.refused), None)

    @property
    def quotas(self) -> tuple[str, ...]:
        """The names of the quotas that it counts against, in their order."""
        return tuple(sorted({f.quota.name for f in self.findings if f.quota is not None}))

    @property
    def measuring_s(self) -> float:
        """How long all its stages take at worst."""
        return sum(time.worst_s for time in self.times)

    @property
    def expected_s(self) -> float | None:
        """From its bring-up on until it is gone; None if that is not known."""
        if any(time.expected_s is None for time in self.times):
            return None
        begins_s = self.bring_up.expected_s if self.bring_up else 0.0
        return begins_s + sum(time.expected_s or 0 for time in self.times)

    @property
    def worst_s(self) -> float:
        """From its bring-up on until it is gone, at worst."""
        around_s = self.bring_up.limit_s + self.bring_up.removal_s if self.bring_up else 0.0
        return around_s + self.measuring_s

    @property
    def expected_usd(self) -> float | None:
        """What it would cost; None if that is not known, 0 if it has no price."""
        if self.expected_s is None:
            return None
        return self.usd(self.expected_s)

    @property
    def worst_usd(self) -> float:
        """What it costs at worst; 0 if it has no price. So much is allowed to it."""
        return self.usd(self.worst_s) * _ROUNDED_UP

    def to_dict(self) -> Mapping[str, Json]:
        """Return it in JSON types; None for what is not known."""
        stages: list[Json] = [
            {
                "cell": cell.id,
                "load": load_label(cell.load),
                "repeat": cell.repeat,
                "expected_s": time.expected_s,
                "worst_s": time.worst_s,
            }
            for cell, time in zip(self.cells, self.times, strict=True)
        ]
        return {
            "target": self.target,
            "stages": stages,
            "done": self.done,
            "paid": self.paid,
            "price": None if self.price is None else asdict(self.price),
            "bring_up": None if self.bring_up is None else asdict(self.bring_up),
            "expected_s": self.expected_s,
            "worst_s": self.worst_s,
            "expected_usd": self.expected_usd,
            "worst_usd": self.worst_usd,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        if not self.cells:
            return f"{self.target}: all {self.done} cells are measured"
        loads = list(dict.fromkeys(load_label(cell.load) for cell in self.cells))
        of_them = f"{len(self.cells)} stages ({', '.join(loads)})"
        if self.done:
            of_them += f", {self.done} are measured already"
        lines = [f"{self.target}: {of_them}"]
        if self.refusal is None:
            lines.append(f"  {_span(self.expected_s, self.worst_s)}{self._costs()}")
        lines += [f"  {'refused: ' if f.refused else ''}{f.detail}" for f in self.findings]
        return "\n".join(lines)

    def _costs(self) -> str:
        if self.price is None:
            return ""
        where = f"{self.price.usd_per_h:g} USD/h on {self.price.as_of}, {self.price.source}"
        return f"; {_money(self.expected_usd, self.worst_usd)} ({where})"

    def usd(self, duration_s: float) -> float:
        """Return what so long costs; 0 if it has no price."""
        return self.price.usd_per_h * h_from_s(duration_s) if self.price else 0.0


def _span(expected_s: float | None, worst_s: float) -> str:
    return f"{format_span(expected_s)}, at worst {format_span(worst_s)}"


def _money(expected_usd: float | None, worst_usd: float) -> str:
    return f"{format_usd(expected_usd)}, at worst {format_usd(worst_usd)}"


@frozen(kw_only=True, repr=False)
class Plan:
    """What a study would take. Nothing has been brought up for it."""

    bring_ups: tuple[PlannedBringUp, ...]
    """In the order of running: those that cost nothing, then the cheapest, so that what is wrong
    with all of them shows where it costs least; last those that would be refused."""
    parallel: int = field(default=1, validator=ge(1))
    """So many that cost money are up at a time. Others are measured one at a time, before them."""

    @property
    def runnable(self) -> tuple[PlannedBringUp, ...]:
        """Those that nothing speaks against and that have something left to measure."""
        return tuple(b for b in self.bring_ups if b.refusal is None and b.cells)

    @property
    def paid(self) -> tuple[PlannedBringUp, ...]:
        """Those of them that need a budget."""
        return tuple(b for b in self.runnable if b.paid)

    @property
    def limits(self) -> Mapping[str, int]:
        """How many of those that need a budget can be up at a time, by what limits them."""
        limits = {PARALLEL: self.parallel}
        for finding in (finding for bring_up in self.paid for finding in bring_up.findings):
            if finding.quota is not None:
                name, available = finding.quota.name, max(finding.quota.available, 1)
                limits[name] = min(limits.get(name, available), available)
        return limits

    @property
    def cells(self) -> int:
        """How many are to be measured, those that would be refused left out."""
        return sum(len(b.cells) for b in self.runnable)

    @property
    def expected_s(self) -> float | None:
        """From the first bring-up to the last removal; None if that is not known."""
        times = {b.target: b.expected_s for b in self.runnable}
        if None in times.values():
            return None
        return self._together_s({target: time or 0.0 for target, time in times.items()})

    @property
    def worst_s(self) -> float:
        """The same at worst."""
        return self._together_s({b.target: b.worst_s for b in self.runnable})

    @property
    def expected_usd(self) -> float | None:
        """What all of it costs; None if that is not known."""
        costs = [b.expected_usd for b in self.runnable]
        return None if None in costs else sum(cost or 0.0 for cost in costs)

    @property
    def worst_usd(self) -> float:
        """What all of it costs at worst. A budget of so much is always enough."""
        return fsum(b.worst_usd for b in self.runnable)

    def to_dict(self) -> Mapping[str, Json]:
        """Return the `--json` document, schema `llmperf.plan/1`."""
        return {
            "schema": "llmperf.plan/1",
            "cells": self.cells,
            "bring_ups": len(self.runnable),
            "expected_s": self.expected_s,
            "worst_s": self.worst_s,
            "expected_usd": self.expected_usd,
            "worst_usd": self.worst_usd,
            "targets": [bring_up.to_dict() for bring_up in self.bring_ups],
        }

    def __repr__(self) -> str:
        total = f"{self.cells} cells in {len(self.runnable)} bring-ups"
        lines = [*map(str, self.bring_ups), f"{total}: {_span(self.expected_s, self.worst_s)}"]
        if any(bring_up.price for bring_up in self.runnable):
            lines.append(f"it costs {_money(self.expected_usd, self.worst_usd)}")
        return "\n".join(lines)

    def _together_s(self, times_s: Mapping[str, float]) -> float:
        """Return how long all take: one at a time, and then so many at a time as may be."""
        alone_s = sum(times_s[b.target] for b in self.runnable if not b.paid)
        free_at_s = [0.0] * self.parallel
        for bring_up in self.paid:
            heapq.heappush(free_at_s, heapq.heappop(free_at_s) + times_s[bring_up.target])
        return alone_s + max(free_at_s)


def in_order(bring_ups: Iterable[PlannedBringUp]) -> tuple[PlannedBringUp, ...]:
    """Return bring-ups in the order in which least is spent before something is found wrong."""
    return tuple(sorted(bring_ups, key=lambda b: (b.refusal is not None, b.paid, b.worst_usd)))
