"""Recommend from runs as a user does: what it says, what it refuses, what it shows."""

import json
from typing import Any

import pytest
from attrs import evolve

from llmperf_core import (
    Needs,
    PercentileLimit,
    Price,
    Recommendation,
    Run,
    Slo,
    StageResult,
    candidates_of,
    recommend,
)
from llmperf_core.decide import Candidate, Rates
from llmperf_core.errors import UnlikeRunsError, UsageError
from llmperf_core.judge import Level, Reason, Verdict, Watch, Watched
from llmperf_core.load import Concurrency
from llmperf_core.timeline import Failed
from tests.judge.queue_model import Model
from tests.test_compare import SERVER, SPEC, stage

FAST = evolve(SERVER, step_ms=SERVER.step_ms / 2)
DAY, PAGE = "2026-11-25", "a price list"
CHEAP = Price(usd_per_h=1.0, as_of=DAY, source=PAGE)
DEAR = Price(usd_per_h=8.0, as_of=DAY, source=PAGE)
PRICES = {"sim:fast": DEAR, "sim:slow*": CHEAP}


def measured(name: str, model: Model, seed: int) -> Run:
    """Return a run of a target."""
    spec = evolve(SPEC, target=f"sim:{name}", simulated=True)
    result = stage(model, seed, spec=spec, load=Concurrency(8))
    return Run(spec=spec, stages=(result,))


def with_stage(run: Run, result: StageResult) -> Run:
    """Return the run with another stage in the place of its own."""
    return evolve(run, stages=(result,))


def only(runs: list[Run], needs: Needs | None = None) -> Candidate:
    """Return the one candidate of these runs."""
    (found,) = candidates_of(runs, needs)
    return found


def document(found: Recommendation) -> Any:  # noqa: ANN401 -- JSON, of which a test picks parts
    """Return the JSON document as a reader has it."""
    return json.loads(json.dumps(found.to_dict(), allow_nan=False))


@pytest.fixture(scope="module")
def fast() -> Run:
    """A run of the fast server, which is dear."""
    return measured("fast", FAST, 1)


@pytest.fixture(scope="module")
def slow() -> Run:
    """A run of the slow one."""
    return measured("slow", SERVER, 2)


def test_each_rule_names_the_right_server(fast: Run, slow: Run) -> None:
    """Twice as fast at eight times the price: quicker, more, and dearer a token."""
    found = recommend([fast, slow], prices=PRICES)
    assert [found[rule].winner for rule in ("cost", "throughput", "latency")] == [
        "sim:slow",
        "sim:fast",
        "sim:fast",
    ]
    assert found.clear


def test_every_form_of_output_says_the_same(fast: Run, slow: Run) -> None:
    """Text, HTML and document: the answers, the prices with their day, and that it is simulated."""
    found = recommend([fast, slow], prices=PRICES)
    text, html, said = repr(found), found._repr_html_(), document(found)
    for shown in (text, html):
        assert "SIMULATED" in shown
        assert "price: 8 USD/h, 2026-11-25, a price list: sim:fast" in shown
        assert "flips if sim:slow costs" in shown
        assert "a limit below one of these rules it out: ttft.p99" in shown
    assert "best throughput: sim:fast at concurrency 8: " in text
    assert said["simulated"] is True
    assert said["clear"] is True
    assert [pick["winner"] for pick in said["picks"]] == ["sim:slow", "sim:fast", "sim:fast"]
    assert {row["price"]["source"] for row in said["candidates"]} == {PAGE}


def test_names_are_escaped(fast: Run) -> None:
    """A target's name is text in the notebook, too."""
    spec = evolve(SPEC, target="<b>")
    odd = Run(spec=spec, stages=(stage(SERVER, 3, spec=spec),))
    assert "<b>" not in recommend([odd, evolve(odd, stages=odd.stages)])._repr_html_()
    with pytest.raises(UnlikeRunsError, match="simulated"):
        recommend([odd, fast])
    assert recommend([odd, fast], allow_differences=["simulated"])["throughput"].first


def test_no_clear_winner_is_said(slow: Run) -> None:
    """Two servers alike, or three: the answer names them, and the details say who may be best."""
    twins = [slow, measured("slow too", SERVER, 4)]
    found = recommend(twins, Needs(rules=["throughput"]))
    assert not found.clear
    assert "no clear winner: sim:slow too or sim:slow" in repr(found) or (
        "no clear winner: sim:slow or sim:slow too" in repr(found)
    )
    assert "may be the best: any of them" in repr(found)
    half = measured("half", evolve(SERVER, step_ms=2 * SERVER.step_ms), 5)
    found = recommend([*twins, measured("as slow", SERVER, 6), half], Needs(rules=["throughput"]))
    assert "or one of 2 that may be as good" in repr(found)
    assert "sim:half" not in found._repr_html_().split("may be the best:")[1].split("</li>")[0]
    assert document(found)["picks"][0]["winner"] is None


def test_without_prices_there_is_no_cost(slow: Run) -> None:
    """The other rules go on; the first says what it lacks."""
    found = recommend(slow)
    assert found["cost"].first is None
    said = repr(found)
    assert "most cost-effective: nothing to choose from" in said
    assert "not ranked: sim:slow at concurrency 8: its price is not known" in said
    assert "there is no other target to compare it with" in said
    assert document(found)["picks"][0]["first"] is None


def test_runs_of_a_target_are_its_repeats(fast: Run, slow: Run) -> None:
    """Each run is one; stages of one run share its start, and are one together."""
    again = [measured("fast", FAST, 7), measured("slow", SERVER, 8)]
    found = recommend([fast, slow, *again], Needs(rules=["throughput"]))
    variation = found["throughput"].variation
    assert variation is not None
    assert variation.freedom == 2
    assert "from run to run" in repr(found)
    twice = evolve(slow, stages=(*slow.stages, *again[1].stages))
    assert len(only([twice]).repeats) == 1
    assert len(only([slow, again[1]]).repeats) == 2


def test_an_slo_counts_good_requests(slow: Run, fast: Run) -> None:
    """The goodput under it, and what a thousand good ones cost."""
    slo = Slo(e2e_ms=1200)
    found = recommend([slow, fast], Needs(slo=slo, utilisation=0.5), prices=PRICES)
    assert found["throughput"].rule.figure == "goodput"
    assert "USD per 1,000 requests that met the SLO" in repr(found)
    assert "50.0 % of the paid hours are loaded" in repr(found)
    assert only([slow], Needs(slo=slo)).slo == slo


def test_a_stage_says_what_its_tokens_cost(slow: Run) -> None:
    """The figures of its summary, and what it costs at a price."""
    summary = slow.stages[0].summary
    rates = Rates.of(summary)
    assert rates.output_tokens_per_s == summary.output_tokens_per_s is not None
    assert rates.input_per_output is None
    costs = rates.costs(CHEAP)
    assert [cost.work.what for cost in costs] == ["1M output tokens", "1,000 requests"]
    known = evolve(summary, tokens=evolve(summary.tokens, input=2 * summary.tokens.output))
    assert Rates.of(known).input_per_output == pytest.approx(2.0)


def test_limits_must_be_proved(slow: Run, fast: Run) -> None:
    """Over all requests of all repeats."""
    limit = PercentileLimit("e2e", 90, 1500)
    found = recommend([slow, fast], Needs(limits=[limit]), prices=PRICES)
    assert [pick.winner for pick in found.picks] == ["sim:fast"] * 3
    assert "left out: sim:slow at concurrency 8: it breaks e2e.p90=1500" in repr(found)
    assert document(found)["left_out"][0]["target"] == "sim:slow"
    assert [left.candidate.target for left in found.left_out] == ["sim:slow"]


def test_invalid_runs_do_not_count(slow: Run) -> None:
    """One of two is left out and said; if none is left, the target is."""
    sound = slow.stages[0]
    broken = [evolve(t, outcome=Failed("http_500")) for t in sound.timelines[:200]]
    invalid = StageResult.of(
        [*broken, *sound.timelines[200:]], sound.observation, load=sound.load, spec=sound.spec
    )
    both = recommend([slow, with_stage(slow, invalid)])
    assert len(both.found.candidates[0].repeats) == 1
    assert "a run left out: sim:slow at concurrency 8:" in repr(both)
    assert "http_500" in repr(both)
    alone = recommend(with_stage(slow, invalid))
    assert alone["throughput"].first is None
    assert alone.found.candidates == ()
    assert "SIMULATED" in repr(alone)


def test_a_suspect_first_is_said(slow: Run) -> None:
    """With what speaks against it."""
    verdict = Verdict("suspect", (Reason("doubt", "look twice"),))
    suspect = evolve(slow.stages[0], verdict=verdict)
    said = repr(recommend(with_stage(slow, suspect)))
    assert "suspect: sim:slow at concurrency 8: look twice" in said


def test_memory_is_what_its_gpus_used(slow: Run) -> None:
    """The most of each, together; nothing where nobody looked."""

    def gpu(used: float) -> Watched:
        level = Level(mean=used / 2, min=0.0, max=used)
        return Watched(
            what="a GPU",
            readings=9,
            failures=0,
            levels={"memory_bytes": level},
            stretch=None,
            rises={},
        )

    watch = Watch(
        meters={"gpu0": gpu(8e9), "gpu1": gpu(4e9), "container": gpu(1e12)},
        crosscheck=None,
        joules_per_token=None,
    )
    watched = with_stage(slow, evolve(slow.stages[0], watch=watch))
    assert only([watched]).memory_bytes == 12e9
    assert only([slow]).memory_bytes is None
    assert recommend(watched, Needs(memory_gb=12))["throughput"].first
    assert not recommend(watched, Needs(memory_gb=11))["throughput"].first


def test_nonsense_is_refused(slow: Run) -> None:
    """No stage, a price of nothing there, a difference that there is not."""
    with pytest.raises(UsageError, match="there is no stage"):
        recommend([])
    with pytest.raises(UsageError, match=r"price of 'sim:fats' is for no target; .* sim:slow"):
        recommend(slow, prices={"sim:fats": DEAR})
    with pytest.raises(UsageError, match="no difference 'colour'; there are counted_by, simulated"):
        recommend(slow, allow_differences=["colour"])


def test_what_was_asked_must_be_alike(slow: Run, fast: Run) -> None:
    """Models may differ, workloads may not, unless the caller allows it."""
    spec = evolve(fast.spec, endpoint={"model": "other", "stream": True})
    other = with_stage(fast, evolve(fast.stages[0], spec=spec))
    assert recommend([slow, other], prices=PRICES).clear
    spec = evolve(spec, workload={"kind": "other"})
    unlike = with_stage(fast, evolve(fast.stages[0], spec=spec))
    with pytest.raises(UnlikeRunsError, match="workload"):
        recommend([slow, unlike])
    assert recommend([slow, unlike], prices=PRICES, allow_differences=True).clear


def test_the_nearest_price_counts(slow: Run) -> None:
    """A name before a pattern, a longer pattern before a shorter one."""
    prices = {"*": DEAR, "sim:s*": CHEAP}
    assert candidates_of([slow], prices=prices)[0].price == CHEAP
    assert candidates_of([slow], prices={**prices, "sim:slow": DEAR})[0].price == DEAR
