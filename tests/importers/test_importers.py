"""Others' results become our record, and say what they cannot know.

llmeter's and aiperf's files are what llmeter 0.2.0 and aiperf 0.13.0 wrote of a small model on the
CPU; the study's JSON file is the published one. guidellm's and vllm's are made by hand in the shape
that their sources write.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmperf_core import Run, StageResult, compare, import_results, load_run
from llmperf_core.errors import ImportFileError, UsageError
from llmperf_core.importers import FORMATS, save_runs
from llmperf_core.judge.quantity import Quantity
from llmperf_core.load import Concurrency, ConstantRate, Gamma, Poisson
from llmperf_core.units import NS_PER_MS

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "imports"
STUDY = ROOT / "examples" / "published_study" / "llama2_sagemaker_tgi_1_0_3.csv"
FILES = {
    "aiperf": DATA / "aiperf" / "profile_export.jsonl",
    "guidellm": DATA / "guidellm" / "benchmarks.json",
    "llmeter": DATA / "llmeter",
    "published-study": DATA / "published_study" / "Llama-2-7b-hf_ml.g5.12xlarge_tp_4_vu_5.json",
    "vllm-bench": DATA / "vllm_bench" / "detailed.json",
}
AGGREGATES = DATA / "vllm_bench" / "appended.json"


def imported(name: str, path: Path | None = None) -> Sequence[StageResult]:
    """Return the stages of the one run that a file holds."""
    (run,) = import_results(name, path or FILES[name])
    return run.stages


def value(quantity: Quantity | None) -> float:
    """Return the number of a quantity that must be there."""
    assert quantity is not None
    return quantity.value


def test_each_format_has_a_file_here() -> None:
    """No format is left untested."""
    assert set(FILES) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_stage_says_where_it_comes_from(name: str) -> None:
    """It is suspect for being imported, names what was not checked, and claims no kernel stamps."""
    for stage in imported(name):
        (reason,) = (r for r in stage.verdict.reasons if r.code == "imported")
        assert reason.status == "suspect"
        assert "kernel stamps" in reason.detail
        assert "read lag" in reason.detail
        assert stage.summary.stamps in {"user", None}
        assert stage.summary.coalesced_share is None
        assert stage.verdict.status != "valid"


@pytest.mark.parametrize(
    ("name", "path"), [*FILES.items(), ("vllm-bench", AGGREGATES)], ids=lambda part: str(part)[-20:]
)
def test_a_run_is_kept_and_read_back(name: str, path: Path, tmp_path: Path) -> None:
    """The folder says the same as the import did, and can be compared."""
    (run,) = import_results(name, path)
    assert save_runs([run], tmp_path / "run") == [tmp_path / "run"]
    kept = load_run(tmp_path / "run")
    assert kept.to_dict() == run.to_dict()
    assert kept.spec.source == run.spec.source
    assert compare(run, kept, allow_invalid=True).passes


def test_llmeter_s_requests() -> None:
    """Its own averages, recomputed from its requests."""
    (stage,) = imported("llmeter")
    assert stage.load == Concurrency(2)
    assert (stage.summary.requests.completed, stage.summary.tokens.output) == (8, 96)
    # Of its `stats.json`, in seconds.
    assert value(stage["ttft"].mean) == pytest.approx(48.7206336249244)
    assert value(stage["e2e"].mean) == pytest.approx(56.42413699996496)
    assert value(stage["tpot"].mean) == pytest.approx(0.7003184886400504, abs=1e-5)
    assert "itl" not in stage.summary.metrics


def test_aiperf_s_requests() -> None:
    """Its own averages, recomputed from its records."""
    (stage,) = imported("aiperf")
    assert stage.load == Concurrency(2)
    assert stage.summary.tokens.counted_by == "usage"
    # Of its `profile_export_aiperf.json`, in milliseconds.
    assert value(stage["ttft"].mean) == pytest.approx(7.633609666666667)
    assert value(stage["e2e"].mean) == pytest.approx(9.5648725)
    assert stage["itl"].count == 54
    assert stage.spec.endpoint["model"] == "tiny"


def test_aiperf_s_bursts_and_users_who_leave(tmp_path: Path) -> None:
    """Gamma arrivals have a load; who left by plan was cancelled, what the end cut off censored."""
    folder = FILES["aiperf"].parent
    summary = json.loads((folder / "profile_export_aiperf.json").read_bytes())
    phase = {"type": "gamma", "kind": "profiling", "rate": 4.0}
    summary["input_config"]["phases"] = [phase | {"smoothness": 0.25}]
    records = [json.loads(line) for line in FILES["aiperf"].read_bytes().splitlines()]
    for record, said in zip(records, ("0.5s after being sent", "by external signal"), strict=False):
        record["metadata"]["was_cancelled"] = True
        record["error"] = {"code": 499, "message": f"Request cancelled {said}"}
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps(summary))
    (tmp_path / "profile_export.jsonl").write_text("\n".join(map(json.dumps, records)))

    (stage,) = imported("aiperf", tmp_path)
    requests = stage.summary.requests
    assert stage.load == Gamma(4.0, shape=0.25)
    assert (requests.cancelled, requests.censored, requests.failed) == (1, 1, 0)
    assert requests.completed == len(records) - 2

    summary["input_config"]["phases"] = [phase]
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps(summary))
    assert imported("aiperf", tmp_path)[0].load == Gamma(4.0, shape=1.0)


def test_guidellm_s_requests() -> None:
    """A stage for each benchmark; a constant rate knows when its requests were due."""
    concurrent, constant = imported("guidellm")
    assert (concurrent.load, constant.load) == (Concurrency(2), ConstantRate(2.0))
    requests = concurrent.summary.requests
    assert (requests.completed, requests.failed, requests.censored) == (3, 1, 1)
    assert value(concurrent["ttft"].max) == pytest.approx(60)
    assert concurrent["tpot"].count == 2
    assert value(concurrent["tpot"].max) == pytest.approx(20)
    assert value(constant["lag"].max) == pytest.approx(9, abs=1e-3)
    assert value(constant["ttft"].min) == pytest.approx(50, abs=1e-3)
    assert (constant.summary.asked, constant.summary.offered) == (4, 4)
    assert "itl" not in concurrent.summary.metrics


def test_vllm_s_requests() -> None:
    """The instants of each chunk come from its arrays; what failed has none."""
    (stage,) = imported("vllm-bench")
    assert stage.load == Concurrency(2)
    requests = stage.summary.requests
    assert (requests.completed, requests.failed) == (4, 1)
    assert value(stage["ttft"].mean) == pytest.approx(54.25)
    assert stage["itl"].count == 9
    assert value(stage["e2e"].max) == pytest.approx(134)
    failed = stage.timelines[-1]
    assert (failed.token_at_ns.size, failed.sent_at_ns) == (0, 250 * NS_PER_MS)
    assert "peer went away" in str(failed.outcome)


def test_vllm_s_burstiness(tmp_path: Path) -> None:
    """It is the shape of gamma-distributed gaps, and that of 1 is Poisson."""
    result = json.loads(FILES["vllm-bench"].read_bytes())
    path = tmp_path / "bursts.json"
    for burstiness, load in ((0.5, Gamma(4.0, shape=0.5)), (1, Poisson(4.0))):
        path.write_text(json.dumps({**result, "request_rate": 4.0, "burstiness": burstiness}))
        assert imported("vllm-bench", path)[0].load == load


def test_vllm_s_figures_alone() -> None:
    """Without arrays there are figures without intervals, and a stage for each line."""
    slow, fast = imported("vllm-bench", AGGREGATES)
    assert (slow.load, fast.load) == (Poisson(8.0), Poisson(16.0))
    assert slow.timelines == ()
    p50, p99 = slow["ttft"].p50, slow["ttft"].p99
    assert (value(p50), value(p99)) == (48.9, 215.4)
    assert p50 is not None
    assert p50.ci95 is None
    assert value(fast.summary.output_tokens_per_s) == 2905.6
    assert slow.summary.asked is None


def test_figures_alone_cannot_tell() -> None:
    """Nothing says how noisy they are, so nothing is better or worse."""
    slow, fast = imported("vllm-bench", AGGREGATES)
    comparison = compare(slow, fast, allow_differences=["load"])
    assert comparison.outcome == "cannot tell"
    assert any(change.effect for change in comparison.stages[0].changes)


def test_figures_alone_have_no_goodput() -> None:
    """There are no requests to judge by other limits."""
    from llmperf_core import Slo

    with pytest.raises(UsageError, match="only figures"):
        imported("published-study")[0].under(Slo(ttft_ms=1))


def test_the_study_is_fifteen_deployments_at_four_loads() -> None:
    """Every row is there, with its times, and with the requests that it counted over 90 s."""
    runs = import_results("published-study", STUDY)
    assert len(runs) == 15
    stages = {(run.spec.target, s.load.value): s for run in runs for s in run.stages}
    rows = list(csv.DictReader(STUDY.read_text("utf-8").splitlines()))
    assert len(stages) == len(rows) == 60
    for row in rows:
        quantized = "" if row["quantization"] == "none" else f" {row['quantization']}"
        target = f"{row['Model Id']}@{row['Instance']}{quantized}"
        stage = stages[target, float(row["Virtual Users"])]
        per_token = stage["time_per_token"]
        assert value(per_token.p50) == pytest.approx(float(row["Latency (ms/token) med"]))
        assert value(per_token.max) == pytest.approx(float(row["Latency (ms/token) max"]))
        total = stage["server_total"]
        assert value(total.mean) == pytest.approx(float(row["Latency Request ms avg"]))
        count = int(row["Number of requests"])
        assert value(stage.summary.requests_per_s) == pytest.approx(count / 90)
        # What is a formula is no measurement, and 21 requests have no p95.
        assert stage.summary.output_tokens_per_s is None
        assert (per_token.p95 is None) == (count < 72)


def test_the_study_s_files_are_a_folder_too(tmp_path: Path) -> None:
    """A folder of its JSON files is read like the CSV."""
    source = FILES["published-study"]
    (tmp_path / source.name).write_bytes(source.read_bytes())
    (run,) = import_results("published-study", tmp_path)
    (stage,) = imported("published-study")
    assert run.stages[0].aggregate == stage.aggregate


def test_several_runs_have_a_folder_each(tmp_path: Path) -> None:
    """Named by their order and target."""
    paths = save_runs(import_results("published-study", STUDY), tmp_path)
    assert paths[2].name == "03-meta-llama-llama-2-7b-hf-ml.g5.12xlarge"
    assert all(isinstance(load_run(path), Run) for path in paths)


def test_an_unknown_format_lists_the_known_ones() -> None:
    """A typing error is answered with what there is."""
    with pytest.raises(UsageError, match="no format 'k6'; there are aiperf, guidellm"):
        import_results("k6", STUDY)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    """One line says that it is not there."""
    with pytest.raises(ImportFileError, match="No such file or directory"):
        import_results(name, tmp_path / "nothing.json")
