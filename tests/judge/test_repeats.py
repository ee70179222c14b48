"""Repeats of a stage, with and without a difference between them."""

import numpy as np
import pytest

from llmperf_core.judge import Quantity, over_repeats


def test_the_interval_is_made_of_the_differences() -> None:
    """Mean ± t · s / √k by hand: 10, 11 and 12 with 4.303 · 1 / √3."""
    found = over_repeats([Quantity(value, "ms", (value - 1, value + 1)) for value in (10, 11, 12)])
    assert found.stages == 3
    assert (found.mean.value, found.mean.unit) == (11, "ms")
    assert found.mean.ci95 == pytest.approx((11 - 2.484, 11 + 2.484), abs=1e-3)
    assert found.pooled == pytest.approx((11 - 3**-0.5, 11 + 3**-0.5))
    assert found.dispersion == pytest.approx(1 / (1 / 1.96), abs=1e-3)


def test_a_stage_without_an_interval_leaves_the_pooled_one_out() -> None:
    """What one of them cannot say, all of them cannot."""
    found = over_repeats([Quantity(1, "ms", (0, 2)), Quantity(2, "ms")])
    assert (found.pooled, found.dispersion) == (None, None)
    same = over_repeats([Quantity(1, "ms", (1, 1)), Quantity(2, "ms", (2, 2))])
    assert (same.pooled, same.dispersion) == ((1.5, 1.5), None)


@pytest.mark.parametrize(
    ("quantities", "message"),
    [([Quantity(1, "ms")], "two at least: 1"), ([Quantity(1, "ms"), Quantity(1, "s")], "ms, s")],
)
def test_repeats_are_several_of_one_kind(quantities: list[Quantity], message: str) -> None:
    """One stage is no repeat, and milliseconds are no seconds."""
    with pytest.raises(ValueError, match=message):
        over_repeats(quantities)


def test_the_interval_covers_the_truth_where_stages_differ() -> None:
    """1,000 times five stages that differ by twice their own noise: 95 % hold the truth.

    The pooled interval, which knows of the noise alone, holds it far less often.
    """
    rng = np.random.default_rng(3)
    held = pooled = 0
    dispersion = []
    for _ in range(1000):
        values = 100 + rng.normal(0, 2, 5) + rng.normal(0, 1, 5)
        found = over_repeats([Quantity(v, "ms", (v - 1.96, v + 1.96)) for v in values.tolist()])
        assert found.mean.ci95 is not None
        assert found.pooled is not None
        held += found.mean.ci95[0] <= 100 <= found.mean.ci95[1]
        pooled += found.pooled[0] <= 100 <= found.pooled[1]
        dispersion.append(found.dispersion or 0)
    assert 0.93 <= held / 1000 <= 0.97
    assert pooled / 1000 < 0.75
    assert np.median(dispersion) == pytest.approx(5**0.5, rel=0.15)
