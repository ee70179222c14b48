"""Whether TTFT grows with the input, as it must where prompts are read and not remembered."""

from collections.abc import Iterable

import numpy as np
from attrs import frozen

from llmperf_core.judge.intervals import level_interval, percentile_of
from llmperf_core.judge.metrics import TTFT, Values
from llmperf_core.timeline import Timeline

_LEAST_REQUESTS = 60
"""With 20 in each third, the median of each has a useful interval."""
_LEAST_MORE_TOKENS = 500
_LEAST_RATIO = 2


@frozen
class Growth:
    """How TTFT differs between the shortest third of the inputs and the longest."""

    more_tokens: int
    """Median input of the longest third − that of the shortest."""
    most_ns: int
    """At most so much longer is the median TTFT of the longest third: the upper end of its 95 %
    interval − the lower end of the other's. With 95 % confidence and more it is no larger."""


def inputs_and_ttft(timelines: Iterable[Timeline]) -> Values:
    """Return the input tokens and the TTFT of each completed request of which both are known.

    Returns:
        int64, shape (n, 2).
    """
    seen = [
        (t.tokens.input, int(ttft[0]))
        for t in timelines
        if t.completed and t.tokens.input is not None and (ttft := TTFT.of(t)).size
    ]
    return np.array(seen, dtype=np.int64).reshape(-1, 2)


def ttft_growth(read: Values) -> Growth | None:
    """Return how TTFT grew with the input.

    None with fewer than 60 requests, or if inputs hardly differ: by less than 500 tokens, or less
    than twofold.

    Args:
        read: int64, shape (n, 2): input tokens and TTFT of each request.
    """
    if len(read) < _LEAST_REQUESTS:
        return None
    ordered = read[np.argsort(read[:, 0], kind="stable")]
    third = len(ordered) // 3
    shortest, longest = ordered[:third], ordered[-third:]
    short, long = float(np.median(shortest[:, 0])), float(np.median(longest[:, 0]))
    differ = long - short >= _LEAST_MORE_TOKENS and long >= _LEAST_RATIO * short
    level = level_interval(50, third)
    if not differ or level is None:
        return None
    least_ns = percentile_of(np.sort(shortest[:, 1]), level[0])
    most_ns = percentile_of(np.sort(longest[:, 1]), level[1])
    return Growth(round(long - short), round(most_ns - least_ns))
