"""The hardware's times are what their parts add up to."""

from random import Random

import numpy as np
import pytest
from attrs import evolve

from llmperf_local.sim import Hardware
from tests.local.sim.machines import MACHINE


def test_a_step_is_the_sum_of_its_parts() -> None:
    """Base, sequences, context, and what it takes in of prompts."""
    assert MACHINE.prefill_ns(100) == 5_000_000 + 100_000_000
    assert MACHINE.decode_ns(3, 200) == 20_000_000 + 3_000_000 + 200_000
    assert MACHINE.decode_ns(3, 200, chunk_tokens=7) == MACHINE.decode_ns(3, 200) + 7_000_000


def test_a_scaled_machine_is_slower_in_one_thing() -> None:
    """Decoding and prefill are scaled apart, and nothing else changes."""
    slower = MACHINE.scaled(decode=1.05)
    assert slower.decode_ns(3, 200) == round(1.05 * MACHINE.decode_ns(3, 200))
    assert slower.prefill_ns(100) == MACHINE.prefill_ns(100)

    slower = MACHINE.scaled(prefill=2.0)
    assert slower.prefill_ns(100) == 2 * MACHINE.prefill_ns(100)
    assert slower.decode_ns(3, 200) == MACHINE.decode_ns(3, 200)
    assert slower.kv_tokens == MACHINE.kv_tokens


def test_jitter_leaves_the_mean_and_has_its_variation() -> None:
    """Over many steps, the mean is the step's time and the coefficient of variation the jitter."""
    machine, rng = evolve(MACHINE, jitter=0.2), Random(1)  # noqa: S311 -- chance, not secrets
    drawn = np.array([machine.with_jitter(1_000_000, rng) for _ in range(20_000)])

    assert drawn.mean() == pytest.approx(1_000_000, rel=0.01)
    assert drawn.std() / drawn.mean() == pytest.approx(0.2, rel=0.03)
    assert MACHINE.with_jitter(1_000_000, rng) == 1_000_000


@pytest.mark.parametrize(
    ("tokens", "size"), [(1, 1), (2, 2), (3, 4), (11, 8), (12, 16), (754, 1024)]
)
def test_sizes_are_powers_of_two(tokens: int, size: int) -> None:
    """The nearest on a logarithmic scale."""
    assert Hardware.tuned_size(tokens) == size


def test_a_machine_that_cannot_be_is_refused() -> None:
    """A speed of nothing, or a time below nothing, is an error of the caller."""
    with pytest.raises(ValueError, match="prefill_tokens_per_s"):
        evolve(MACHINE, prefill_tokens_per_s=0)
    with pytest.raises(ValueError, match="jitter"):
        evolve(MACHINE, jitter=-0.1)
