"""Arrival processes pass the tests of their own law."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice

import numpy as np
import numpy.typing as npt
import pytest

from llmperf_core.load import ConstantRate, Gamma, OpenLoop, Poisson, Ramp, Steps, part_of_plan
from llmperf_core.units import NS_PER_S

EVENTS = 20_000
SEEDS = range(5)
LEAST_P = 1e-4
"""A true process falls below it once in 10,000 seeds, and the seeds here are fixed."""


def instants_s(load: OpenLoop, seed: int, count: int = EVENTS) -> npt.NDArray[np.float64]:
    """Return the first instants of a plan, in seconds."""
    planned_ns = islice(load.instants(np.random.default_rng(seed)), count)
    return np.fromiter((at_ns / NS_PER_S for at_ns in planned_ns), dtype=np.float64)


def kolmogorov_p(values: npt.NDArray[np.float64], cdf: Callable[[float], float]) -> float:
    """Return the p-value of the Kolmogorov–Smirnov test against a distribution.

    Source: Kolmogorov (1933), the asymptotic series: 2 Σ (−1)^(k−1) exp(−2 k² n D²).
    """
    n = values.size
    expected = np.array([cdf(value) for value in np.sort(values)])
    ranks = np.arange(n + 1) / n
    distance = float(max(np.max(ranks[1:] - expected), np.max(expected - ranks[:-1])))
    terms = [(1 if k % 2 else -1) * math.exp(-2 * k * k * n * distance**2) for k in range(1, 100)]
    return 2 * sum(terms)


def dispersion(
    at_s: Sequence[float] | npt.NDArray[np.float64], window_s: float
) -> tuple[float, int]:
    """Return variance ÷ mean of the counts in equal windows, and how many windows there were."""
    whole = int(at_s[-1] // window_s)
    counts = np.bincount((np.asarray(at_s) // window_s).astype(int))[:whole]
    return float(counts.var(ddof=1) / counts.mean()), whole


def exponential(rate_rps: float) -> Callable[[float], float]:
    """Return the distribution of the gaps of a Poisson process."""
    return lambda gap_s: -math.expm1(-rate_rps * gap_s)


GAMMA_CDF: dict[float, Callable[[float], float]] = {
    0.5: lambda x: math.erf(math.sqrt(x)),
    1.0: lambda x: -math.expm1(-x),
    2.0: lambda x: 1 - (1 + x) * math.exp(-x),
    4.0: lambda x: 1 - math.exp(-x) * (1 + x + x**2 / 2 + x**3 / 6),
}
"""By shape, for scale 1. Source: NIST DLMF 8.4 and 8.6."""


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_gaps_are_exponential(seed: int) -> None:
    """Kolmogorov and Smirnov find no fault with the gaps."""
    gaps_s = np.diff(instants_s(Poisson(8), seed), prepend=0)

    assert kolmogorov_p(gaps_s, exponential(8)) > LEAST_P
    assert kolmogorov_p(gaps_s, exponential(8.5)) < LEAST_P, "and the test can see 6 %"


@pytest.mark.parametrize("shape", GAMMA_CDF)
@pytest.mark.parametrize("seed", SEEDS)
def test_gamma_gaps_follow_their_law(seed: int, shape: float) -> None:
    """For bursts, for Poisson, and for even gaps."""
    gaps = np.diff(instants_s(Gamma(8, shape), seed), prepend=0) * 8 * shape

    assert kolmogorov_p(gaps, GAMMA_CDF[shape]) > LEAST_P
    others = [cdf for other, cdf in GAMMA_CDF.items() if other != shape]
    assert all(kolmogorov_p(gaps, cdf) < LEAST_P for cdf in others)


@pytest.mark.parametrize("shape", GAMMA_CDF)
def test_gamma_has_the_rate_that_was_asked(shape: float) -> None:
    """Bursts change when requests come, and not how many."""
    last_s = instants_s(Gamma(8, shape), 1)[-1]

    # The mean of n gaps spreads by 1 / √(n · shape); five of those are let pass.
    assert last_s * 8 / EVENTS == pytest.approx(1, rel=5 / math.sqrt(EVENTS * shape))


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("window_s", [1, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_is_one_process_however_many_workers(
    seed: int, window_s: float, workers: int
) -> None:
    """What all workers start together has an index of dispersion of 1, at 1 s and at 10 s."""
    plan = islice(Poisson(8).instants(np.random.default_rng(seed)), EVENTS)
    everything = list(plan)
    parts = [part_of_plan(everything, worker=k, workers=workers) for k in range(workers)]
    started = sorted(at_ns / NS_PER_S for _, at_ns in chain.from_iterable(parts))
    index, windows = dispersion(started, window_s)

    assert index == pytest.approx(1, abs=4 * math.sqrt(2 / (windows - 1)))


def test_bursts_are_more_dispersed_and_even_gaps_less() -> None:
    """In the long run the index of dispersion of a renewal process is 1 ÷ shape."""
    for shape in GAMMA_CDF:
        index, _ = dispersion(instants_s(Gamma(8, shape), 3, 200_000), 10)
        assert index == pytest.approx(1 / shape, rel=0.1)


@pytest.mark.parametrize("rate_rps", [0.3, 7, 1000])
def test_constant_gaps_are_constant(rate_rps: float) -> None:
    """The coefficient of variation of the planned gaps is that of rounding to a nanosecond."""
    gaps_s = np.diff(instants_s(ConstantRate(rate_rps), 0))

    assert gaps_s.std() / gaps_s.mean() < 0.01
    assert gaps_s.std() < 1e-9


def transformed(load: Ramp | Steps, seed: int, expected: Callable[[float], float]) -> float:
    """Return the p-value of the gaps after time was stretched so that the rate is 1."""
    at_s = instants_s(load, seed)
    return kolmogorov_p(np.diff([expected(x) for x in at_s], prepend=0), exponential(1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("from_rps", "to_rps"), [(1, 20), (20, 1), (0, 30), (5, 5)])
def test_a_poisson_ramp_has_the_rate_of_the_ramp(seed: int, from_rps: float, to_rps: float) -> None:
    """With time stretched by the rate, the gaps are exponential with mean 1."""

    def expected(at_s: float) -> float:
        inside = min(at_s, 600)
        rises = from_rps * inside + (to_rps - from_rps) * inside**2 / 1200
        return rises + to_rps * max(at_s - 600, 0)

    assert transformed(Ramp(from_rps, to_rps, duration_s=600), seed, expected) > LEAST_P


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_steps_have_the_rates_of_the_steps(seed: int) -> None:
    """Also over a pause, and after the last step."""
    steps = ((2, 300), (0, 100), (16, 300))

    def expected(at_s: float) -> float:
        return 2 * min(at_s, 300) + 16 * max(at_s - 400, 0)

    assert transformed(Steps(steps), seed, expected) > LEAST_P
    assert not any(300 <= at_s < 400 for at_s in instants_s(Steps(steps), seed))


def counted(instants: Iterable[float], low: float, high: float) -> int:
    """Return how many of the instants lie in a stretch."""
    return sum(low <= at < high for at in instants)


def test_an_even_ramp_starts_what_is_expected() -> None:
    """In every second as many requests as the area under the rate, give or take one."""
    at_s = instants_s(Ramp(1, 20, duration_s=60, spread="constant"), 0, 2000)

    for second in range(90):
        middle = 1 + 19 * (second + 0.5) / 60 if second < 60 else 20
        assert abs(counted(at_s, second, second + 1) - middle) <= 1
