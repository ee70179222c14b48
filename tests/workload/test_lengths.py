"""Distributions of lengths have the mean, the spread and the limits that were asked for."""

from itertools import islice

import numpy as np
import pytest

from llmperf_core.workload import Empirical, InOrder, Lengths, LogNormal, Normal, Uniform

COUNT = 20_000


def drawn(
    lengths: Lengths, count: int = COUNT, seed: int = 1
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return the first lengths of a distribution."""
    return np.array(list(islice(lengths.draws(np.random.default_rng(seed)), count)))


@pytest.mark.parametrize(
    ("lengths", "mean", "sd"),
    [
        (Uniform(10, 50), 30, 11.83),
        (Normal(512, 100), 512, 100),
        (LogNormal(512, 300), 512, 300),
        (Empirical([10, 10, 40]), 20, 14.14),
    ],
    ids=repr,
)
def test_mean_and_spread_are_as_asked(lengths: Lengths, mean: float, sd: float) -> None:
    """Of the lengths themselves, also where their logarithms are normal."""
    values = drawn(lengths)

    assert values.mean() == pytest.approx(mean, abs=5 * sd / COUNT**0.5)
    assert values.std() == pytest.approx(sd, rel=0.06)
    assert (values == drawn(lengths)).all(), "a seed gives them again"
    assert (values != drawn(lengths, seed=2)).any()


def test_lognormal_is_skewed() -> None:
    """Half of the lengths are below the median e^μ, which is below the mean."""
    median = 512 / (1 + (300 / 512) ** 2) ** 0.5

    assert np.median(drawn(LogNormal(512, 300))) == pytest.approx(median, rel=0.02)


@pytest.mark.parametrize(
    "lengths",
    [Uniform(5, 9), Normal(7, 50, low=5, high=9), LogNormal(7, 50, low=5, high=9)],
    ids=repr,
)
def test_limits_are_kept_and_reached(lengths: Lengths) -> None:
    """Both are included, and nothing is heaped up at them."""
    values = drawn(lengths, 2000)

    assert set(values.tolist()) == {5, 6, 7, 8, 9}
    assert np.bincount(values)[5:].max() < 3 * np.bincount(values)[5:].min()


def test_in_order_follows_the_record() -> None:
    """And begins again when it has come to its end."""
    assert drawn(InOrder([3, 1, 2]), 7).tolist() == [3, 1, 2, 3, 1, 2, 3]


def test_descriptions_say_what_was_drawn_from() -> None:
    """Parameters in full; of recorded lengths, how many and their mean."""
    assert Uniform(1, 2).describe() == {"distribution": "uniform", "low": 1, "high": 2}
    assert Normal(5, 2).describe() == {
        "distribution": "normal",
        "mean": 5,
        "sd": 2,
        "low": 1,
        "high": None,
    }
    assert LogNormal(5, 2, high=9).describe() == {
        "distribution": "lognormal",
        "mean": 5,
        "sd": 2,
        "low": 1,
        "high": 9,
    }
    assert Empirical([1, 2]).describe() == {"distribution": "empirical", "count": 2, "mean": 1.5}
    assert InOrder([1, 2]).describe() == {"distribution": "in_order", "count": 2, "mean": 1.5}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Uniform(0, 5), "low"),
        (lambda: Uniform(6, 5), "'high' must be ≥ 'low': 5 < 6"),
        (lambda: Normal(0, 5), "mean"),
        (lambda: Normal(5, -1), "sd"),
        (lambda: Normal(500, 1, high=100), "from 'low' to 'high'"),
        (lambda: LogNormal(5, 0), "sd"),
        (lambda: LogNormal(5, 1, low=10), "from 'low' to 'high'"),
        (lambda: Empirical([]), "values"),
        (lambda: InOrder([1, 0]), "values"),
    ],
)
def test_what_cannot_be_is_refused(make: object, said: str) -> None:
    """When it is written, with the name of what is wrong."""
    assert callable(make)
    with pytest.raises(ValueError, match=said):
        make()
