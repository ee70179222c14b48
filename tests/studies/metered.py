"""Targets that cost money, with a meter that bills by the clock whatever anybody plans."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from attrs import Factory, define, evolve, field, frozen

from llmperf_core.bringup import BringUp, Finding, Price
from llmperf_core.errors import BudgetError, StartError
from llmperf_core.target import Endpoint, Options
from llmperf_core.units import h_from_s
from llmperf_core.wire.tgi import Tgi
from tests.test_benchmark import Echo

USD_PER_S = 3600.0
"""An hour's price at which a second costs a dollar."""
PRICE = Price(usd_per_h=USD_PER_S, as_of="2026-11-25", source="the meter")
BRING_UP = BringUp(expected_s=0.01, limit_s=1.0, removal_s=1.0)


@define
class Meter:
    """What a cloud bills, and how many are up."""

    usd: float = 0.0
    up: int = 0
    most_up: int = 0
    bring_ups: list[str] = Factory(list)

    @asynccontextmanager
    async def running(self, name: str, usd_per_h: float) -> AsyncIterator[None]:
        """Bill from here to the end of the block."""
        began_s = anyio.current_time()
        self.bring_ups.append(name)
        self.up += 1
        self.most_up = max(self.most_up, self.up)
        try:
            yield
        finally:
            self.up -= 1
            self.usd += usd_per_h * h_from_s(anyio.current_time() - began_s)


@frozen(kw_only=True)
class Metered:
    """A target that costs money, in this process."""

    name: str
    meter: Meter
    bring_up: BringUp = BRING_UP
    price: Price | None = PRICE
    comes_after_s: float = 0.01
    fails: bool = False
    """It does not come up, after it has cost what it has."""
    findings: Sequence[Finding] = ()
    transport: Callable[[], Echo] = field(default=Echo, repr=False)
    max_usd: float | None = None
    measuring_s: float = 0.0
    options: Options = Factory(Options)

    async def check(self) -> Sequence[Finding]:
        """Return what is known beforehand."""
        return self.findings

    def allowed(self, *, max_usd: float, measuring_s: float) -> "Metered":
        """Return one that may cost so much."""
        return evolve(self, max_usd=max_usd, measuring_s=measuring_s)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Come up, and go."""
        if self.max_usd is None or self.price is None:
            raise BudgetError(self.name, "money", 0.0)
        # Added up in another order than the plan does, as every backend may.
        times_s = (self.bring_up.removal_s, self.measuring_s, self.bring_up.limit_s)
        worst_usd = sum(self.price.usd_per_h * h_from_s(time_s) for time_s in times_s)
        if worst_usd > self.max_usd:
            raise BudgetError(self.name, f"{worst_usd} USD", self.max_usd)
        async with self.meter.running(self.name, self.price.usd_per_h):
            await anyio.sleep(self.comes_after_s)
            if self.fails:
                raise StartError(self.name, "no capacity")
            yield Endpoint(base_url="http://model", codec=Tgi(), transport=self.transport)
