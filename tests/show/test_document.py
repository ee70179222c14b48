"""The JSON document holds its contract."""

import json
import math
from collections.abc import Callable

from attrs import evolve

from llmperf_core.judge import Quantity, Slo
from llmperf_core.load import ConstantRate
from llmperf_core.show import SCHEMA, RunView, StageView, run_document, stage_document

Make = Callable[..., StageView]


def test_the_document_has_the_keys_of_the_contract(stage: Make) -> None:
    """Scripts rely on these; others may be added beside them."""
    view = RunView("http://h:1", [stage()], environment={"python": "3.11"})
    document = run_document(view)
    assert document["schema"] == SCHEMA == "llmperf.summary/1"
    assert (document["target"], document["simulated"]) == ("http://h:1", False)
    assert document["environment"] == {"python": "3.11"}
    (entry,) = json.loads(json.dumps(document, allow_nan=False))["stages"]
    assert entry["load"] == {"kind": "concurrency", "value": 20, "label": "concurrency 20"}
    assert entry["window_s"] == 10
    assert entry["requests"].items() >= {
        "completed": 400, "failed": 0, "censored": 0, "by_error": {},
    }.items()  # fmt: skip
    assert entry["tokens"].items() >= {
        "output": 4000, "input": 2000, "counted_by": "usage",
    }.items()  # fmt: skip
    assert set(entry["rates"]) == {"output_tokens_per_s", "requests_per_s"}
    assert set(entry["rates"]["requests_per_s"]) == {"value", "ci95"}
    assert {"ttft", "itl", "tpot", "e2e", "time_per_token", "lag", "read_lag"} <= set(
        entry["metrics"]
    )
    assert entry["verdict"] == {"status": "valid", "reasons": []}


def test_a_metric_has_its_unit_its_percentiles_and_their_intervals(stage: Make) -> None:
    """What 400 requests cannot support is null, and has no interval."""
    ttft = json.loads(json.dumps(stage_document(stage())))["metrics"]["ttft"]
    assert list(ttft) == [
        *("unit", "count", "censored", "mean", "min", "max"),
        *("p50", "p90", "p95", "p99", "p99_9", "ci95"),
    ]
    assert (ttft["unit"], ttft["count"], ttft["min"], ttft["max"]) == ("ms", 400, 100, 149)
    assert ttft["p50"] == 124.5
    assert ttft["p99_9"] is None
    assert set(ttft["ci95"]) == {"p50", "p90", "p95", "p99"}
    low, high = ttft["ci95"]["p50"]
    assert low <= 124.5 <= high


def test_nanoseconds_are_kept(stage: Make) -> None:
    """Milliseconds have six decimals: nothing that was measured is rounded away."""
    metrics = json.loads(json.dumps(stage_document(stage())))["metrics"]
    assert metrics["read_lag"]["max"] == 0.04


def test_what_is_not_known_is_null(stage: Make) -> None:
    """An empty stage has nulls, and neither zeros nor NaN."""
    entry = json.loads(json.dumps(stage_document(stage(count=0)), allow_nan=False))
    assert entry["rates"]["requests_per_s"] == {"value": None, "ci95": None}
    assert entry["metrics"]["ttft"]["mean"] is None
    assert entry["metrics"]["ttft"]["ci95"] == {}
    assert (entry["goodput"], entry["offered"], entry["coalesced_share"]) == (None, None, None)


def test_no_number_that_json_has_no_word_for(stage: Make) -> None:
    """A NaN or an infinity, wherever it came from, is null."""
    view = stage()
    odd = Quantity(math.nan, "req/s", (math.inf, 1))
    view = evolve(view, summary=evolve(view.summary, requests_per_s=odd))
    document = json.loads(json.dumps(stage_document(view), allow_nan=False))
    assert document["rates"]["requests_per_s"] == {"value": None, "ci95": [None, 1]}


def test_reasons_have_code_and_detail(stage: Make) -> None:
    """Programs read the code, people the detail."""
    verdict = json.loads(json.dumps(stage_document(stage(failed=100))))["verdict"]
    assert verdict["status"] == "invalid"
    assert verdict["reasons"][0].items() >= {
        "code": "errors", "detail": "25.0 % of the requests failed: http_429 100×",
    }.items()  # fmt: skip


def test_goodput_and_the_load_that_was_offered(stage: Make) -> None:
    """Goodput comes with the SLO that it is for; an open loop says what was asked and sent."""
    view = stage(load=ConstantRate(2.0), slo=Slo(ttft_ms=124))
    entry = json.loads(json.dumps(stage_document(view)))
    assert entry["goodput"]["slo"] == {
        "ttft_ms": 124, "itl_ms": None, "tpot_ms": None, "e2e_ms": None,
    }  # fmt: skip
    assert 0 < entry["goodput"]["value"] < entry["rates"]["requests_per_s"]["value"]
    assert entry["offered"] == {"asked": 20, "sent": 0}
