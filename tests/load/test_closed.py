"""The closed loop."""

import pytest

from llmperf_core.load import ClosedLoop, Concurrency, OpenLoop


def test_concurrency_is_a_closed_loop() -> None:
    """It says how many slots to keep busy, and plans no instants."""
    load = Concurrency(20)

    assert isinstance(load, ClosedLoop)
    assert not isinstance(load, OpenLoop)
    assert (load.kind, load.value, load.slots) == ("concurrency", 20, 20)


@pytest.mark.parametrize("slots", [0, -1])
def test_no_slots_are_refused(slots: int) -> None:
    """Without a slot nothing would ever be sent."""
    with pytest.raises(ValueError, match="slots"):
        Concurrency(slots)


def test_half_a_slot_is_refused() -> None:
    """Requests are counted in whole numbers."""
    with pytest.raises(TypeError, match="slots"):
        Concurrency(1.5)  # type: ignore[arg-type] # that is what is tested
