"""The search for the highest load that keeps its limits."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from attrs import evolve

from llmperf_core.decide import PercentileLimit, Search, Step
from llmperf_core.judge import Verdict
from llmperf_core.load import Concurrency, ConstantRate
from llmperf_core.timeline import Observation, Window
from llmperf_core.units import NS_PER_S
from tests.decide.stages import Stage, follow, judged, length_s, stage

LIMIT = PercentileLimit("ttft", 90, 100)


def exponential(rng: np.random.Generator, capacity: float) -> Callable[[Step], Stage]:
    """Return a server of 4 requests a second whose TTFT p90 is 100 ms at `capacity`, ∝ load."""

    def answer(step: Step) -> Stage:
        mean_ms = 100 / math.log(10) * step.load.value / capacity
        return stage(rng.exponential(mean_ms, size=round(4 * length_s(step))).tolist(), step)

    return answer


def test_it_finds_a_known_capacity() -> None:
    """The estimate is within 5 %, and the interval holds the truth, in 9 of 10 searches."""
    found = [
        follow(
            Search(limits=[LIMIT], start=3).plan(), exponential(np.random.default_rng(seed), 40)
        )[0]
        for seed in range(10)
    ]

    near = [
        capacity.value is not None and abs(capacity.value / 40 - 1) < 0.05 for capacity in found
    ]
    held = [(c.holds_at or 0) <= 40 <= (c.broken_at or math.inf) for c in found]
    assert sum(near) >= 9
    assert sum(held) >= 9


def test_a_lucky_pass_is_no_pass() -> None:
    """Exactly at its capacity a server stays undecided, however often the first look is good."""
    rng = np.random.default_rng(5)
    decided = []
    for _ in range(40):
        search = Search(limits=[LIMIT], start=40, least=40, most=40)
        capacity, _ = follow(search.plan(), exponential(rng, 40))
        decided.append(capacity.probes[0].holds)

    assert decided.count(True) <= 1
    assert decided.count(False) <= 1


def test_an_undecided_load_is_looked_at_for_twice_as_long() -> None:
    """Looks are 30, 60, 120 and 240 s long, and count together."""
    search = Search(limits=[LIMIT], start=40, least=40, most=40)
    capacity, steps = follow(search.plan(), lambda step: stage([99.0, 101.0] + [99.0] * 8, step))

    assert [step.duration_s for step in steps] == [30, 60, 120, 240]
    assert capacity.probes[0].requests == 40
    assert capacity.probes[0].duration_s == 450
    assert capacity.probes[0].holds is None


def test_one_broken_limit_is_enough() -> None:
    """All limits must hold; the one that is broken decides."""
    limits = [LIMIT, PercentileLimit("e2e", 50, 40)]
    capacity, _ = follow(
        Search(limits=limits, start=4, most=4, least=4).plan(),
        lambda step: stage([50.0] * 400, step),
    )

    assert capacity.probes[0].holds is False
    assert [seen.share for seen in capacity.probes[0].exceeding] == [0, 1]


def test_concurrency_is_searched_in_whole_numbers() -> None:
    """Of a closed loop the answer is a number of requests in flight, and the next one breaks it."""
    capacity, steps = follow(
        Search(limits=[LIMIT], by="concurrency").plan(),
        lambda step: stage([200.0 if step.load.value > 13 else 50.0] * 400, step),
    )

    assert {type(step.load) for step in steps} == {Concurrency}
    assert (capacity.holds_at, capacity.value, capacity.broken_at) == (13, 13, 14)
    assert str(capacity) == "ttft.p90=100: up to 13 in flight (13 holds, 14 does not)"


def test_a_server_that_keeps_its_limits_everywhere() -> None:
    """It is said that no limit was found up to the most that was tried."""
    capacity, _ = follow(
        Search(limits=[LIMIT], most=16).plan(), lambda step: stage([50.0] * 400, step)
    )

    assert (capacity.holds_at, capacity.value, capacity.broken_at) == (16, None, None)
    assert "still holds at 16 req/s" in str(capacity)


def test_a_server_that_keeps_its_limits_nowhere() -> None:
    """It is said which load was the least that was tried."""
    capacity, _ = follow(
        Search(limits=[LIMIT], least=0.5).plan(), lambda step: stage([500.0] * 400, step)
    )

    assert (capacity.holds_at, capacity.value, capacity.broken_at) == (None, None, 0.5)
    assert "not proved to hold at any load, 0.5 req/s included" in str(capacity)


def test_requests_outside_the_window_do_not_count() -> None:
    """The warm-up proves nothing."""

    def answer(step: Step) -> Stage:
        measured = stage([50.0] * 200 + [500.0] * 200, step)
        half = NS_PER_S * round(length_s(step)) // 2
        window = Window(open_at_ns=0, close_at_ns=half)
        seen = Observation(window=window, ended_at_ns=half, started_at="", client_cpu_ns=0)
        return judged(measured.timelines, seen, step)

    search = Search(limits=[LIMIT], arrivals=ConstantRate, start=2, least=2, most=2)
    capacity, _ = follow(search.plan(), answer)

    assert capacity.probes[0].holds is True
    assert capacity.probes[0].requests == 400, "200 of each of its two looks"
    assert capacity.kind == "constant"


def test_what_holds_is_looked_at_twice() -> None:
    """One good look proves nothing: a server near its capacity can be without a queue by luck."""

    def answer(step: Step) -> Stage:
        seen.append(length_s(step))
        late = 50.0 if len(seen) == 1 else 500.0
        return stage([late] * 400, step)

    seen: list[float] = []
    search = Search(limits=[LIMIT], start=4, least=4, most=4, duration_s=30)
    capacity, _ = follow(search.plan(), answer)

    assert capacity.probes[0].holds is not True
    assert seen[:2] == [30, 60]


def test_nothing_rests_on_an_invalid_stage() -> None:
    """A load that was measured badly does not hold, however good its numbers look."""

    def answer(step: Step) -> Stage:
        return evolve(stage([50.0] * 400, step), verdict=Verdict("invalid"))

    capacity, _ = follow(Search(limits=[LIMIT], start=4, least=4, most=4).plan(), answer)

    assert capacity.probes[0].holds is None
    assert capacity.holds_at is None


@pytest.mark.parametrize("wrong", [{"limits": []}, {"start": 0}, {"looks": 0}, {"tolerance": -1}])
def test_a_search_for_nothing_is_refused(wrong: dict[str, object]) -> None:
    """Bad numbers are refused when the search is described."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Search(**{"limits": [LIMIT], **wrong})  # type: ignore[arg-type]
