"""The closed loop."""

from typing import Literal

from attrs import field, frozen
from attrs.validators import and_, gt, instance_of


@frozen
class Concurrency:
    """Keep `slots` requests in flight.

    A slow server gets fewer requests from a closed loop, so its queue never shows; use a rate to
    see what users who do not wait for each other would see.

    Raises:
        ValueError: `slots` is not positive.
    """

    slots: int = field(validator=and_(instance_of(int), gt(0)))
    kind: Literal["concurrency"] = field(default="concurrency", init=False, repr=False)

    @property
    def value(self) -> float:
        """The number of slots."""
        return self.slots
