"""Plots as a user makes them: what they say, in the picture and in words, and their size."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from attrs import evolve

from llmperf_core import Comparison, Run, Slo, StageResult, compare, import_results
from llmperf_core.errors import MissingExtraError, StoredRunError, UsageError
from llmperf_core.judge import Quantity
from llmperf_core.load import Concurrency, Poisson
from llmperf_core.show.plots import Plot
from llmperf_core.show.plots import plot as plot_module
from llmperf_core.show.plots.cost import CostPoint, cost, in_words, pareto_front
from llmperf_core.show.view import number
from llmperf_core.telemetry import Sample, Telemetry
from llmperf_core.timeline import Censored, Failed, Outcome
from llmperf_core.units import NS_PER_S
from tests.test_compare import SERVER, SLOWER, SPEC, run, stage

EVIL = "<script>alert('x')</script>\" & 'y' ]]>"
STUDY = Path(__file__).parents[2] / "examples/published_study/llama2_sagemaker_tgi_1_0_3.csv"
SIMULATED = evolve(SPEC, target=EVIL, simulated=True, slo=Slo(ttft_ms=500))
TELEMETRY = Telemetry(
    meters={"server": "/metrics", "gpu0": "A10G"},
    samples=tuple(
        Sample(at_ns=k * NS_PER_S, meter=meter, values={word: float(k), "requests": 9.0})
        for k in range(60)
        for meter, word in (("server", "running"), ("gpu0", "power_w"), ("server", "power_w"))
    ),
)


@pytest.fixture(scope="module")
def simulated() -> StageResult:
    """A stage of a simulator whose name tries to break out, watched, with ends of every kind."""
    found = stage(spec=SIMULATED)
    ends: list[Outcome] = [Failed("http_500", EVIL), Censored()]
    timelines = [
        evolve(timeline, outcome=ends[k % 2]) if k % 40 < 2 else timeline
        for k, timeline in enumerate(found.timelines)
    ]
    return StageResult.of(
        timelines, found.observation, load=found.load, spec=SIMULATED, telemetry=TELEMETRY
    )


@pytest.fixture(scope="module")
def drawn(simulated: StageResult) -> dict[str, Plot]:
    """Every plot, of the simulator."""
    other = stage(spec=SIMULATED, load=Concurrency(16))
    both = run(simulated, other)
    comparison = compare(simulated, stage(SLOWER, 2, spec=SIMULATED))
    return {
        "percentiles": simulated.plots.percentiles(),
        "distribution of ttft": simulated.plots.distribution(),
        "distribution of itl": simulated.plots.distribution("itl"),
        "over time": simulated.plots.over_time(),
        "waterfall": simulated.plots.waterfall(),
        "throughput": both.plots.throughput(),
        "percentiles of a run": both.plots.percentiles("e2e"),
        "changes": comparison.plots.changes(),
        "cost": cost_plot(),
    }


def cost_plot() -> Plot:
    """Return three choices of a simulator, of which one is no good and one is beaten."""
    points = [
        cost_point(f"cheap {EVIL}", 1.0, 900.0),
        cost_point("quick", 4.0, 300.0),
        cost_point("neither", 5.0, 950.0),
    ]
    return Plot(
        title="cost",
        alt=in_words(points, "ttft.p50"),
        draw=lambda: cost(points, "ttft.p50"),
    )


def cost_point(label: str, usd: float, ttft_ms: float, status: str = "valid") -> CostPoint:
    """Return a choice of a simulator."""
    latency = Quantity(ttft_ms, "ms", (ttft_ms - 9, ttft_ms + 9))
    per_token = Quantity(usd, "USD per 1M output tokens", (0.9 * usd, 1.1 * usd))
    return CostPoint(label=label, cost=per_token, latency=latency, status=status, simulated=True)


NAMES = (
    "percentiles",
    "distribution of ttft",
    "distribution of itl",
    "over time",
    "waterfall",
    "throughput",
    "percentiles of a run",
    "changes",
    "cost",
)


def texts(svg: str) -> str:
    """Return all text of a picture that is well-formed XML."""
    return " ".join(ElementTree.fromstring(svg).itertext())  # noqa: S314 -- ours


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_whole_and_says_what_it_is_of(drawn: dict[str, Plot], name: str) -> None:
    """Well-formed, named, described, small, and with the word that a simulator never goes without.

    A hostile name is text in it.
    """
    svg = drawn[name].svg()
    assert "SIMULATED" in texts(svg)
    assert drawn[name].alt in texts(svg)
    assert re.search(r'^<svg[^>]* role="img" aria-labelledby="t\w+"', svg)
    assert "<script" not in svg
    assert not re.search(r'(href|src)="', svg)
    assert len(svg) < 90_000


def test_every_axis_has_its_unit(drawn: dict[str, Plot]) -> None:
    """No axis of a measure is without one."""
    for name, units in {
        "percentiles": ["time (ms)", "percentile"],
        "distribution of itl": ["ITL (ms, logarithmic)", "share of the values (%)"],
        "over time": ["(req/s)", "(requests)", "(tok/s)", "(W)", "time since the stage began (s)"],
        "waterfall": ["time since start (ms)"],
        "throughput": ["TTFT (ms)", "throughput (tok/s)", "SLO 500 ms"],
        "changes": ["change (%)"],
        "cost": ["cost (USD per 1M output tokens)", "TTFT p50 (ms)"],
    }.items():
        shown = texts(drawn[name].svg())
        assert [unit for unit in units if unit not in shown] == []


def test_the_words_have_the_figures_of_the_summary(
    drawn: dict[str, Plot], simulated: StageResult
) -> None:
    """Who does not see the picture is told the same."""
    for metric in ("ttft", "itl", "e2e"):
        assert f"p50 {number(simulated[metric].p50)}" in drawn["percentiles"].alt
    assert f"{simulated['itl'].count:,} values" in drawn["distribution of itl"].alt
    assert "power (W) " in drawn["over time"].alt
    ends = simulated.plots.waterfall(count=10_000).alt
    assert "failed after" in ends
    assert "cut off after" in ends
    assert "The limit is 500 ms" in drawn["throughput"].alt
    assert "itl p50 ms: worse" in drawn["changes"].alt
    assert str(drawn["cost"].alt).startswith("On the Pareto front: cheap <script>")


def test_pictures_side_by_side_have_no_id_in_common(drawn: dict[str, Plot]) -> None:
    """In one page, a clip path of one picture must not cut another."""
    pictures = [plot.svg() for plot in drawn.values()]
    ids = re.findall(r' id="([^"]+)"', "".join(pictures))
    assert len(ids) == len(set(ids))
    assert pictures[0] == drawn["percentiles"].svg()
    for svg in pictures:
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(ids)


def test_the_verdict_is_in_the_picture(simulated: StageResult) -> None:
    """Of one stage its word, of several how many have which."""
    assert simulated.verdict.status in texts(simulated.plots.over_time().svg())
    both = run(simulated, stage(spec=SIMULATED))
    assert "1 valid, 1 suspect" in texts(both.plots.throughput().svg())


def test_a_long_stage_makes_no_larger_picture(simulated: StageResult) -> None:
    """Data are reduced before they are drawn: twenty times the requests, the same size."""
    many = evolve(simulated, timelines=[*simulated.timelines] * 20)
    for draw in ("percentiles", "distribution", "over_time", "waterfall"):
        small, large = (len(getattr(one.plots, draw)().svg()) for one in (simulated, many))
        assert large < 1.2 * small


def test_figures_alone_can_be_drawn_as_far_as_they_go() -> None:
    """What another tool published of its runs has percentiles and throughput, but no requests."""
    study = import_results("published-study", STUDY)[0]
    assert "p95" in study.stages[0].plots.percentiles().alt
    assert "req/s" in study.plots.throughput().alt
    for name in ("over_time", "waterfall"):
        with pytest.raises(UsageError, match="no requests to draw"):
            getattr(study.stages[0].plots, name)()


def test_several_targets_have_a_line_each() -> None:
    """Their names are in the legend, and their medians in the picture."""
    stages = [s for found in import_results("published-study", STUDY)[:2] for s in found.stages]
    plot = Run(spec=stages[0].spec, stages=tuple(stages)).plots.throughput()
    for name in {one.spec.target for one in stages}:
        assert f"{name} at load 20:" in plot.alt


def test_many_loads_are_thinned(simulated: StageResult) -> None:
    """More lines than six cannot be told apart; the first and the last are kept."""
    loads = [evolve(simulated, load=Poisson(k)) for k in range(1, 12)]
    alt = run(*loads).plots.percentiles().alt
    assert alt.count("poisson") == 6
    assert "poisson 1/s" in alt
    assert "poisson 11/s" in alt


def test_what_has_no_values_is_refused(simulated: StageResult) -> None:
    """By a line that says what there is."""
    with pytest.raises(UsageError, match=r"no values of 'lag'; there are ttft, "):
        simulated.plots.distribution("lag")
    with pytest.raises(UsageError, match="no stage has values"):
        run(simulated).plots.percentiles("lag")
    with pytest.raises(UsageError, match="not all stages"):
        run(simulated).plots.throughput("lag")


def test_a_comparison_without_a_known_change_is_refused(simulated: StageResult) -> None:
    """There is nothing to draw of it."""
    nothing = evolve(compare(simulated, simulated).view, pairs=[])
    with pytest.raises(UsageError, match="has a known change to draw"):
        Comparison(view=nothing).plots.changes()


def test_the_front_is_what_nothing_beats() -> None:
    """Neither in cost nor in latency; an invalid point is never in it, however good it looks."""
    cheap, quick = cost_point("cheap", 1, 900), cost_point("quick", 4, 300)
    beaten, no_good = cost_point("beaten", 2, 900), cost_point("x", 0.1, 1, "invalid")
    assert pareto_front([beaten, quick, no_good, cheap]) == [cheap, quick]


def test_it_is_saved_in_three_forms(simulated: StageResult, tmp_path: Path) -> None:
    """SVG, PNG and the Vega-Lite specification; another name is refused, and so is no folder."""
    plot = simulated.plots.distribution()
    for suffix, begins in {".svg": b"<svg", ".png": b"\x89PNG", ".json": b"{"}.items():
        plot.save(tmp_path / f"plot{suffix}")
        assert (tmp_path / f"plot{suffix}").read_bytes().startswith(begins)
    with pytest.raises(UsageError, match=r"\.svg, \.png, \.json, not as 'plot.gif'"):
        plot.save(tmp_path / "plot.gif")
    with pytest.raises(StoredRunError, match="cannot be written"):
        plot.save(tmp_path / "no folder" / "plot.svg")


def test_a_notebook_shows_it(simulated: StageResult) -> None:
    """As a picture where there is HTML, in words where there is none."""
    plot = simulated.plots.distribution()
    assert plot.svg() in plot._repr_html_()
    assert plot.alt in repr(plot)


@pytest.mark.parametrize(
    "draw",
    [
        lambda one: one.plots.percentiles(),
        lambda one: one.plots.waterfall(),
        lambda one: run(one).plots.throughput(),
        lambda one: compare(one, one).plots.changes(),
    ],
)
def test_without_the_extra_it_says_what_to_install(
    simulated: StageResult, draw: Callable[[StageResult], Plot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, before anything is computed."""
    monkeypatch.setattr(plot_module, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"'altair'.*llmperf-toolkit\[plots\]"):
        draw(simulated)


def test_values_all_alike_can_be_drawn() -> None:
    """A server without any noise has a distribution of one bin."""
    found = stage(evolve(SERVER), load=Concurrency(8))
    one = evolve(found, timelines=[found.timelines[200]] * 100)
    alike = StageResult.of(one.timelines, one.observation, load=one.load, spec=one.spec)
    plot = alike.plots.distribution("ttft")
    assert "100 values" in plot.alt
    assert "100 %" in plot.alt
    assert "nan" not in plot.svg().lower().replace("nand", "")
