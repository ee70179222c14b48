"""The billing meter: what was spent, and what is being spent."""

from collections.abc import Mapping
from math import fsum, nan

from attrs import define, field

from llmperf_sagemaker.testing.clock import Clock

_S_PER_H = 3600.0


@define(eq=False)
class Meter:
    """Counts instances from when an endpoint is asked for until it is gone.

    Args:
        clock: what bills by it.
        prices: USD/h of each instance type. What a type costs that is not there is `nan`.
    """

    _clock: Clock
    _prices: Mapping[str, float]
    _running: dict[str, tuple[float, float]] = field(factory=dict, init=False)
    """Since when, and USD/h."""
    _closed_usd: list[float] = field(factory=list, init=False)

    def start(self, name: str, instances: Mapping[str, int]) -> None:
        """Begin to bill for so many instances of these types."""
        usd_per_h = fsum(self._prices.get(kind, nan) * count for kind, count in instances.items())
        self._running[name] = (self._clock.now_s(), usd_per_h)

    def stop(self, name: str) -> None:
        """End it: the endpoint is gone."""
        self._closed_usd.append(self._so_far(*self._running.pop(name)))

    @property
    def usd_per_h(self) -> float:
        """What all that runs costs now."""
        return fsum(usd_per_h for _, usd_per_h in self._running.values())

    @property
    def usd(self) -> float:
        """What was spent until now."""
        running = (self._so_far(*bill) for bill in self._running.values())
        return fsum([*self._closed_usd, *running])

    def _so_far(self, since_s: float, usd_per_h: float) -> float:
        return (self._clock.now_s() - since_s) / _S_PER_H * usd_per_h
