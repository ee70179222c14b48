"""Compare results as a user does: what it says, what it refuses, what it shows."""

import json

import pytest
from attrs import evolve

from llmperf_core import Comparison, Run, Slo, StageResult, compare, detectable
from llmperf_core.errors import UnlikeRunsError, UsageError
from llmperf_core.judge import Change
from llmperf_core.load import (
    Concurrency,
    Gamma,
    LoadProfile,
    Poisson,
    Ramp,
    Replay,
    Steps,
    load_label,
)
from llmperf_core.run.folder import RunSpec
from llmperf_core.timeline import Failed, Observation, TokenCount
from tests.judge.queue_model import Model

SPEC = RunSpec(
    target="http://model",
    endpoint={"model": "llama", "stream": True},
    workload={"kind": "synthetic", "output_tokens": 40},
)
SERVER = Model()
SLOWER = evolve(SERVER, step_ms=1.1 * SERVER.step_ms)


def stage(
    model: Model = SERVER, seed: int = 1, *, spec: RunSpec = SPEC, load: LoadProfile | None = None
) -> StageResult:
    """Return the judged result of a minute of a server."""
    timelines, window = model.run(seed)
    observation = Observation(
        window=window, ended_at_ns=window.close_at_ns, started_at="", client_cpu_ns=0, reads=1
    )
    return StageResult.of(timelines, observation, load=load or Concurrency(8), spec=spec)


def run(*stages: StageResult) -> Run:
    """Return the run of some stages."""
    return Run(spec=stages[0].spec, stages=stages)


def change(comparison: Comparison, metric: str, statistic: str) -> Change:
    """Return the change of one figure of the first pair of stages."""
    return next(
        change
        for change in comparison.stages[0].changes
        if (change.figure.metric, change.figure.statistic) == (metric, statistic)
    )


@pytest.fixture(scope="module")
def before() -> StageResult:
    """A stage of the server as it was."""
    return stage()


@pytest.fixture(scope="module")
def after() -> StageResult:
    """A stage of the server with a decode that is 10 % slower."""
    return stage(SLOWER, 2)


def test_a_slower_server_is_worse(before: StageResult, after: StageResult) -> None:
    """The figure that it shows in, by how much, and no gate lets it through."""
    comparison = compare(before, after)
    itl = change(comparison, "itl", "p50")
    assert (comparison.outcome, comparison.passes) == ("worse", False)
    assert itl.outcome == "worse"
    assert itl.ci95 is not None
    assert itl.ci95[0] < 0.1 < itl.ci95[1]
    assert compare(after, before).outcome == "better"


def test_the_same_run_is_no_worse(before: StageResult) -> None:
    """Against itself nothing is better or worse, and a gate lets it through."""
    comparison = compare(before, before)
    assert {c.outcome for c in comparison.stages[0].changes} <= {"same", "cannot tell"}
    assert comparison.passes


def test_runs_are_matched_by_load(before: StageResult, after: StageResult) -> None:
    """Stages of the same load are compared; a load that one side lacks is named."""
    other_load = stage(load=Concurrency(16))
    comparison = compare(run(before, other_load), run(after))
    assert [pair.load for pair in comparison.stages] == ["concurrency 8"]
    assert "concurrency 16" in repr(comparison)


def test_repeats_are_taken_together(before: StageResult) -> None:
    """Two starts that differ by 10 % make an interval that a single one does not have."""
    sometimes_slow = [before, stage(SLOWER, 3)]
    repeated = compare(sometimes_slow, [stage(SERVER, 4), stage(SLOWER, 5)])
    interval = change(repeated, "itl", "p50").ci95
    assert interval is not None
    assert interval[1] - interval[0] > 0.1
    assert repeated.passes


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("workload", evolve(SPEC, workload={"kind": "fixed"})),
        ("model", evolve(SPEC, endpoint={"model": "mistral", "stream": True})),
        ("stream", evolve(SPEC, endpoint={"model": "llama", "stream": False})),
        ("simulated", evolve(SPEC, simulated=True)),
    ],
)
def test_unlike_runs_are_refused_by_name(before: StageResult, name: str, spec: RunSpec) -> None:
    """What differs is named, and what is named can be allowed."""
    unlike = stage(spec=spec)
    with pytest.raises(UnlikeRunsError, match=f"differ in {name}") as raised:
        compare(before, unlike)
    assert set(raised.value.differences) == {name}
    assert compare(before, unlike, allow_differences=[name]).passes
    assert compare(before, unlike, allow_differences=True).passes


def test_unlike_records_are_refused(before: StageResult) -> None:
    """Who stamped, and who counted the tokens, must be alike, too."""
    foreign = [
        evolve(t, stamps="user", tokens=TokenCount(output=t.tokens.output))
        for t in before.timelines
    ]
    other = StageResult.of(foreign, before.observation, load=before.load, spec=before.spec)
    with pytest.raises(UnlikeRunsError, match=r"stamps \(kernel against user\)") as raised:
        compare(before, other)
    assert set(raised.value.differences) == {"stamps", "counted_by"}


def test_other_loads_are_refused(before: StageResult) -> None:
    """Two stages under different loads are compared only if that is allowed."""
    other = stage(load=Concurrency(16))
    with pytest.raises(UnlikeRunsError, match="concurrency 8 against concurrency 16"):
        compare(before, other)
    comparison = compare(before, other, allow_differences=["load"])
    assert comparison.stages[0].load == "concurrency 8 against concurrency 16"


@pytest.mark.parametrize(
    ("load", "other", "says"),
    [
        (Gamma(8, shape=0.25), Gamma(8, shape=0.5), r"gamma:0\.25 8/s against gamma:0\.5 8/s"),
        (Gamma(8, shape=1), Poisson(8), "gamma:1 8/s against poisson 8/s"),
        (Steps([(2, 5)]), Steps([(2, 9)]), r"Steps\(steps=\(\(2, 5\),\), .* against Steps"),
        (
            Ramp(1, 9, duration_s=5),
            Ramp(1, 9, duration_s=5, spread="constant"),
            "'poisson'.*'const",
        ),
        (Replay([0, 1, 10**9]), Replay([0, 2, 10**9]), r"Replay\(at_ns=<3 instants>"),
    ],
)
def test_loads_are_alike_in_all_that_they_are_made_of(
    load: LoadProfile, other: LoadProfile, says: str
) -> None:
    """The shape of bursts, how long a step lasts: also what a label leaves out."""
    one, two = stage(load=load), stage(load=other)
    with pytest.raises(UnlikeRunsError, match=says):
        compare(one, two)
    # Under a load that they were not made by, they are invalid.
    comparison = compare(run(one, two), run(two, one), allow_invalid=True)
    assert [pair.load for pair in comparison.stages] == [load_label(load), load_label(other)]
    assert len({len(pair.changes) for pair in comparison.stages}) == 1


def test_what_is_not_known_differs_from_nothing(before: StageResult) -> None:
    """A run that does not name its model may be compared with one that does."""
    nameless = stage(spec=evolve(SPEC, endpoint={}, workload={}))
    assert compare(before, nameless).passes


def test_an_invalid_stage_is_left_out(before: StageResult) -> None:
    """It is not compared and no gate is passed; unless the caller wants it."""
    broken = [evolve(t, outcome=Failed("http_500")) for t in before.timelines[:200]]
    invalid = StageResult.of(
        [*broken, *before.timelines[200:]],
        before.observation,
        load=before.load,
        spec=before.spec,
    )
    comparison = compare(before, invalid)
    assert (comparison.stages, comparison.passes) == ([], False)
    assert "http_500" in repr(comparison)
    assert compare(before, invalid, allow_invalid=True).stages


def test_goodput_is_compared_under_limits(before: StageResult, after: StageResult) -> None:
    """Where both have an SLO, the goodput is one of the figures."""
    slo = Slo(e2e_ms=1500)
    comparison = compare(before.under(slo), after.under(slo))
    assert change(comparison, "goodput", "rate").figure.direction == "higher"


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_a_margin_is_a_share(before: StageResult, margin: float) -> None:
    """From nothing to below the whole."""
    with pytest.raises(UsageError, match="the margin must be"):
        compare(before, before, margin=margin)


def test_nonsense_is_refused(before: StageResult) -> None:
    """Nothing to compare, or a difference that there is not."""
    with pytest.raises(UsageError, match="the baseline holds no stage"):
        compare([], before)
    with pytest.raises(UsageError, match="the candidate holds no stage"):
        compare(before, [])
    with pytest.raises(UsageError, match="no difference 'colour'; there are counted_by, load"):
        compare(before, before, allow_differences=["colour"])


def test_what_can_be_seen_is_known_beforehand(before: StageResult, after: StageResult) -> None:
    """The baseline alone says what the comparison then says of it."""
    beforehand = {row.figure: row.detectable for row in detectable(before).rows}
    compared = {c.figure: c.detectable for c in compare(before, after).stages[0].changes}
    for figure, share in compared.items():
        assert beforehand[figure] == (None if share is None else pytest.approx(share, rel=0.2))


def test_every_form_of_output_says_the_same() -> None:
    """Text, HTML and document have the sides, the outcomes, and that one is simulated."""
    simulated = evolve(SPEC, simulated=True, target="sim:<llama>")
    comparison = compare(stage(spec=simulated), stage(SLOWER, 2, spec=simulated))
    text, html, document = repr(comparison), comparison._repr_html_(), comparison.to_dict()
    assert "SIMULATED" in text
    assert "SIMULATED" in html
    assert document["simulated"] is True
    assert "worse" in text
    assert "worse" in html
    assert "sim:&lt;llama&gt;" in html
    assert document["outcome"] == "worse"
    assert json.loads(json.dumps(document, allow_nan=False)) == document
