"""Recorded arrivals, and the share of each worker."""

from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.load import Poisson, Replay, part_of_plan
from llmperf_core.units import NS_PER_S


def test_recorded_instants_are_replayed() -> None:
    """As they were, whatever the seed; and how many there are is known."""
    replay = Replay([0, NS_PER_S, NS_PER_S, 4 * NS_PER_S], output_tokens=[1, 2, 3, 4])

    assert list(replay.instants(np.random.default_rng(0))) == [0, NS_PER_S, NS_PER_S, 4 * NS_PER_S]
    assert (replay.kind, replay.value, replay.label) == ("replay", 0.75, "replay of 4, 0.75/s")
    assert replay.planned(0, NS_PER_S) == 1
    assert replay.planned(NS_PER_S, 4 * NS_PER_S + 1) == 3
    assert replay.output_tokens == (1, 2, 3, 4)
    assert repr(replay) == "Replay(at_ns=<4 instants>)"


def test_instants_that_are_one_have_a_value() -> None:
    """A rate over no time would be endless."""
    assert Replay([5, 5]).value == 2


def test_records_that_cannot_be_are_refused() -> None:
    """Nothing, before the start, going back, or lengths of another number."""
    with pytest.raises(ValueError, match="at_ns"):
        Replay([])
    for at_ns in ([-1], [2, 1]):
        with pytest.raises(ValueError, match="never go back"):
            Replay(at_ns)
    with pytest.raises(ValueError, match="'input_tokens' has 1 for 2 instants"):
        Replay([1, 2], input_tokens=[7])


@given(st.integers(1, 9), st.integers(0, 50))
def test_workers_share_a_plan_out(workers: int, count: int) -> None:
    """Together they start each request once, and nobody starts another's."""
    plan = list(islice(Poisson(5).instants(np.random.default_rng(3)), count))
    parts = [list(part_of_plan(plan, worker=k, workers=workers)) for k in range(workers)]

    assert sorted(chain.from_iterable(parts)) == list(enumerate(plan))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("worker", [-1, 2])
def test_a_worker_that_is_not_there_is_refused(worker: int) -> None:
    """It would start what is nobody's, or nothing."""
    with pytest.raises(ValueError, match=f"no worker {worker} of 2"):
        part_of_plan([], worker=worker, workers=2)
