"""The report as one HTML file: no script, nothing loaded, light and dark, to be printed, too."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from attrs import frozen

from llmperf_core._version import __version__
from llmperf_core.errors import UsageError
from llmperf_core.load import load_label
from llmperf_core.report.view import ReportView, RunReport, StageReport, columns_of
from llmperf_core.report.words import (
    OVERVIEW_COLUMNS,
    answers,
    measured_words,
    overview,
    verdicts,
)
from llmperf_core.show import recommendation
from llmperf_core.show.calibration import calibrated
from llmperf_core.show.comparison import CHANGE_COLUMNS, conclusions
from llmperf_core.show.plots import Plot
from llmperf_core.show.plots.plot import need_altair
from llmperf_core.show.plots.subject import thinned
from llmperf_core.show.telemetry import watch_lines
from llmperf_core.show.view import METRIC_COLUMNS, StageView, in_a_word, instrument, measured
from llmperf_core.target import Json

DRAWN_STAGES = 8
"""So many stages have pictures of their own: more would make a file that no browser likes."""


@frozen(eq=False)
class Drawn:
    """A picture in the page."""

    svg: str
    alt: str


def page(view: ReportView) -> str:
    """Return the HTML.

    All text in it is escaped: what a server or a prompt said is never a part of the page.

    Raises:
        MissingExtraError: the extra `plots` is not installed.
    """
    need_altair()
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("llmperf_core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictured = set(map(id, thinned([stage for _, stage in view.stages], DRAWN_STAGES)))
    return environment.get_template("page.html").render(
        view=view,
        version=__version__,
        verdicts=verdicts(view),
        answers=answers(view),
        overview=overview(view),
        overview_columns=OVERVIEW_COLUMNS,
        words=measured_words(view),
        columns_of=columns_of,
        metric_columns=METRIC_COLUMNS,
        change_columns=CHANGE_COLUMNS,
        conclusions=conclusions,
        choice=recommendation,
        choice_plots=list(_choice_plots(view)),
        measured=measured,
        load_label=load_label,
        calibrated=calibrated,
        notes=_notes,
        flat=_flat,
        # Ours: drawn from numbers, with every word escaped.
        safe_svg=lambda drawn: Markup(drawn.svg),  # noqa: S704
        comparison_plots=list(_comparison_plots(view)),
        run_plots=lambda run: list(_run_plots(run)),
        stage_plots=lambda stage: list(_stage_plots(stage)) if id(stage) in pictured else [],
        is_pictured=lambda stage: id(stage) in pictured,
    )


def _notes(stage: StageView) -> list[str]:
    return [in_a_word(stage), *watch_lines(stage.watch, stage.split), instrument(stage)]


def _flat(facts: Mapping[str, Json], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested facts as pairs of a dotted name and a value in words."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None and value != []:
            yield f"{before}{name}", str(value)


def _run_plots(run: RunReport) -> Iterator[Drawn]:
    if len(run.stages) > 1:
        yield from _if_any(run.plots.throughput)
    names = {m.metric.name for stage in run.stages for m in measured(stage.view.summary)}
    wanted = [name for name in ("ttft", "itl", "e2e") if name in names] or sorted(names)[:1]
    if len(run.stages) > 1:
        for name in wanted:
            yield from _if_any(partial(run.plots.percentiles, name))


def _stage_plots(stage: StageReport) -> Iterator[Drawn]:
    plots = stage.plots
    names = {metric.metric.name for metric in measured(stage.view.summary)}
    yield from _if_any(plots.percentiles)
    if not stage.has_requests:
        return
    for name in ("ttft", "itl"):
        if name in names:
            yield from _if_any(partial(plots.distribution, name))
    yield from _if_any(plots.over_time)
    yield from _if_any(plots.waterfall)


def _comparison_plots(view: ReportView) -> Iterator[Drawn]:
    if view.comparison_plots is not None:
        yield from _if_any(view.comparison_plots.changes)


def _choice_plots(view: ReportView) -> Iterator[Drawn]:
    if view.recommendation is not None:
        yield from _if_any(view.recommendation.plots.cost)


def _if_any(make: Callable[[], Plot]) -> Iterator[Drawn]:
    """Yield the picture, or nothing where there is nothing to draw."""
    try:
        plot = make()
    except UsageError:
        return
    yield Drawn(plot.svg(), plot.alt)
