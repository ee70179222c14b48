"""Which target to deploy: the rules, the constraints, and when nothing is clear."""

import math
import re

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.decide import Candidate, Exceeding, Needs, PercentileLimit, recommend
from llmperf_core.errors import UsageError
from llmperf_core.judge import Estimate, Figure, Slo
from llmperf_core.judge.estimate import RATES
from llmperf_core.load import Poisson
from tests.decide.candidates import PER_TOKEN, candidate, figures, targets

TTFT_LIMIT = PercentileLimit("ttft", 99, 500)
SMALL, LARGE = candidate("small", 100.0), candidate("large", 400.0, usd_per_h=6.0)


def test_each_rule_has_its_winner() -> None:
    """The cheapest per token, the most tokens, the quickest token: here three targets."""
    quick = candidate("quick", figures(150.0, ms=8.0), usd_per_h=4.0)
    found = recommend([SMALL, LARGE, quick])
    assert [pick.winner for pick in found.picks] == ["small", "large", "quick"]
    assert found.clear
    cost = found["cost"]
    assert cost.first is not None
    assert cost.first.value.value == pytest.approx(1e6 / (100 * 3600))
    assert cost.first.value.unit == "USD per 1M output tokens"
    assert found["throughput"].loads == ("concurrency 20",)
    assert targets([ranked.candidate for ranked in found["latency"].ranking])[0] == "quick"
    assert all(pick.margin is not None and pick.margin.certain for pick in found.picks)
    with pytest.raises(KeyError, match="no rule 'beauty'; there are cost, throughput, latency"):
        found["beauty"]


def test_a_margin_says_what_would_flip_the_order() -> None:
    """At that price of either, both cost the same; nothing does where no price counts."""
    found = recommend([SMALL, LARGE])
    margin = found["cost"].margin
    assert margin is not None
    assert margin.runner_up.candidate is LARGE
    assert margin.by == pytest.approx(0.5)
    assert margin.ci95 is not None
    assert margin.ci95[0] < 0.5 < margin.ci95[1]
    assert margin.flips_at_usd_per_h == pytest.approx(1.5)
    assert margin.runner_up_flips_at_usd_per_h == pytest.approx(4.0)
    level = recommend([candidate("small", 100.0, usd_per_h=1.5), LARGE])["cost"]
    assert (level.winner, level.targets) == (None, ("small", "large"))
    throughput = found["throughput"].margin
    assert throughput is not None
    assert throughput.flips_at_usd_per_h is None
    assert throughput.by == pytest.approx(3)


def test_a_gap_within_the_noise_has_no_winner() -> None:
    """Both may be the best, and how that was judged is said."""
    found = recommend([candidate("a", 100.0), candidate("b", 103.0), candidate("c", 50.0)])
    pick = found["throughput"]
    assert (pick.winner, pick.targets) == (None, ("b", "a"))
    assert pick.margin is not None
    assert not pick.margin.certain
    assert not found.clear
    assert pick.variation is not None
    assert not pick.variation.measured


def test_repeats_settle_what_one_run_cannot() -> None:
    """A gap of 8 %: too little beside what is assumed, plenty beside what repeats show."""
    once = [candidate("a", 100.0), candidate("b", 108.0)]
    assert recommend(once)["throughput"].winner is None
    thrice = [candidate("a", 99.5, 100.0, 100.5), candidate("b", 107.5, 108.0, 108.5)]
    pick = recommend(thrice)["throughput"]
    assert pick.winner == "b"
    assert pick.variation is not None
    assert pick.variation.freedom == 4


def test_repeats_that_differ_unsettle_it() -> None:
    """However narrow the intervals within the runs are."""
    apart = [candidate("a", 85.0, 100.0, 116.0), candidate("b", 100.0, 120.0, 140.0)]
    assert recommend(apart)["throughput"].winner is None


def test_several_loads_of_one_target_are_one_winner() -> None:
    """Which of its loads is best may stay open while the target is clear."""
    found = recommend(
        [
            candidate("a", 300.0, load=10),
            candidate("a", 303.0, load=20),
            candidate("b", 100.0, load=20),
        ]
    )["throughput"]
    assert (found.winner, found.loads) == ("a", ("concurrency 20", "concurrency 10"))
    assert found.margin is not None
    assert found.margin.runner_up.candidate.target == "b"


def test_the_load_of_a_rule_can_be_fixed() -> None:
    """As in the published study: cost at 5, throughput at 20, latency at 1; or all at one."""
    both = [
        candidate(name, figures(tokens, ms), load=load)
        for name, factor in (("a", 1.0), ("b", 2.0))
        for load, tokens, ms in ((1, 40.0, 20.0), (5, 90 / factor, 30.0), (20, 90 * factor, 50.0))
    ]
    found = recommend(both, Needs(at_load={"cost": 5, "throughput": "concurrency 20"}))
    assert found["cost"].winner == "a"
    assert found["throughput"].winner == "b"
    assert len(found["latency"].ranking) == 6
    fixed = recommend(both, Needs(at_load=5, rules=["cost"]))
    assert targets([r.candidate for r in fixed["cost"].ranking]) == ["a", "b"]
    with pytest.raises(UsageError, match=r"nothing was measured at load 7; .* concurrency 20"):
        recommend(both, Needs(at_load=7))
    with pytest.raises(UsageError, match="the loads are: none"):
        recommend([], Needs())


def test_invalid_stages_never_count() -> None:
    """However good they look; and it is said why they do not."""
    broken = evolve(candidate("broken"), status="invalid", reasons=("a third failed",))
    found = recommend([SMALL, broken])
    assert found["throughput"].winner == "small"
    assert found["throughput"].margin is None
    assert [str(left) for left in found.left_out] == ["broken at concurrency 20: a third failed"]
    nameless = recommend([SMALL, evolve(broken, reasons=())])
    assert nameless.left_out[0].why == "its numbers are invalid"


@pytest.mark.parametrize(
    ("needs", "large", "why"),
    [
        (Needs(budget_usd_per_h=5), LARGE, "6.00 USD/h are over the budget of 5 USD/h"),
        (
            Needs(budget_usd_per_h=5),
            evolve(LARGE, price=None),
            "its price is not known, and there is a",
        ),
        (Needs(memory_gb=20), LARGE, "nobody saw how much memory it uses"),
        (Needs(memory_gb=20), evolve(LARGE, memory_bytes=24e9), "24.0 GB are over 20 GB"),
        (Needs(loads=(1, 10)), LARGE, "its load is not within 1 to 10"),
        (Needs(limits=[TTFT_LIMIT]), LARGE, "ttft.p99=500 cannot be checked"),
        (
            Needs(limits=[TTFT_LIMIT]),
            evolve(LARGE, exceeding={TTFT_LIMIT: Exceeding(share=0.0, worth=0)}),
            "cannot be checked",
        ),
        (
            Needs(limits=[TTFT_LIMIT]),
            evolve(LARGE, exceeding={TTFT_LIMIT: Exceeding(share=0.2, worth=1000)}),
            "it breaks ttft.p99=500: 20.0 % of its values are beyond ttft 500 ms, 1.00 % may be",
        ),
        (
            Needs(limits=[TTFT_LIMIT]),
            evolve(LARGE, exceeding={TTFT_LIMIT: Exceeding(share=0.009, worth=1000)}),
            "not proved to hold: .*; measure for longer",
        ),
        (Needs(slo=Slo(ttft_ms=5)), LARGE, "were not held against this SLO"),
    ],
)
def test_constraints_leave_out_and_say_why(needs: Needs, large: Candidate, why: str) -> None:
    """Budget, memory, load range, limits that must be proved, an SLO."""
    fine = evolve(
        candidate("fine", 50.0, usd_per_h=0.5, load=5),
        memory_bytes=8e9,
        slo=needs.slo,
        exceeding={TTFT_LIMIT: Exceeding(share=0.0, worth=1000)},
    )
    found = recommend([large, fine], needs)
    assert list(found.candidates) == [fine]
    (left,) = found.left_out
    assert left.candidate is large
    assert re.search(why, left.why)


def test_goodput_takes_the_place_of_throughput_under_an_slo() -> None:
    """Cost and throughput then count the requests that met it."""
    slo = Slo(ttft_ms=500)

    def under(name: str, tokens_per_s: float, good_per_s: float) -> Candidate:
        kept = {**figures(tokens_per_s), RATES["goodput"]: Estimate(good_per_s, 0.01, 19)}
        return evolve(candidate(name, kept), slo=slo)

    none = evolve(candidate("none", 900.0), slo=slo)
    found = recommend([under("fast", 500.0, 1.0), under("kept", 100.0, 2.0), none], Needs(slo=slo))
    assert found["throughput"].winner == "kept"
    assert found["cost"].rule.unit == "USD per 1,000 requests that met the SLO"
    cost = found["cost"].first
    assert cost is not None
    assert cost.value.value == pytest.approx(1000 / 7200)
    assert [str(left) for left in found["cost"].left_out] == [
        "none at concurrency 20: its goodput is not known"
    ]


def test_requests_are_ranked_where_tokens_are_not_known() -> None:
    """As of the published study, whose tokens nobody counted."""
    requests = {RATES["requests_per_s"]: Estimate(3.0, 0.01, 19)}
    found = recommend([candidate("a", requests), candidate("b", 50.0)])
    assert found["throughput"].rule.figure == "requests_per_s"
    assert found["throughput"].winner == "a"
    assert found["cost"].rule.unit == "USD per 1,000 requests"


def test_a_rule_says_what_it_cannot_rank() -> None:
    """No price, a price of nothing, a figure of nothing, a figure that is not known."""
    odd = [
        candidate("unpriced", 100.0, usd_per_h=None),
        candidate("free", 100.0, usd_per_h=0.0),
        candidate("silent", figures(100.0) | {RATES["output_tokens_per_s"]: Estimate(0.0)}),
        candidate("none"),
    ]
    found = recommend(odd, Needs(rules=["cost"], at_load=20))
    assert [left.why for left in found["cost"].left_out] == [
        "its price is not known",
        "it costs nothing, so what it saves cannot be said",
        "its output_tokens_per_s is 0",
        "its output_tokens_per_s is not known",
    ]
    pick = found["cost"]
    assert (pick.first, pick.winner, pick.margin, pick.variation) == (None, None, None, None)
    assert (pick.targets, found.clear) == ((), False)


def test_a_cost_needs_a_price() -> None:
    """A rule does not guess one."""
    rule = recommend([SMALL])["cost"].rule
    with pytest.raises(ValueError, match="has no price"):
        rule.score(evolve(SMALL, price=None), Estimate(1.0))


def test_the_latency_can_be_named() -> None:
    """`ttft.p99` instead of the usual; the best is the highest where more is better."""
    found = recommend([SMALL, candidate("b", figures(1.0, ms=10))], Needs(latency="ttft.p99"))
    assert found["latency"].rule.text == "the lowest ttft.p99"
    assert found["latency"].winner == "b"
    speed = Figure(metric="speed", statistic="mean", unit="tok/s", direction="higher")
    pair = [candidate(n, {speed: Estimate(v, 0.01, 9)}) for n, v in (("a", 1.0), ("b", 2.0))]
    found = recommend(pair, Needs(rules=["latency"], latency="speed.mean"))
    assert (found["latency"].winner, found["latency"].rule.unit) == ("b", "tok/s")
    unknown = recommend(pair, Needs(rules=["latency"]))["latency"]
    assert unknown.left_out[0].why == "its time_per_token.p50 is not known"


def test_the_second_usual_latency_is_taken_where_the_first_is_not_known_of_all() -> None:
    """One figure for all of them, so that the same is compared."""
    tpot = Figure(metric="tpot", statistic="p50", unit="ms", direction="lower")
    both = [
        candidate("a", {PER_TOKEN: Estimate(1.0, 0.1, 9), tpot: Estimate(9.0, 0.01, 9)}),
        candidate("b", {tpot: Estimate(5.0, 0.01, 9)}),
    ]
    pick = recommend(both, Needs(rules=["latency"]))["latency"]
    assert (pick.rule.figure, pick.winner) == ("tpot.p50", "b")


def test_without_any_noise_known_nothing_is_certain() -> None:
    """Figures alone: an order by value, and no winner."""
    bare = [candidate(n, figures(v, spread=None)) for n, v in (("a", 10.0), ("b", 500.0))]
    pick = recommend(bare)["throughput"]
    assert (pick.winner, targets([r.candidate for r in pick.ranking])) == (None, ["b", "a"])
    assert pick.margin is not None
    assert (pick.margin.p, pick.margin.ci95) == (None, None)


def test_what_is_exact_is_told_apart_and_a_tie_is_one() -> None:
    """Without noise at all, the smallest gap counts, and no gap has no winner."""
    needs = Needs(between_runs=0.0)
    exact = [candidate(n, figures(v, spread=0.0)) for n, v in (("a", 10.0), ("b", 10.1))]
    assert recommend(exact, needs)["throughput"].winner == "b"
    tie = [candidate(n, figures(10.0, spread=0.0)) for n in "ab"]
    assert recommend(tie, needs)["throughput"].winner is None


def test_utilisation_makes_all_dearer_alike() -> None:
    """An hour that is loaded for a quarter costs four times as much a token; the order stays."""
    full, quarter = (
        recommend([SMALL, LARGE], Needs(utilisation=share))["cost"] for share in (1.0, 0.25)
    )
    assert full.first is not None
    assert quarter.first is not None
    assert quarter.first.value.value == pytest.approx(4 * full.first.value.value)
    assert quarter.winner == full.winner == "small"
    assert "÷ 0.25 of the hour loaded" in quarter.rule.text


def test_the_pareto_set() -> None:
    """Nobody is as good in everything and better in one; without prices, cost is no axis."""
    dominated = candidate("dominated", figures(90.0, ms=21.0))
    found = recommend([SMALL, LARGE, dominated, candidate("unpriced", 1000.0, usd_per_h=None)])
    assert targets(found.pareto) == ["small", "large"]
    unpriced = [candidate(n, v, usd_per_h=None) for n, v in (("a", 10.0), ("b", 20.0))]
    assert targets(recommend(unpriced).pareto) == ["b"]
    assert recommend([candidate("none")], Needs()).pareto == ()


def test_a_load_by_its_label() -> None:
    """An open loop is named as tables name it."""
    open_loop = evolve(SMALL, load=Poisson(8))
    pick = recommend([open_loop, LARGE], Needs(at_load="poisson 8/s"))["throughput"]
    assert targets([ranked.candidate for ranked in pick.ranking]) == ["small"]


def test_what_limits_would_rule_it_out() -> None:
    """Of each metric that there can be limits on, the highest percentile that is known."""
    assert SMALL.keeps_no_limit_below == {"ttft.p99": pytest.approx(200.0)}
    assert candidate("none").keeps_no_limit_below == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"latency": "ttft.p95"}, "write METRIC.mean, .p50, .p90 or .p99"),
        ({"utilisation": 1.5}, "above 0 and at most 1"),
        ({"rules": ["beauty"]}, "rules"),
        ({"at_load": {"beauty": 5}}, "no rule 'beauty'; there are cost, throughput, latency"),
        ({"budget_usd_per_h": 0.0}, "budget_usd_per_h"),
    ],
)
def test_needs_are_checked(given: dict[str, object], says: str) -> None:
    """What cannot be is refused where it is written."""
    with pytest.raises(ValueError, match=says):
        Needs(**given)  # type: ignore[arg-type] # as a caller without types may


@given(
    st.lists(st.floats(min_value=1.0, max_value=1e4), min_size=2, max_size=6),
    st.floats(min_value=0.5, max_value=2.0),
)
def test_units_change_no_order(rates: list[float], factor: float) -> None:
    """All rates, or all prices, times a factor: the same contenders, margins and chances."""
    one = [candidate(f"t{k}", rate) for k, rate in enumerate(rates)]
    scaled = [candidate(f"t{k}", r * factor, usd_per_h=factor) for k, r in enumerate(rates)]
    for rule in ("cost", "throughput"):
        a, b = recommend(one)[rule], recommend(scaled)[rule]
        assert a.targets == b.targets
        assert a.margin is not None
        assert b.margin is not None
        assert math.isclose(a.margin.by, b.margin.by, rel_tol=1e-6, abs_tol=1e-9)
