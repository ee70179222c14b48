"""What bringing a target up takes: time, money, and what may stand in its way.

A target says so itself, before anything is spent.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from attrs import field, frozen
from attrs.validators import ge

from llmperf_core.target import Target


@frozen(kw_only=True)
class Price:
    """What an open target costs.

    Raises:
        ValueError: the price is negative.
    """

    usd_per_h: float = field(validator=ge(0))
    as_of: str
    """The day of the price, ISO 8601."""
    source: str
    """Where the price is from."""


@frozen(kw_only=True)
class BringUp:
    """How long a target takes to come and to go.

    Raises:
        ValueError: a field is negative.
    """

    expected_s: float = field(validator=ge(0))
    limit_s: float = field(validator=ge(0))
    """It is given up after so long."""
    removal_s: float = field(default=0.0, validator=ge(0))
    """How long taking it down may take, and it still costs meanwhile."""


@frozen(kw_only=True)
class Quota:
    """A limit to how many targets of a kind can be up at a time.

    Raises:
        ValueError: the number is negative.
    """

    name: str
    """Targets whose findings have a quota of this name share it."""
    available: int = field(validator=ge(0))
    """So many more may come up now."""


@frozen(kw_only=True)
class Finding:
    """What was found before a target was brought up."""

    detail: str
    """What it is, with its figures, and what to do."""
    refused: bool = False
    """The bring-up would fail for it: a quota of 0, a model that does not fit."""
    quota: Quota | None = None
    """What it counts against; others of the same quota wait until it is gone."""


@runtime_checkable
class CanPlan(Protocol):
    """A target that can say beforehand what its bring-up takes and whether it can succeed."""

    @property
    def bring_up(self) -> BringUp:
        """How long it takes."""
        ...

    async def check(self) -> Sequence[Finding]:
        """Return what speaks against it: quota, memory, permissions. Brings nothing up.

        Raises:
            TargetError: it cannot be found out.
        """
        ...


@runtime_checkable
class Paid(CanPlan, Protocol):
    """A target that costs money by the hour from its bring-up on until it is gone.

    It is not brought up unless somebody has said how much that may cost.
    """

    @property
    def price(self) -> Price | None:
        """What it costs; None if nobody knows, so that it cannot be brought up."""
        ...

    def allowed(self, *, max_usd: float, measuring_s: float) -> Target:
        """Return the same target, which may be brought up for at most so much.

        Args:
            max_usd: opening it raises `BudgetError` if its worst case could cost more: its price ×
                (limit of the bring-up + `measuring_s` + removal).
            measuring_s: how long it is used at most; it expires after that.
        """
        ...
