"""Comparing simulated servers, as `benchmarks/comparison.py` does it a hundred times."""

from benchmarks.comparison import Simulated, study
from llmperf_local.sim.presets import preset


def test_a_slower_decode_is_found_and_the_same_is_not_called_different() -> None:
    """Of five pairs each: one false alarm at most, every 5 % found, and less said beforehand."""
    server = Simulated(preset("llama-2-7b@ml.g5.12xlarge"), 5)
    alarms, found, _, largest = study(server, 5)
    assert (alarms <= 1, found) == (True, 5)
    assert largest < 0.05
