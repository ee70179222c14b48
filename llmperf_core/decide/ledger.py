"""A budget, and what is held and spent of it."""

from math import fsum

from attrs import define, field
from attrs.validators import ge, optional

from llmperf_core.errors import BudgetError
from llmperf_core.units import format_usd


@define
class Ledger:
    """A budget of which the worst case of each thing is held before it begins.

    What is spent and held together never exceeds the budget: a reservation that would do so is
    refused. Mutable; whoever shares it does so on one event loop.

    Raises:
        ValueError: an amount is negative.
    """

    max_usd: float | None = field(default=None, validator=optional(ge(0)))
    """None sets no limit."""
    spent_usd: float = field(default=0.0, validator=ge(0), kw_only=True)
    _held_usd: dict[str, float] = field(factory=dict, init=False)

    @property
    def held_usd(self) -> float:
        """What is reserved and not settled yet."""
        return fsum(self._held_usd.values())

    def covers(self, usd: float) -> bool:
        """Return whether so much can be reserved now."""
        return self.max_usd is None or self._with(usd) <= self.max_usd

    def may_cover_later(self, usd: float) -> bool:
        """Return whether so much can be reserved should what is held turn out to be unspent."""
        return self.max_usd is None or self.spent_usd + usd <= self.max_usd

    def _with(self, usd: float) -> float:
        return fsum([self.spent_usd, *self._held_usd.values(), usd])

    def reserve(self, what: str, usd: float) -> None:
        """Hold the worst case of something.

        Raises:
            BudgetError: the budget does not cover it.
        """
        if not self.covers(usd):
            left = f"{format_usd(usd)}, with {format_usd(self.spent_usd)} spent"
            held = f" and {format_usd(self.held_usd)} held for others" if self._held_usd else ""
            raise BudgetError(what, left + held, self.max_usd or 0.0)
        self._held_usd[what] = usd

    def settle(self, what: str, usd: float) -> None:
        """Spend what something has cost, and hold nothing for it any more."""
        self._held_usd.pop(what, None)
        self.spent_usd += usd
