"""The published study recomputed: what agrees, what does not and why, and each pick by its rule."""

from pathlib import Path

import pytest
from attrs import evolve

from examples.published_study import recompute
from examples.published_study.recompute import Way, claims, published, recomputed
from llmperf_core import Recommendation
from llmperf_core.cli import main

PICKS = [(row.rule, row.size) for row in published()]
COST = PICKS[:3]


def held(way: Way) -> dict[tuple[str, str], tuple[bool, str, str]]:
    """Return for each pick of the page: whether it is first, the first, and the next."""
    return {
        (one.published.rule, one.published.size): (one.agrees, one.first, one.next)
        for one in way.checked()
    }


def test_the_nine_rows_agree_but_for_two() -> None:
    """Latency and throughput in all, minutes and dollars in seven; both causes are found."""
    rows = [recomputed(row) for row in published()]
    assert len(rows) == 9
    found = [one for row in rows for one in row.disagreements]
    assert [(one.where, one.published, one.ours) for one in found] == [
        ("throughput, 13B ml.g5.12xlarge, minutes", "18.72", "56.38"),
        ("throughput, 13B ml.g5.12xlarge, usd", "2.21", "6.66"),
        ("throughput, 70B ml.p4d.24xlarge, minutes", "16.61", "51.83"),
        ("throughput, 70B ml.p4d.24xlarge, usd", "10.43", "32.56"),
    ]
    assert [one.cause for one in found] == [
        "1M × 67.4027 ms is 18.72 hours of one stream, printed as minutes",
        "the cost of 18.72 minutes, which are hours of one stream",
        "1M × 59.7986 ms is 16.61 hours of one stream, printed as minutes",
        "the cost of 16.61 minutes, which are hours of one stream",
    ]


def test_the_text_has_four_figures_that_the_results_do_not_give() -> None:
    """688 tokens/s, 2.21 USD, 1.55 USD/h, and 16 ms."""
    assert [(one.published, one.ours) for one in claims()] == [
        ("688", "668.02"),
        ("2.21", "6.6617"),
        ("1.55", "1.515"),
        ("16", "16.813"),
    ]
    assert "522.2 by the requests" in claims()[0].cause


def test_what_was_only_rounded_is_no_disagreement() -> None:
    """The three costs that are of the exact price, and a figure that was cut off."""
    assert recompute.roundings() == [
        "cost, 7B: 3.50 USD are right, of 1.515 USD/h; of the 1.52 shown they would be 3.52",
        "cost, 13B: 5.87 USD are right, of 1.515 USD/h; of the 1.52 shown they would be 5.89",
        "conclusion: 71 tokens/s are 71.71, cut off",
        "latency, 70B: 427.05 USD are right, of 37.688 USD/h; of the 37.69 shown they would be 427.08",  # noqa: E501 -- as it is printed
    ]


def test_each_pick_by_its_own_rule() -> None:
    """Six of the nine are first; the cheapest 7B and two of best throughput are not."""
    assert held(Way()) == {
        ("cost", "7B"): (
            False,
            "fp16 ml.g5.2xlarge at 5: 3.21",
            "gptq ml.g5.2xlarge at 5: 3.50",
        ),
        ("cost", "13B"): (
            True,
            "gptq ml.g5.2xlarge at 5: 5.87",
            "fp16 ml.g5.12xlarge at 5: 12.29",
        ),
        ("cost", "70B"): (
            True,
            "gptq ml.g5.12xlarge at 5: 59.08",
            "fp16 ml.p4d.24xlarge at 5: 102.57",
        ),
        ("throughput", "7B"): (
            False,
            "fp16 ml.p4d.24xlarge at 20: 496.16",
            "fp16 ml.g5.12xlarge at 20: 449.94",
        ),
        ("throughput", "13B"): (
            False,
            "fp16 ml.p4d.24xlarge at 20: 668.02",
            "fp16 ml.g5.12xlarge at 20: 295.64",
        ),
        ("throughput", "70B"): (
            True,
            "fp16 ml.p4d.24xlarge at 20: 321.54",
            "gptq ml.p4d.24xlarge at 20: 147.50",
        ),
        ("latency", "7B"): (
            True,
            "fp16 ml.g5.12xlarge at 1: 16.81",
            "fp16 ml.g5.48xlarge at 1: 17.92",
        ),
        ("latency", "13B"): (
            True,
            "fp16 ml.g5.12xlarge at 1: 21.00",
            "fp16 ml.g5.48xlarge at 1: 21.61",
        ),
        ("latency", "70B"): (
            True,
            "fp16 ml.p4d.24xlarge at 1: 41.35",
            "fp16 ml.g5.48xlarge at 1: 52.51",
        ),
    }


def test_what_the_better_throughput_costs() -> None:
    """The trade-off that the page's rule leaves open: 4.8 and 2.4 times the cost of a token."""
    each = Way().checked()
    notes = {(one.published.rule, one.published.size): one.note for one in each if one.note}
    assert notes == {
        ("cost", "7B"): "1.09 times better, at 0.91 times the cost of a token",
        ("throughput", "7B"): "1.10 times better, at 4.82 times the cost of a token",
        ("throughput", "13B"): "2.26 times better, at 2.35 times the cost of a token",
    }


def test_by_the_requests_that_were_counted() -> None:
    """At 5 users the cheapest 7B is the same, by less; at its best load 70B flips."""
    by_requests = held(Way(requests=True))
    assert by_requests["cost", "7B"][1:] == (
        "fp16 ml.g5.2xlarge at 5: 3.54",
        "gptq ml.g5.2xlarge at 5: 3.70",
    )
    assert by_requests["throughput", "13B"][1] == "fp16 ml.p4d.24xlarge at 20: 522.22"
    assert held(Way(requests=True, best_load=True))["cost", "70B"] == (
        True,
        "gptq ml.g5.12xlarge at 20: 33.76",
        "fp16 ml.p4d.24xlarge at 20: 34.90",
    )


def test_at_the_best_load_tokens_are_far_cheaper() -> None:
    """2.6 times for 7B; and the cheapest 70B is another one."""
    best = held(Way(best_load=True))
    assert [best[key][:2] for key in COST] == [
        (False, "fp16 ml.g5.2xlarge at 20: 1.34"),
        (True, "gptq ml.g5.2xlarge at 20: 3.31"),
        (False, "fp16 ml.p4d.24xlarge at 20: 32.56"),
    ]


def test_at_the_price_of_today() -> None:
    """The p4d instance costs a third less: 68.72 and 21.81 USD instead of 102.57 and 32.56."""
    assert held(Way(prices=recompute.TODAY))["cost", "70B"] == (
        True,
        "gptq ml.g5.12xlarge at 5: 59.08",
        "fp16 ml.p4d.24xlarge at 5: 68.72",
    )
    best = held(Way(prices=recompute.TODAY, best_load=True))
    assert best["cost", "70B"][1] == "fp16 ml.p4d.24xlarge at 20: 21.81"
    assert best["throughput", "70B"] == held(Way(best_load=True))["throughput", "70B"]


def test_the_quickest_13b_depends_on_the_statistic() -> None:
    """By the median one is ahead, by mean, p90 and p95 the other."""
    assert recompute.latency_13b() == [
        ("p50", "21.00", "21.63"),
        ("mean", "23.47", "22.03"),
        ("p90", "26.34", "24.37"),
        ("p95", "29.03", "24.76"),
    ]


def test_no_order_is_certain() -> None:
    """One run each, of which only figures are known: an order by value, and no winner."""
    for size in recompute.SIZES:
        found = Recommendation(found=Way().recommended(size))
        assert [pick.winner for pick in found.picks] == [None] * 3
        assert "only figures are known of it, so no order is certain" in repr(found)


def test_the_example_prints_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    """From one command, prices with day and source."""
    recompute.main()
    said = capsys.readouterr().out
    for figure in ("56.38", "51.83", "68.72", "21.81", "4.82 times the cost of a token", "1.34"):
        assert figure in said
    assert "price: 25.251 USD/h, 2026-07-27, AWS Price List" in said


def test_imported_and_recommended_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two commands: by requests, as tokens were not counted, and with no clear winner."""
    monkeypatch.setenv("COLUMNS", "200")
    study = tmp_path / "study"
    assert main(["import", "published-study", str(recompute.RAW), "--out", str(study)]) == 0
    prices = [f"--price={pattern}={price.usd_per_h}" for pattern, price in recompute.PRICES.items()]
    assert main(["recommend", str(study), *prices, "--rule", "cost", "--at-load", "5"]) == 1
    said = capsys.readouterr().out
    assert "no clear winner: meta-llama/Llama-2-7b-hf@ml.g5.2xlarge" in said
    assert (
        "first: meta-llama/Llama-2-7b-hf@ml.g5.2xlarge at concurrency 5, 0.177 USD per 1,000"
        in (said)
    )


def test_a_cause_that_is_not_found_is_unknown() -> None:
    """Another figure is flagged just the same, without a guess."""
    (found,) = recomputed(evolve(published()[0], minutes="1.23")).disagreements
    assert (found.published, found.ours, found.cause) == ("1.23", "138.78", "unknown")
