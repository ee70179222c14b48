"""What differs from run to run: taken from all repeats, or assumed."""

import math

import numpy as np
import pytest

from llmperf_core.decide.noise import BETWEEN_RUNS, Variation, over_runs, variation_of
from llmperf_core.judge import Estimate


def runs(*values: float, spread: float | None = 0.01) -> list[Estimate]:
    """Return repeats."""
    return [Estimate(value, spread, 19) for value in values]


def test_the_repeats_of_all_targets_are_taken_together() -> None:
    """The pooled variance of the logarithms, with a degree of freedom less for each target."""
    rng = np.random.default_rng(1)
    values = {f"t{k}": np.exp(rng.normal(k, 0.03, 3)) for k in range(200)}
    found = variation_of({name: [runs(*three)] for name, three in values.items()})
    pooled = math.sqrt(np.mean([np.log(three).var(ddof=1) for three in values.values()]))
    assert found.freedom == 400
    assert found.share == pytest.approx(pooled)
    assert found.share == pytest.approx(0.03, rel=0.1)
    assert found.measured
    assert "400 degrees of freedom" in str(found)


def test_the_loads_of_a_target_share_its_starts() -> None:
    """They add nothing to the freedom, and their variances are averaged."""
    loads = [runs(10, 11), runs(10, 10), runs(7)]
    found = variation_of({"a": loads, "b": [runs(3)]})
    assert found.freedom == 1
    assert found.share == pytest.approx(math.sqrt(np.log([10, 11]).var(ddof=1) / 2))


def test_without_repeats_a_variation_is_assumed() -> None:
    """And said to be, whatever it is."""
    assert variation_of({"a": [runs(1)]}) == Variation(share=BETWEEN_RUNS, freedom=None)
    found = variation_of({"a": [runs(1)]}, assumed=0.1)
    assert (found.share, found.measured) == (0.1, False)
    assert "10.0 % (standard deviation) is assumed" in str(found)


def test_what_is_assumed_comes_on_top() -> None:
    """A single run says only how far chance within it goes."""
    together = over_runs(runs(8, spread=0.03), Variation(share=0.04, freedom=None))
    assert together.value == pytest.approx(8)
    assert together.spread == pytest.approx(0.05)
    assert together.freedom == int(19 * (0.05 / 0.03) ** 4)
    exact = over_runs(runs(8, spread=0.0), Variation(share=0.0, freedom=None))
    assert (exact.spread, exact.freedom) == (0.0, 19)


def test_the_larger_of_the_two_counts_where_it_is_measured() -> None:
    """What differs from run to run has chance within the runs in it."""
    wide = over_runs(runs(8, 8, spread=0.1), Variation(share=0.02, freedom=10))
    assert wide.spread == pytest.approx(0.1 / math.sqrt(2))
    assert wide.freedom == 38
    narrow = over_runs(runs(8, 8, spread=0.001), Variation(share=0.02, freedom=10))
    assert narrow.spread == pytest.approx(0.02 / math.sqrt(2))
    assert narrow.freedom == 5
    assert over_runs(runs(8, 8), Variation(share=0.02, freedom=1)).freedom == 1


def test_figures_alone_have_no_spread() -> None:
    """Unless others' repeats show what differs from run to run."""
    alone = runs(8, spread=None)
    assert over_runs(alone, Variation(share=0.05, freedom=None)).spread is None
    assert over_runs(alone, Variation(share=0.05, freedom=4)).spread == pytest.approx(0.05)


@pytest.mark.parametrize("values", [(8.0,), (8.0, 18.0)])
def test_the_mean_is_geometric(values: tuple[float, ...]) -> None:
    """As ratios are what is compared."""
    together = over_runs(runs(*values), Variation(share=0.01, freedom=3))
    assert together.value == pytest.approx(math.prod(values) ** (1 / len(values)))
