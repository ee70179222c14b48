"""The sweep from idle to saturation."""

import pytest

from llmperf_core.decide import Saturation, SaturationPoint, Step
from tests.decide.stages import Stage, follow, length_s, stage


def sweep(how: Saturation, capacity: float) -> SaturationPoint:
    """Sweep a server that serves 10 tokens a second and slot, and no more than `capacity`."""

    def answer(step: Step) -> Stage:
        tokens_per_s = min(10 * step.load.value, capacity)
        return stage([0.0] * round(tokens_per_s * length_s(step)), step)

    found, _ = follow(how.plan(), answer)
    return found


def test_it_doubles_until_nothing_is_gained() -> None:
    """The stage that shows that more brings nothing is the last."""
    found = sweep(Saturation(), 100)

    assert found.saturated
    assert found.tokens_per_s == ((1, 10), (2, 20), (4, 40), (8, 80), (16, 100), (32, 100))
    assert found.slots == 16


def test_the_least_concurrency_that_is_as_good_is_named() -> None:
    """A gain within the margin does not call for twice the requests in flight."""
    assert sweep(Saturation(gain=0.3), 100).slots == 8


def test_a_server_that_is_not_saturated_by_the_most() -> None:
    """It is said that the end was not seen."""
    found = sweep(Saturation(most=4), 100)

    assert (found.slots, found.saturated) == (4, False)


def test_a_server_that_answers_nothing_is_saturated_at_once() -> None:
    """No tokens at all is nothing gained."""
    assert sweep(Saturation(), 0) == SaturationPoint(
        slots=1, saturated=True, tokens_per_s=((1, 0.0),)
    )


@pytest.mark.parametrize("wrong", [{"most": 0}, {"gain": 0}, {"duration_s": 0}])
def test_a_sweep_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    """Bad numbers are refused when the sweep is described."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Saturation(**wrong)
