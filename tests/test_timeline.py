"""The one record of one request."""

import numpy as np
import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.timeline import (
    Censored,
    Completed,
    Failed,
    Outcome,
    Timeline,
    Window,
    int64,
)

# A request of a closed loop that completed.
USUAL = Timeline(
    index=0, due_at_ns=None, sent_at_ns=10, ended_at_ns=90, outcome=Completed("length")
)


@pytest.mark.parametrize(
    ("due_at_ns", "sent_at_ns", "start_at_ns"),
    [(None, 10, 10), (4, 10, 4), (0, 10, 0), (4, None, 4), (None, None, None)],
)
def test_start_is_due_in_an_open_loop_and_sent_in_a_closed_one(
    due_at_ns: int | None, sent_at_ns: int | None, start_at_ns: int | None
) -> None:
    """A request that was due late counts from when it was due, even at the run's zero."""
    assert evolve(USUAL, due_at_ns=due_at_ns, sent_at_ns=sent_at_ns).start_at_ns == start_at_ns


@pytest.mark.parametrize(
    ("outcome", "completed"),
    [(Completed(), True), (Failed("refused"), False), (Censored(), False)],
)
def test_only_a_whole_answer_is_completed(outcome: Outcome, *, completed: bool) -> None:
    """Neither a failure nor a request that was cut off by the end of the stage is complete."""
    assert evolve(USUAL, outcome=outcome).completed is completed


@given(st.lists(st.integers(1, 3), max_size=20))
def test_coalesced_tokens_are_those_without_an_instant_of_their_own(reads: list[int]) -> None:
    """Each read gives one instant to its first token; all its further tokens are coalesced."""
    token_at_ns = np.repeat(np.arange(len(reads)) * 100, reads)

    assert evolve(USUAL, token_at_ns=token_at_ns).coalesced == sum(reads) - len(reads)


def test_arrays_are_whole_nanoseconds_and_read_only() -> None:
    """Whatever sequence comes in, int64 is kept, and nobody can change it."""
    record = evolve(USUAL, token_at_ns=[20, 30], read_lag_ns=(1, 2))

    for array in (record.token_at_ns, record.read_lag_ns, USUAL.token_at_ns):
        assert array.dtype == np.int64
        assert array.ndim == 1
        assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        record.token_at_ns[0] = 0


def test_the_array_that_came_in_stays_its_owners() -> None:
    """A record copies: to change the source later changes nothing, and it stays writeable."""
    source = np.array([20, 30])
    record = evolve(USUAL, token_at_ns=source)
    source[0] = 0

    assert record.token_at_ns.tolist() == [20, 30]
    assert int64(record.token_at_ns).tolist() == [20, 30]


def test_a_record_is_frozen() -> None:
    """What was measured is not changed afterwards."""
    with pytest.raises(FrozenInstanceError):
        USUAL.ended_at_ns = 0  # type: ignore[misc] # that is what is tested


def test_records_share_no_mutable_default() -> None:
    """Each request has a mapping of its own for what the server reports."""
    first, second = (
        Timeline(index=i, due_at_ns=0, sent_at_ns=None, ended_at_ns=0, outcome=Censored())
        for i in range(2)
    )

    assert first.server_ns is not second.server_ns


def test_a_window_holds_its_opening_and_not_its_close() -> None:
    """Windows that touch share no instant and leave none out."""
    window = Window(open_at_ns=10, close_at_ns=20)

    assert [at_ns for at_ns in range(25) if at_ns in window] == list(range(10, 20))
    assert window.duration_ns == 10
