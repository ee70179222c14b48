"""How faults are played, as moves: in each dialect, for answers of any length and by timeline."""

from itertools import islice

import pytest

from llmperf_core.testing import DIALECTS, FAULTS, Dialect, Fault
from llmperf_core.testing.answer import Answer, Move

CASES = [
    pytest.param(dialect, fault, id=f"{dialect.name}-{fault.name}")
    for dialect in DIALECTS.values()
    for fault in FAULTS.values()
    if fault.play and fault.fits(dialect)
]


def answers(dialect: Dialect) -> list[Answer]:
    """Return answers of one token and of several, and one by timeline."""
    timeline: list[tuple[int, bytes | int]] = [(0, b": hm\n\n"), (5, 2), (9, 1)]
    return [
        Answer(dialect=dialect, tokens=1, first_ns=10, gap_ns=10),
        Answer(dialect=dialect, tokens=6, first_ns=10, gap_ns=10, usage=True),
        Answer(dialect=dialect, tokens=3, first_ns=10, gap_ns=10, timeline=timeline),
    ]


def moves_of(fault: Fault, answer: Answer) -> list[Move]:
    """Return the moves, or the first of them if they have no end."""
    assert fault.play is not None
    return list(islice(fault.play(answer), 5000))


@pytest.mark.parametrize(("dialect", "fault"), CASES)
def test_each_fault_can_be_played(dialect: Dialect, fault: Fault) -> None:
    """Time goes on, bytes are sent, and only what is whole has all its tokens."""
    for answer in answers(dialect):
        moves = moves_of(fault, answer)
        sent = b"".join(move.data(1) for move in moves)
        tokens = sum(move.tokens for move in moves)

        assert all(move.after_ns >= 0 for move in moves)
        assert all(move.then == "go on" for move in moves[:-1])
        assert bool(sent) is (fault.name not in SILENT)
        if fault.outcome == "completed":
            assert tokens == answer.tokens
        elif fault.name != "endless":
            assert tokens <= max(1, answer.tokens)


SILENT = {"reset-before-headers", "close-before-headers", "stall-before-headers"}
