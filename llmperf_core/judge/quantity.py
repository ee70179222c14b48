"""A number with its unit and its interval."""

from typing import TypeAlias

from attrs import frozen

from llmperf_core.units import format_number

Interval: TypeAlias = tuple[float, float]
"""(low, high), both inclusive, in the unit of what it belongs to."""


@frozen(repr=False)
class Quantity:
    """A measured number. It prints as `12.3 ms [11.8, 12.9]`."""

    value: float
    unit: str
    ci95: Interval | None = None
    """The 95 % interval; None where the data cannot support one."""

    def __repr__(self) -> str:
        text = f"{format_number(self.value)} {self.unit}"
        if self.ci95 is None:
            return text
        low, high = map(format_number, self.ci95)
        return f"{text} [{low}, {high}]"
