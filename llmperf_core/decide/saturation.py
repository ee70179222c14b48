"""From an idle server to a saturated one: as many stages as it takes, and where it levels off."""

from collections.abc import Generator, Mapping
from typing import TypeAlias

from attrs import asdict, field, frozen
from attrs.validators import ge, gt

from llmperf_core.decide.search import Capacity, Measured, Step
from llmperf_core.load import Concurrency
from llmperf_core.target import Json
from llmperf_core.units import format_number


@frozen(kw_only=True)
class SaturationPoint:
    """Where the throughput of a closed loop levels off."""

    slots: int
    """The least concurrency that reaches the highest throughput, up to the gain that counts."""
    saturated: bool
    """Whether more requests in flight were seen to bring nothing; False if `most` came first."""
    tokens_per_s: tuple[tuple[int, float], ...]
    """For each concurrency that was measured: output tokens a second."""

    def __str__(self) -> str:
        best = format_number(max(rate for _, rate in self.tokens_per_s))
        if not self.saturated:
            return f"not saturated: {best} tok/s at {self.slots} in flight, the most tried"
        return f"saturated from {self.slots} in flight on, at {best} tok/s"

    def to_dict(self) -> Mapping[str, Json]:
        """Return it as JSON says it."""
        return {**asdict(self), "question": "saturation"}


Answer: TypeAlias = Capacity | SaturationPoint
"""What a question comes to."""


@frozen(kw_only=True)
class Saturation:
    """A sweep that doubles the concurrency until the throughput grows no more.

    Raises:
        ValueError: a number is out of its range.
    """

    most: int = field(default=1024, validator=ge(1))
    gain: float = field(default=0.05, validator=gt(0))
    """A doubling that brings a smaller share than this brings nothing."""
    duration_s: float = field(default=30.0, validator=gt(0))

    def plan(self) -> Generator[Step, Measured, SaturationPoint]:
        """Yield the stages to measure; return where the throughput levels off."""
        seen: list[tuple[int, float]] = []
        slots, saturated = 1, False
        while slots <= self.most and not saturated:
            measured = yield Step(Concurrency(slots), self.duration_s)
            rate = measured.summary.output_tokens_per_s
            best = max((before for _, before in seen), default=0.0)
            seen.append((slots, 0.0 if rate is None else rate.value))
            saturated = seen[-1][1] <= best * (1 + self.gain)
            slots *= 2
        enough = max(rate for _, rate in seen) / (1 + self.gain)
        return SaturationPoint(
            slots=next(slots for slots, rate in seen if rate >= enough),
            saturated=saturated,
            tokens_per_s=tuple(seen),
        )
