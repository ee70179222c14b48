"""Open loops: planned instants, whatever the server does."""

import math
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.load import ClosedLoop, ConstantRate, OpenLoop, Poisson
from llmperf_core.units import NS_PER_S

RATES_RPS = st.floats(1e-3, 1e6)
EVENTS = 100_000


def error_ns(planned_at_ns: int, k: int, rate_rps: float) -> Fraction:
    """Return how far an instant is from k / rate, beyond what rounding it once explains.

    Rounding costs half a nanosecond, and half a step of a float that large.
    """
    exact = Fraction(k * NS_PER_S) / Fraction(rate_rps)
    explained = Fraction(1, 2) + Fraction(math.ulp(float(exact))) / 2
    return max(abs(planned_at_ns - exact) - explained, Fraction(0))


def poisson_ns(rate_rps: float, seed: int, count: int) -> list[int]:
    """Return the first instants of a Poisson process."""
    return list(islice(Poisson(rate_rps).instants(np.random.default_rng(seed)), count))


@pytest.mark.parametrize("load", [ConstantRate(5), Poisson(5)])
def test_a_rate_is_an_open_loop(load: ConstantRate | Poisson) -> None:
    """It plans instants, and keeps no slots."""
    assert isinstance(load, OpenLoop)
    assert not isinstance(load, ClosedLoop)
    assert load.kind == {ConstantRate: "constant", Poisson: "poisson"}[type(load)]
    assert load.value == 5


@pytest.mark.parametrize("profile", [ConstantRate, Poisson])
@pytest.mark.parametrize("rate_rps", [0, -1, math.nan, math.inf])
def test_a_rate_that_cannot_be_is_refused(
    profile: type[ConstantRate | Poisson], rate_rps: float
) -> None:
    """Nothing would ever be due, or everything at once and without end."""
    with pytest.raises(ValueError, match="rate_rps"):
        profile(rate_rps)


@given(RATES_RPS)
def test_constant_instants_are_exact(rate_rps: float) -> None:
    """Request k is due at k / rate, to the nanosecond, whatever the rate."""
    instants = ConstantRate(rate_rps).instants(np.random.default_rng(0))

    assert [error_ns(at_ns, k, rate_rps) for k, at_ns in enumerate(islice(instants, 50))] == [
        0
    ] * 50


@pytest.mark.parametrize("rate_rps", [1 / 3, 7, 999.9, 1e6])
def test_constant_instants_do_not_drift(rate_rps: float) -> None:
    """After a million gaps an instant is as exact as the first."""
    stride = 997
    instants = ConstantRate(rate_rps).instants(np.random.default_rng(0))
    sampled = islice(instants, 0, 1_000_001, stride)

    assert {error_ns(at_ns, k * stride, rate_rps) for k, at_ns in enumerate(sampled)} == {0}


@given(RATES_RPS, st.integers(0, 2**63))
def test_a_seed_gives_the_same_poisson_instants_again(rate_rps: float, seed: int) -> None:
    """The same generator state plans the same run, and another plans another."""
    instants = poisson_ns(rate_rps, seed, 50)

    assert instants == poisson_ns(rate_rps, seed, 50)
    assert instants != poisson_ns(rate_rps, seed + 1, 50)


@given(RATES_RPS, st.integers(0, 2**63))
def test_poisson_instants_never_go_back(rate_rps: float, seed: int) -> None:
    """Instants come in order, also where one batch of draws follows another."""
    instants = poisson_ns(rate_rps, seed, 1100)

    assert instants[0] >= 0
    assert all(earlier <= later for earlier, later in pairwise(instants))


@pytest.mark.parametrize("rate_rps", [0.25, 10, 3000])
def test_poisson_gaps_have_the_mean_that_was_asked(rate_rps: float) -> None:
    """In the long run the rate is the one that was asked for."""
    last_at_ns = poisson_ns(rate_rps, 1, EVENTS)[-1]

    # A mean of n exponential gaps spreads by 1 / √n: 0.32 % here, and five of those are let pass.
    assert last_at_ns * rate_rps / NS_PER_S / EVENTS == pytest.approx(1, rel=5 / math.sqrt(EVENTS))


@pytest.mark.parametrize("rate_rps", [0.25, 10, 3000])
def test_poisson_counts_are_as_dispersed_as_independent_users(rate_rps: float) -> None:
    """Counts in equal bins have a variance equal to their mean: neither regular nor in bursts."""
    per_bin = 10
    bins = EVENTS // per_bin * 9 // 10  # the last instant falls short of the last bins
    bin_ns = per_bin / rate_rps * NS_PER_S
    at_ns = np.array(poisson_ns(rate_rps, 2, EVENTS))
    counts = np.bincount((at_ns // bin_ns).astype(int))[:bins]

    # For a Poisson process (m − 1) · variance / mean follows χ² with m − 1 degrees of freedom, so
    # the index spreads by √(2 / (m − 1)): 0.015 here, and five of those are let pass. A constant
    # rate has an index near 0; gaps from a gamma distribution of shape 2 have one of 0.5.
    index = counts.var(ddof=1) / counts.mean()
    assert index == pytest.approx(1, abs=5 * math.sqrt(2 / (bins - 1)))
