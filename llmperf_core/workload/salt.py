"""A few characters that make a prompt unlike every other one."""

from collections.abc import Iterator

import numpy as np

_BITS = 48
"""Among 100,000 prompts two are alike with a probability of 2 in 100,000."""


def salts(seed: int) -> Iterator[str]:
    """Yield beginnings of prompts without end, as `[3f9a2c71b04d] `. The seed gives them again.

    A prefix cache finds nothing of a prompt whose beginning it has not seen.
    """
    rng = np.random.default_rng([seed, 5])
    while True:
        yield f"[{int(rng.integers(1 << _BITS)):0{_BITS // 4}x}] "
