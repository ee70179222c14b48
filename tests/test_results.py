"""What measuring yields: judged, shown, kept, and read back as the same."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from llmperf_core import Run, Slo, StageResult, load_run
from llmperf_core.errors import StoredRunError
from llmperf_core.judge import read_log
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile, Poisson
from llmperf_core.run.folder import RunSpec
from llmperf_core.run.settings import Settings
from llmperf_core.telemetry import Telemetry
from llmperf_core.timeline import (
    Censored,
    Completed,
    Failed,
    Observation,
    Outcome,
    Timeline,
    TokenCount,
    Window,
)
from llmperf_core.units import NS_PER_MS, NS_PER_S

SPEC = RunSpec(
    target="http://model",
    workload={"kind": "fixed"},
    settings=Settings(duration_s=10, seed=7),
    seed=7,
    environment={"python": "CPython"},
)
OBSERVATION = Observation(
    window=Window(open_at_ns=2 * NS_PER_S, close_at_ns=12 * NS_PER_S),
    ended_at_ns=13 * NS_PER_S,
    started_at="2024-01-01T00:00:00+00:00",
    client_cpu_ns=NS_PER_S,
    reads=1000,
)


def request(index: int, *, gap_ms: int = 20, outcome: Outcome | None = None) -> Timeline:
    """Return one of a hundred and more requests, spread over the window, of ten tokens each."""
    sent_at_ns = 2 * NS_PER_S + index * 90 * NS_PER_MS
    first_at_ns = sent_at_ns + (100 + index % 50) * NS_PER_MS
    token_at_ns = [first_at_ns + k * gap_ms * NS_PER_MS for k in range(10)]
    return Timeline(
        index=index,
        due_at_ns=None,
        sent_at_ns=sent_at_ns,
        token_at_ns=token_at_ns,
        read_lag_ns=[40_000] * 10,
        ended_at_ns=token_at_ns[-1],
        outcome=outcome or Completed("length"),
        tokens=TokenCount(output=10, input=5, counted_by="usage"),
        asked_tokens=10,
        stamps="kernel",
    )


def result(*timelines: Timeline, load: LoadProfile | None = None) -> StageResult:
    """Return the judged result of these requests, or of a hundred."""
    requests = timelines or tuple(map(request, range(100)))
    return StageResult.of(requests, OBSERVATION, load=load or Concurrency(5), spec=SPEC)


def test_metric_is_a_value_with_its_interval() -> None:
    """As the guide shows it."""
    p50 = result()["ttft"].p50

    assert p50 is not None
    assert p50.unit == "ms"
    assert p50.ci95 is not None
    assert p50.ci95[0] <= p50.value <= p50.ci95[1]


def test_unknown_metric_names_those_that_there_are() -> None:
    """A slip of the finger."""
    with pytest.raises(KeyError, match="ttft"):
        result()["tftt"]


def test_document_is_that_of_the_contract() -> None:
    """A stage is one entry of the run's stages; all of it is plain JSON."""
    stage = result()
    document = Run(spec=SPEC, stages=(stage,)).to_dict()

    assert document["schema"] == "llmperf.summary/1"
    assert document["stages"] == [stage.to_dict()]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_order_of_ending_does_not_change_what_it_comes_to() -> None:
    """Timelines come as requests end, and intervals look at the order of starting."""
    rng = np.random.default_rng(3)
    # Slow and fast stretches: neighbours are alike, and only in the order of starting.
    requests = [request(k, gap_ms=10 + 20 * (k // 20 % 2)) for k in range(100)]
    shuffled = [requests[k] for k in rng.permutation(100)]

    assert result(*shuffled).to_dict() == result(*requests).to_dict()
    assert [t.index for t in result(*shuffled).timelines] == [t.index for t in shuffled]


def test_under_other_limits_only_the_goodput_differs() -> None:
    """The same measurement, judged again; what it was judged by is recorded."""
    before = result()
    after = before.under(Slo(ttft_ms=120))
    one, other = dict(before.to_dict()), dict(after.to_dict())

    assert one.pop("goodput") is None
    assert other.pop("goodput") is not None
    assert one == other
    assert after.spec.slo == Slo(ttft_ms=120)
    assert before.spec.slo is None


def test_repr_is_the_table() -> None:
    """In a notebook and at a prompt: the target, the figures, the verdict; no escape codes."""
    shown = repr(result())

    assert "http://model" in shown
    assert "TTFT" in shown
    assert "\x1b" not in shown
    assert "http://model" in result()._repr_html_()


@pytest.mark.parametrize("load", [Concurrency(5), ConstantRate(2.5), Poisson(7)])
def test_saved_run_is_the_same_when_it_is_loaded(tmp_path: Path, load: LoadProfile) -> None:
    """Its document, its table, its page; each stage of it."""
    stages = (result(load=load), result(request(0), load=load))
    run = Run(spec=SPEC, stages=stages)
    run.save(tmp_path / "run")
    back = load_run(tmp_path / "run")

    assert back.to_dict() == run.to_dict()
    assert repr(back) == repr(run)
    assert back._repr_html_() == run._repr_html_()
    assert back.spec == run.spec
    assert [stage.observation for stage in back.stages] == [OBSERVATION] * 2


def test_stage_is_saved_as_a_run_of_one(tmp_path: Path) -> None:
    """What `bench` returns can be kept, too; the limits that it was judged by with it."""
    stage = result().under(Slo(ttft_ms=120, e2e_ms=4000))
    stage.save(str(tmp_path / "run"))
    [back] = load_run(str(tmp_path / "run")).stages

    assert back.to_dict() == stage.to_dict()
    assert back.spec.slo == Slo(ttft_ms=120, e2e_ms=4000)


outcomes = st.sampled_from([Completed("stop"), Completed(), Failed("http_429", "busy"), Censored()])


@examples(max_examples=25)
@given(st.lists(outcomes, max_size=30))
def test_any_run_survives_saving(found: list[Outcome]) -> None:
    """Whatever became of its requests, and also if there were none."""
    timelines = [request(k, outcome=outcome) for k, outcome in enumerate(found)]
    stage = StageResult.of(timelines, OBSERVATION, load=Concurrency(2), spec=SPEC)
    with tempfile.TemporaryDirectory() as folder:
        stage.save(folder)
        assert load_run(folder).to_dict() == Run(spec=SPEC, stages=(stage,)).to_dict()


def test_summary_and_histograms_are_beside_the_timelines(tmp_path: Path) -> None:
    """What others read: the document's entry as JSON, and an HdrHistogram log."""
    stage = result()
    stage.save(tmp_path)
    folder = tmp_path / "stages" / "01-concurrency-5"

    assert json.loads((folder / "summary.json").read_text()) == stage.to_dict()
    recorders = read_log((folder / "histograms.hlog").read_text().splitlines())
    assert recorders["ttft"].count == 100
    assert recorders["itl"].count == 900


def test_timelines_alone_are_enough(tmp_path: Path) -> None:
    """Everything else can be made of them again."""
    stage = result()
    stage.save(tmp_path)
    for made in ("summary.json", "histograms.hlog"):
        next(tmp_path.rglob(made)).unlink()

    assert load_run(tmp_path).stages[0].to_dict() == stage.to_dict()


def test_run_without_observation_is_an_interrupted_one(tmp_path: Path) -> None:
    """As a crash leaves it: judged as far as it goes, and said to be interrupted."""
    result().save(tmp_path)
    path = next(tmp_path.rglob("stage.json"))
    stage = json.loads(path.read_text())
    path.write_text(json.dumps({**stage, "observation": None}))
    [back] = load_run(tmp_path).stages

    assert back.observation.interrupted
    assert len(back.timelines) == 100
    assert back.summary.requests.completed == 100
    assert back.verdict.status != "valid"


def test_run_is_never_overwritten(tmp_path: Path) -> None:
    """Saving twice in one place is a mistake."""
    result().save(tmp_path)

    with pytest.raises(StoredRunError, match="there is a run in it already"):
        result().save(tmp_path)


def test_simulated_run_says_so_when_it_is_loaded(tmp_path: Path) -> None:
    """A simulator's figures must never pass for a model's."""
    run = Run(spec=evolve(SPEC, simulated=True), stages=(result(),))
    run.save(tmp_path)

    assert load_run(tmp_path).to_dict()["simulated"] is True


def test_whoever_shows_rich_objects_gets_text_and_a_page() -> None:
    """IPython asks so, and takes what it can show."""
    stage = result()
    for shown in (stage, Run(spec=stage.spec, stages=(stage,))):
        bundle = shown._repr_mimebundle_(include=None, exclude=None)
        assert bundle == {"text/plain": repr(shown), "text/html": shown._repr_html_()}


def test_a_cell_stays_one_however_its_stage_is_judged_anew() -> None:
    """A study finds its cells by their addresses, also after more was learned of a stage."""
    stage = evolve(result(), cell="ab12")
    later = Telemetry(meters={"server": "its log"})
    assert stage.with_telemetry(later).cell == "ab12"
    assert stage.under(Slo(ttft_ms=500)).cell == "ab12"
