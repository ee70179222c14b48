"""What a deployment may cost at worst, and what holds it to that."""

from attrs import field, frozen
from attrs.validators import ge

from llmperf_core.bringup import BringUp, Price
from llmperf_core.errors import HarnessError
from llmperf_core.units import h_from_s, min_from_h


class OverrunError(HarnessError):
    """Measuring took longer than was allowed for, so it was ended and the endpoint deleted."""

    def __init__(self, name: str, measuring_s: float) -> None:
        super().__init__(
            f"measuring {name} took longer than the {measuring_s:g} s that its budget was made "
            "for, so it was ended and the endpoint deleted; allow it a longer measuring_s"
        )


@frozen(kw_only=True)
class WorstCase:
    """All of its limits are reached: bringing it up, measuring, and deleting it.

    Raises:
        ValueError: a duration is negative.
    """

    price: Price
    bring_up: BringUp
    measuring_s: float = field(validator=ge(0))

    @property
    def usd(self) -> float:
        """What it costs then."""
        return self.price.usd_per_h * h_from_s(sum(self._parts_s))

    @property
    def arithmetic(self) -> str:
        """How that comes about."""
        minutes = " + ".join(f"{min_from_h(h_from_s(part_s)):.0f}" for part_s in self._parts_s)
        return (
            f"{self.usd:.2f} USD at worst ({self.price.usd_per_h:g} USD/h × ({minutes}) min: the "
            "limit of its bring-up, measuring, and its deletion)"
        )

    @property
    def _parts_s(self) -> tuple[float, float, float]:
        return self.bring_up.limit_s, self.measuring_s, self.bring_up.removal_s
