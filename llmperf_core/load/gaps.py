"""Independent random gaps, one after the other."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

_DRAWN_AT_ONCE = 1024


def running_sum(draw: Callable[[int], npt.NDArray[np.float64]]) -> Iterator[float]:
    """Yield the sum of the first gap, of the first two, and so on without end.

    Args:
        draw: returns that many gaps, each ≥ 0.
    """
    total = 0.0
    while True:
        for gap in draw(_DRAWN_AT_ONCE):
            total += float(gap)
            yield total
