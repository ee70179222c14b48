"""Ramps and steps: exact plans, and what they know of themselves."""

from itertools import islice, pairwise, takewhile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.load import OpenLoop, Planned, Ramp, Spread, Steps
from llmperf_core.units import NS_PER_S, ns_from_s

RATES = st.sampled_from([0.0, 0.1, 1.0, 7.3, 400.0])
SPREADS: st.SearchStrategy[Spread] = st.sampled_from(["poisson", "constant"])


def instants_s(load: OpenLoop, count: int) -> list[float]:
    """Return the first instants of a plan, in seconds."""
    return [at_ns / NS_PER_S for at_ns in islice(load.instants(np.random.default_rng(1)), count)]


def test_an_even_ramp_is_the_exact_inverse() -> None:
    """From 0 to 10/s in 10 s, t²/2 requests are expected by t: request k is due at √(2k)."""
    at_s = instants_s(Ramp(0, 10, duration_s=10, spread="constant"), 60)

    assert at_s[:51] == pytest.approx([(2 * k) ** 0.5 for k in range(51)], abs=1e-9)
    assert at_s[51:] == pytest.approx([10 + k / 10 for k in range(1, 10)], abs=1e-9)


def test_even_steps_go_on_with_the_last() -> None:
    """Two a second for a second, a pause of a second, four a second from then on."""
    steps = Steps(((2, 1), (0, 1), (4, 1)), spread="constant")

    assert instants_s(steps, 8) == [0, 0.5, 2, 2.25, 2.5, 2.75, 3, 3.25]


@pytest.mark.parametrize("spread", ["poisson", "constant"])
def test_a_ramp_down_to_nothing_ends(spread: Spread) -> None:
    """Its requests are those under the slope: 50 of them, give or take chance."""
    at_s = instants_s(Ramp(10, 0, duration_s=10, spread=spread), 1000)

    assert at_s[-1] <= 10
    assert len(at_s) == 50 if spread == "constant" else 20 < len(at_s) < 90


@given(RATES, RATES, SPREADS)
def test_instants_never_go_back(from_rps: float, to_rps: float, spread: Spread) -> None:
    """Whatever the rates, the plan is in order."""
    if from_rps or to_rps:
        at_s = instants_s(Ramp(from_rps, to_rps, duration_s=20, spread=spread), 500)
        assert all(earlier <= later for earlier, later in pairwise(at_s))


@given(RATES, RATES, st.floats(0, 30), st.floats(0, 30))
def test_an_even_plan_knows_how_many_it_has(
    from_rps: float, to_rps: float, a_s: float, b_s: float
) -> None:
    """What it says is what it yields, or one fewer; by chance, it says nothing."""
    if not (from_rps or to_rps):
        return
    low, high = sorted((ns_from_s(a_s), ns_from_s(b_s)))
    load = Ramp(from_rps, to_rps, duration_s=20, spread="constant")
    plan = takewhile(lambda at_ns: at_ns < high, load.instants(np.random.default_rng(0)))
    planned = load.planned(low, high)

    assert planned is not None
    assert sum(at_ns >= low for at_ns in plan) - planned in (-1, 0, 1)
    assert Ramp(from_rps, to_rps, duration_s=20).planned(low, high) is None


def test_steps_know_themselves() -> None:
    """The mean rate, the words for tables, and how many are due."""
    steps = Steps([(2, 30), (8, 10)], spread="constant")

    assert isinstance(steps, Planned)
    assert (steps.kind, steps.value, steps.label) == ("steps", 3.5, "steps 2, 8/s")
    assert steps.planned(ns_from_s(20), ns_from_s(40)) == 100
    assert Ramp(1, 20, duration_s=60).label == "ramp 1→20/s in 60 s"
    assert Ramp(1, 20, duration_s=60).value == 10.5


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], "above 0"),
        ([(0, 1)], "above 0"),
        ([(-1, 1), (1, 1)], "rates ≥ 0"),
        ([(1, 0)], "seconds > 0"),
        ([(float("inf"), 1)], "rates ≥ 0"),
    ],
)
def test_steps_that_cannot_be_are_refused(steps: list[tuple[float, float]], said: str) -> None:
    """The message says what is wanted and what was given."""
    with pytest.raises(ValueError, match=said):
        Steps(steps)


def test_ramps_that_cannot_be_are_refused() -> None:
    """A ramp between nothing and nothing, below 0, in no time, or spread in no known way."""
    for rates, options, said in (
        ((0, 0), {"duration_s": 1}, "both 0"),
        ((-1, 1), {"duration_s": 1}, "from_rps"),
        ((1, 2), {"duration_s": 0}, "duration_s"),
        ((1, 2), {"duration_s": 1, "spread": "gamma"}, "spread"),
    ):
        with pytest.raises(ValueError, match=said):
            Ramp(*rates, **options)
