"""Arrivals as they were recorded."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
from attrs import field, frozen
from attrs.converters import optional
from attrs.validators import min_len

from llmperf_core.units import per_second


def _whole(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


@frozen
class Replay:
    """Start requests at recorded instants; nothing is drawn by chance.

    `read_trace` makes one of a file. A workload can ask for lengths as recorded:
    `Synthetic(InOrder(replay.input_tokens), InOrder(replay.output_tokens))`.

    Raises:
        ValueError: there is no instant, one is before 0 or before an earlier one, or there are
            not as many lengths as instants.
    """

    at_ns: tuple[int, ...] = field(
        converter=_whole, validator=min_len(1), repr=lambda at_ns: f"<{len(at_ns)} instants>"
    )
    """From the start of the stage, non-decreasing."""
    input_tokens: tuple[int, ...] | None = field(
        default=None, converter=optional(_whole), repr=False, kw_only=True
    )
    """Of each request, as recorded."""
    output_tokens: tuple[int, ...] | None = field(
        default=None, converter=optional(_whole), repr=False, kw_only=True
    )
    kind: Literal["replay"] = field(default="replay", init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.at_ns[0] < 0 or any(later < earlier for earlier, later in pairwise(self.at_ns)):
            raise ValueError("'at_ns' must begin at 0 or later, and never go back")
        for name in ("input_tokens", "output_tokens"):
            lengths = getattr(self, name)
            if lengths is not None and len(lengths) != len(self.at_ns):
                raise ValueError(f"{name!r} has {len(lengths)} for {len(self.at_ns)} instants")

    @property
    def value(self) -> float:
        """The mean rate in requests per second; the number of requests if they come at once."""
        gaps, span_ns = len(self.at_ns) - 1, self.at_ns[-1] - self.at_ns[0]
        return per_second(gaps, span_ns) if span_ns else float(len(self.at_ns))

    @property
    def label(self) -> str:
        """Such as `replay of 8,819, 2.4/s`."""
        return f"replay of {len(self.at_ns):,}, {self.value:.3g}/s"

    def instants(self, rng: np.random.Generator) -> Iterator[int]:  # noqa: ARG002 -- no chance
        """Yield the recorded instants."""
        return iter(self.at_ns)

    def planned(self, from_ns: int, to_ns: int) -> int:
        """Return how many requests are due in this stretch."""
        return bisect_left(self.at_ns, to_ns) - bisect_left(self.at_ns, from_ns)
