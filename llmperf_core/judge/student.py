"""Student's t: how far a mean of few values may be off.

Source: Abramowitz, Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4: for whole
degrees of freedom the distribution is a finite sum of powers of a cosine.
"""

import math
from functools import lru_cache

# Beyond it the distribution differs from the normal one by less than 0.1 % in any tail used here.
_MOST_FREEDOM = 1000


def two_sided_p(t: float, freedom: int) -> float:
    """Return the chance that |T| is `t` or more.

    Args:
        t: 0 or more; may be infinite.
        freedom: degrees of freedom, 1 or more.
    """
    return max(0.0, 1 - _within(math.atan(t / math.sqrt(min(freedom, _MOST_FREEDOM))), freedom))


@lru_cache(maxsize=1024)
def two_sided_point(p: float, freedom: int) -> float:
    """Return the t that |T| reaches with the chance `p`, which is above 0 and below 1."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # an angle is then known to the last bit of a float
        angle = (low + high) / 2
        low, high = (angle, high) if 1 - _within(angle, freedom) > p else (low, angle)
    return math.tan(low) * math.sqrt(min(freedom, _MOST_FREEDOM))


def _within(angle: float, freedom: int) -> float:
    """Return the chance that |T| is less than √freedom × tan(angle)."""
    freedom = min(freedom, _MOST_FREEDOM)
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= square * (k - 1) / k
        total += term
    return (angle + sine * total) * 2 / math.pi if odd else sine * total
