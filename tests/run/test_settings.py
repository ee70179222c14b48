"""How a stage is measured: what cannot be is refused where it is said."""

from pathlib import Path

import pytest

from llmperf_core import Deadlines, Settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration_s", 0),
        ("duration_s", -1),
        ("requests", 0),
        ("warmup_s", -0.1),
        ("drain_s", -1),
        ("max_response_bytes", 0),
    ],
)
def test_setting_out_of_range_is_named(field: str, value: float) -> None:
    """The message holds the name and the value."""
    with pytest.raises(ValueError, match=field):
        Settings(**{field: value})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("field", ["connect_s", "first_token_s", "gap_s", "whole_s"])
def test_deadline_is_positive(field: str) -> None:
    """A deadline of nothing would fail every request."""
    with pytest.raises(ValueError, match=field):
        Deadlines(**{field: 0})


def test_something_must_end_the_stage() -> None:
    """Neither a duration nor a number of requests would measure for ever."""
    with pytest.raises(ValueError, match="give one"):
        Settings(duration_s=None)


def test_folder_may_be_a_string() -> None:
    """As most people write one."""
    assert Settings(folder="runs/x").folder == Path("runs/x")
