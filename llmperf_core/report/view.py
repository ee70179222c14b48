"""What a report is made of: runs as every form of it takes them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from attrs import field, frozen

from llmperf_core.comparison import Comparison
from llmperf_core.judge import Slo
from llmperf_core.recommendation import Recommendation
from llmperf_core.report.command import command_of
from llmperf_core.results import Run
from llmperf_core.show import ComparisonView, RunView, StageView
from llmperf_core.show.plots import ComparisonPlots, RunPlots, StagePlots
from llmperf_core.show.view import Column, measured, named, number, stage_columns
from llmperf_core.target import Json
from llmperf_core.timeline import Failed

_IN_COLUMNS = ("ttft", "itl", "tpot", "e2e")
_MOST_FURTHER = 2


@frozen(kw_only=True)
class ErrorShown:
    """Requests that failed alike."""

    error: str
    count: int
    example: str
    """What the server or the system said of one of them."""


@frozen(kw_only=True, eq=False)
class StageReport:
    """One stage."""

    view: StageView
    plots: StagePlots
    has_requests: bool
    errors: Sequence[ErrorShown]


@frozen(kw_only=True, eq=False)
class RunReport:
    """One run: its stages, and what it was run with."""

    view: RunView
    stages: Sequence[StageReport]
    plots: RunPlots
    slo: Slo | None
    facts: Mapping[str, Json]
    """Of the endpoint, the workload, the settings and the machine, by those words."""
    command: str | None
    """What does it again; None where another tool measured it."""


def _in_order(runs: Iterable[RunReport]) -> tuple[RunReport, ...]:
    return tuple(runs)


@frozen(kw_only=True, eq=False)
class ReportView:
    """Everything that a report says."""

    runs: tuple[RunReport, ...] = field(converter=_in_order)
    comparison: ComparisonView | None = None
    comparison_plots: ComparisonPlots | None = None
    passes: bool | None = None
    """Whether a gate lets the comparison's candidate through."""
    recommendation: Recommendation | None = None
    made_at: str

    @property
    def simulated(self) -> bool:
        """Whether any of it was measured of a simulator."""
        return any(run.view.simulated for run in self.runs)

    @property
    def title(self) -> str:
        """What it is about."""
        targets = list(dict.fromkeys(run.view.target for run in self.runs))
        return targets[0] if len(targets) == 1 else f"{len(targets)} targets"

    @property
    def stages(self) -> Sequence[tuple[RunReport, StageReport]]:
        """All stages, each with its run."""
        return [(run, stage) for run in self.runs for stage in run.stages]

    @property
    def status(self) -> Literal["valid", "suspect", "invalid"]:
        """The gravest of the verdicts."""
        found = {stage.view.verdict.status for _, stage in self.stages}
        for status in ("invalid", "suspect"):
            if status in found:
                return status
        return "valid"


def report_view(
    runs: Sequence[Run],
    comparison: Comparison | None = None,
    recommendation: Recommendation | None = None,
) -> ReportView:
    """Return what there is to say of some runs, and of what was made of them."""
    return ReportView(
        runs=[_run(run) for run in runs],
        comparison=None if comparison is None else comparison.view,
        comparison_plots=None if comparison is None else comparison.plots,
        passes=None if comparison is None else comparison.passes,
        recommendation=recommendation,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _run(run: Run) -> RunReport:
    spec = run.spec
    stages = [
        StageReport(
            view=stage.view,
            plots=stage.plots,
            has_requests=len(stage.timelines) > 0,
            errors=_errors(
                timeline.outcome
                for timeline in stage.timelines
                if isinstance(timeline.outcome, Failed)
            ),
        )
        for stage in run.stages
    ]
    return RunReport(
        view=run.view,
        stages=stages,
        plots=run.plots,
        slo=spec.slo,
        facts={
            "endpoint": spec.endpoint,
            "workload": spec.workload,
            "seed": spec.seed,
            "measured on": spec.environment,
        },
        command=command_of(run),
    )


def _errors(failures: Iterable[Failed]) -> list[ErrorShown]:
    found: dict[str, ErrorShown] = {}
    for failure in failures:
        known = found.get(failure.error)
        count = 1 if known is None else known.count + 1
        example = failure.detail if known is None else known.example
        found[failure.error] = ErrorShown(error=failure.error, count=count, example=example)
    return list(found.values())


def columns_of(stages: Sequence[StageView]) -> list[Column[StageView]]:
    """Return the columns that have anything to say, and those of metrics of which ours are none."""
    usual = [
        column
        for column in stage_columns(stages)
        if any(column.cell(stage) != "–" for stage in stages)
    ]
    further = dict.fromkeys(
        metric.metric.name
        for stage in stages
        for metric in measured(stage.summary)
        if metric.metric.name not in _IN_COLUMNS
    )
    told_anyway = {"lag", "read_lag", "connect", "service_ttft", "service_e2e"}
    wanted = [name for name in further if name not in told_anyway][:_MOST_FURTHER]
    return [*usual, *(_further(name, p) for name in wanted for p in (50, 95))]


def _further(name: str, percentile: float) -> Column[StageView]:
    def cell(view: StageView) -> str:
        metric = view.summary.metrics.get(name)
        return number(None if metric is None else metric.percentile(percentile))

    return Column(f"{named(name)}\np{percentile:g} ms", cell, 20)
