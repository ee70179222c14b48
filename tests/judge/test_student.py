"""Student's t against printed tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.judge.student import two_sided_p, two_sided_point

# Source: Abramowitz, Stegun, table 26.10.
TABLE = [
    (1, 0.05, 12.706),
    (2, 0.05, 4.303),
    (3, 0.01, 5.841),
    (5, 0.01, 4.032),
    (19, 0.05, 2.093),
    (30, 0.001, 3.646),
    (120, 0.05, 1.980),
]


@pytest.mark.parametrize(("freedom", "p", "point"), TABLE)
def test_points_are_those_of_the_table(freedom: int, p: float, point: float) -> None:
    """To the three decimals that are printed."""
    assert two_sided_point(p, freedom) == pytest.approx(point, abs=6e-4)


@given(p=st.floats(1e-9, 0.99), freedom=st.integers(1, 5000))
def test_a_point_has_its_chance(p: float, freedom: int) -> None:
    """The chance of a point is the one that it was asked for with."""
    point = two_sided_point(p, freedom)
    assert two_sided_p(point, freedom) == pytest.approx(p, rel=1e-4, abs=1e-12)


def test_the_ends() -> None:
    """Nothing is always exceeded, the infinite never."""
    assert two_sided_p(0, 7) == 1
    assert two_sided_p(math.inf, 7) == 0
