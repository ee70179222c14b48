"""What a study would take: seconds, dollars, and the order."""

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.bringup import BringUp, Finding, Price, Quota
from llmperf_core.decide.cells import Question
from llmperf_core.decide.plan import Plan, PlannedBringUp, StageTime, in_order, stage_time
from llmperf_core.load import Concurrency, LoadProfile, Poisson
from llmperf_core.run import Settings
from llmperf_core.workload import Fixed

SETTINGS = Settings(duration_s=30, warmup_s=2, drain_s=60)
BY_REQUESTS = Settings(duration_s=None, requests=10, warmup_s=0, drain_s=60)
QUESTION = Question(
    loads=[Concurrency(1), Concurrency(5)], workload=Fixed("llamas"), settings=SETTINGS, repeats=2
)
PRICE = Price(usd_per_h=36.0, as_of="2026-11-25", source="a list")


def bring_up(
    name: str, *, usd_per_h: float | None = None, findings: tuple[Finding, ...] = ()
) -> PlannedBringUp:
    """Return one that costs a cent a second at 36 USD/h, and comes in 100 s, at worst in 200."""
    cells = QUESTION.cells(name, {"target": name})
    return PlannedBringUp(
        target=name,
        cells=cells,
        times=tuple(stage_time(cell.load, SETTINGS) for cell in cells),
        bring_up=BringUp(expected_s=100, limit_s=200, removal_s=50),
        price=None if usd_per_h is None else evolve(PRICE, usd_per_h=usd_per_h),
        paid=usd_per_h is not None,
        findings=findings,
    )


@pytest.mark.parametrize(
    ("load", "settings", "expected_s", "worst_s"),
    [
        (Concurrency(5), SETTINGS, 32, 32 + 60 + 30),
        (Poisson(2), SETTINGS, 32, 32 + 60 + 30),
        # Ten requests over four slots are three rounds of the longest answer.
        (Concurrency(4), BY_REQUESTS, None, 3 * 600 + 60 + 30),
        (Poisson(2), BY_REQUESTS, None, 2 * 10 / 2 + 600 + 60 + 30),
    ],
)
def test_a_stage_takes_its_window_and_at_worst_its_drain(
    load: LoadProfile, settings: Settings, expected_s: float | None, worst_s: float
) -> None:
    """Where requests end it, only the worst case is known beforehand."""
    time = stage_time(load, settings)

    assert (time.expected_s, time.worst_s) == (expected_s, worst_s)


def test_a_bring_up_is_its_coming_its_stages_and_its_going() -> None:
    """In seconds, and at a cent a second in dollars."""
    one = bring_up("a", usd_per_h=36)

    assert one.expected_s == 100 + 4 * 32
    assert one.measuring_s == 4 * (32 + 60 + 30)
    assert one.worst_s == 200 + one.measuring_s + 50
    assert one.expected_usd == pytest.approx(2.28)
    assert one.worst_usd == pytest.approx(one.worst_s / 100)


@given(
    usd_per_h=st.floats(0.01, 100),
    limit_s=st.floats(0, 5_000),
    removal_s=st.floats(0, 1_000),
    stages_s=st.lists(st.floats(1, 1_000), min_size=1, max_size=20),
)
def test_a_target_that_adds_up_otherwise_does_not_refuse_what_it_is_allowed(
    usd_per_h: float, limit_s: float, removal_s: float, stages_s: list[float]
) -> None:
    """Each backend reckons its worst case itself; a rounding error is no reason."""
    one = evolve(
        bring_up("a", usd_per_h=usd_per_h),
        times=tuple(StageTime(None, worst_s) for worst_s in stages_s),
        bring_up=BringUp(expected_s=0, limit_s=limit_s, removal_s=removal_s),
    )
    its_own = usd_per_h * (limit_s + one.measuring_s + removal_s) / 3600
    piecewise = sum(usd_per_h / 3600 * s for s in (removal_s, *stages_s, limit_s))

    assert max(its_own, piecewise) <= one.worst_usd
    assert one.worst_usd == pytest.approx(its_own)


def test_what_is_not_known_is_none() -> None:
    """A target that says nothing of its bring-up takes none; requests may take any time."""
    cells = QUESTION.cells("a", {})
    times = tuple(stage_time(cell.load, BY_REQUESTS) for cell in cells)
    one = PlannedBringUp(target="a", cells=cells, times=times, price=PRICE)

    assert one.expected_s is None
    assert one.expected_usd is None
    assert one.worst_s == one.measuring_s
    assert Plan(bring_ups=(one,)).expected_s is None
    assert Plan(bring_ups=(one,)).expected_usd is None
    assert "–, at worst" in str(one)


def test_what_costs_least_comes_first() -> None:
    """What costs nothing, then the cheapest; what would be refused is last."""
    refused = bring_up("refused", usd_per_h=1, findings=(Finding(detail="no quota", refused=True),))
    dear, cheap = bring_up("dear", usd_per_h=36), bring_up("cheap", usd_per_h=1)
    plan = Plan(bring_ups=in_order([refused, dear, bring_up("free"), cheap]), parallel=2)

    assert [one.target for one in plan.bring_ups] == ["free", "cheap", "dear", "refused"]
    assert [one.target for one in plan.runnable] == ["free", "cheap", "dear"]
    assert [one.target for one in plan.paid] == ["cheap", "dear"]
    assert plan.cells == 12
    assert plan.worst_usd == pytest.approx(dear.worst_usd + cheap.worst_usd)
    assert plan.expected_usd == pytest.approx(2.28 + 2.28 / 36)


@pytest.mark.parametrize(("parallel", "rounds"), [(1, 3), (2, 2), (3, 1), (9, 1)])
def test_only_what_costs_money_is_up_beside_each_other(parallel: int, rounds: int) -> None:
    """The others are measured before, one at a time."""
    free = (bring_up("a"), bring_up("b"))
    paid = tuple(bring_up(name, usd_per_h=36) for name in "cde")
    plan = Plan(bring_ups=(*free, *paid), parallel=parallel)

    assert plan.expected_s == (2 + rounds) * 228
    assert plan.worst_s == (2 + rounds) * paid[0].worst_s


def test_the_smallest_quota_holds() -> None:
    """One of nothing left would be refused; where it is not, one is tried at a time."""

    def limited(name: str, available: int) -> PlannedBringUp:
        quota = Quota(name="ml.g5.2xlarge", available=available)
        return bring_up(name, usd_per_h=1, findings=(Finding(detail="quota", quota=quota),))

    plan = Plan(
        bring_ups=(limited("a", 3), limited("b", 2), bring_up("c", usd_per_h=1)), parallel=4
    )

    assert plan.limits == {"parallel": 4, "ml.g5.2xlarge": 2}
    assert plan.bring_ups[0].quotas == ("ml.g5.2xlarge",)
    assert Plan(bring_ups=(limited("a", 0),)).limits["ml.g5.2xlarge"] == 1
    warned = bring_up("d", usd_per_h=1, findings=(Finding(detail="tight"),))
    assert Plan(bring_ups=(warned,)).limits == {"parallel": 1}


def test_the_plan_is_read_as_text() -> None:
    """Each bring-up with its stages, its price with date and source, its findings; the totals."""
    dear = bring_up("dear", usd_per_h=36, findings=(Finding(detail="tight: little is left"),))
    refused = bring_up("refused", findings=(Finding(detail="no quota", refused=True),))
    said = repr(Plan(bring_ups=(dear, refused)))

    assert "dear: 4 stages (concurrency 1, concurrency 5)" in said
    assert "3.80 min, at worst 12.3 min" in said
    assert "2.28 USD, at worst 7.38 USD (36 USD/h on 2026-11-25, a list)" in said
    assert "  tight: little is left" in said
    assert "  refused: no quota" in said
    assert "4 cells in 1 bring-ups" in said
    assert "it costs 2.28 USD, at worst 7.38 USD" in said


def test_what_is_measured_is_said_and_costs_nothing() -> None:
    """All of a target's cells, or some."""
    whole = bring_up("a", usd_per_h=36)
    half = evolve(whole, cells=whole.cells[2:], times=whole.times[2:], done=2)
    done = evolve(whole, cells=(), times=(), done=4)
    plan = Plan(bring_ups=(half, done))

    assert "2 stages (concurrency 1, concurrency 5), 2 are measured already" in repr(plan)
    assert "a: all 4 cells are measured" in repr(plan)
    assert plan.worst_usd == pytest.approx(half.worst_usd)
    assert "costs" not in repr(Plan(bring_ups=(done,)))
    assert "USD" not in str(bring_up("free"))


def test_the_plan_is_a_document() -> None:
    """The same in JSON types."""
    plan = Plan(bring_ups=(bring_up("a", usd_per_h=36), bring_up("b")))
    document = json.loads(json.dumps(plan.to_dict()))

    assert document["schema"] == "llmperf.plan/1"
    assert (document["cells"], document["bring_ups"]) == (8, 2)
    first, second = document["targets"]
    assert first["price"]["usd_per_h"] == 36
    assert second["price"] is None
    assert first["stages"][0]["worst_s"] == 122
