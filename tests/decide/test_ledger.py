"""A budget is never exceeded, however things go on beside each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.decide.ledger import Ledger
from llmperf_core.errors import BudgetError

AMOUNTS = st.floats(0, 100, allow_nan=False)


@given(
    max_usd=AMOUNTS,
    spent_usd=st.floats(0, 20),
    jobs=st.lists(st.tuples(AMOUNTS, st.floats(0, 1), st.booleans()), max_size=30),
)
def test_no_order_of_reservations_exceeds_the_budget(
    max_usd: float, spent_usd: float, jobs: list[tuple[float, float, bool]]
) -> None:
    """Each job holds its worst case and costs a share of it; some end before the next begins."""
    ledger = Ledger(max_usd, spent_usd=spent_usd)
    under_way: list[tuple[str, float]] = []
    for number, (worst_usd, share, one_ends) in enumerate(jobs):
        name = f"job {number}"
        covered = ledger.covers(worst_usd)
        try:
            ledger.reserve(name, worst_usd)
        except BudgetError:
            assert not covered
        else:
            under_way.append((name, worst_usd * share))
            assert ledger.spent_usd + ledger.held_usd <= max_usd * (1 + 1e-12)
        if one_ends and under_way:
            ledger.settle(*under_way.pop(0))
    for name, usd in under_way:
        ledger.settle(name, usd)

    assert ledger.held_usd == 0
    assert ledger.spent_usd <= max(max_usd, spent_usd) * (1 + 1e-12)


def test_what_others_leave_may_cover_it_later() -> None:
    """What is held may turn out to be unspent; what is spent is gone."""
    ledger = Ledger(10)
    ledger.reserve("first", 8)

    assert not ledger.covers(3)
    assert ledger.may_cover_later(3)
    ledger.settle("first", 7.5)
    assert not ledger.may_cover_later(3)
    assert ledger.covers(2.5)


def test_a_refusal_says_the_arithmetic() -> None:
    """What it could cost, what is spent and held, and what is allowed."""
    ledger = Ledger(10, spent_usd=2)
    ledger.reserve("first", 3)
    with pytest.raises(BudgetError) as raised:
        ledger.reserve("second", 6)

    said = str(raised.value)
    assert "second could cost 6.00 USD, with 2.00 USD spent and 3.00 USD held for others" in said
    assert "10.00 USD are allowed" in said


def test_without_a_limit_everything_is_covered() -> None:
    """And what it costs is added up all the same."""
    ledger = Ledger()
    ledger.reserve("first", 1e9)
    ledger.settle("first", 5)

    assert ledger.may_cover_later(1e12)
    assert ledger.spent_usd == 5
