"""What measuring yields: the result of a stage, and a run of several."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Self

from attrs import asdict, evolve, frozen

from llmperf_core import show
from llmperf_core.decide import Answer
from llmperf_core.errors import UsageError
from llmperf_core.judge import (
    CHECKS,
    METRICS,
    Aggregate,
    MetricSummary,
    Slo,
    Split,
    Summary,
    Verdict,
    Watch,
    as_calibrated,
    as_watched,
    judge,
    record_all,
    samples,
    split,
    summarize,
    summary_of,
    watch,
    write_log,
)
from llmperf_core.load import LoadProfile
from llmperf_core.run.folder import (
    RunFolder,
    RunSpec,
    StageFolder,
    StoredStage,
    json_file,
    read_run,
    write_file,
)
from llmperf_core.run.readings import FILE, telemetry_file
from llmperf_core.show.plots import RunPlots, StagePlots, Subject
from llmperf_core.target import Json
from llmperf_core.telemetry import Telemetry
from llmperf_core.timeline import Observation, Timeline

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

_TEXT_WIDTH = 100


@frozen(kw_only=True, eq=False, repr=False)
class StageResult:
    """What one target did under one load: every request, what they come to, what it is worth.

    `result["ttft"].p99` is a value with its unit and its 95 % interval.
    """

    load: LoadProfile
    timelines: Sequence[Timeline]
    """One for each request, those of warm-up and drain too, in the order in which they ended."""
    observation: Observation
    """What the harness saw of itself."""
    summary: Summary
    verdict: Verdict
    spec: RunSpec
    """What was run, and with what."""
    aggregate: Aggregate | None = None
    """What another tool said of the stage, where it kept no requests."""
    telemetry: Telemetry | None = None
    """What was read of the server and its machine meanwhile; None if nothing was."""
    watch: Watch | None = None
    """What that comes to over the window."""
    split: Split | None = None
    """Where the time of a request went; None where the server does not tell."""
    cell: str | None = None
    """The address of the cell of a study that it is; None if it is none's."""

    @classmethod
    def of(
        cls,
        timelines: Sequence[Timeline],
        observation: Observation,
        *,
        load: LoadProfile,
        spec: RunSpec,
        telemetry: Telemetry | None = None,
        cell: str | None = None,
    ) -> Self:
        """Judge what was measured."""
        source = spec.source
        metrics = METRICS if source is None else source.measured
        summary = summarize(timelines, observation, load=load, slo=spec.slo, metrics=metrics)
        if source is not None:
            summary = source.limited(summary)
        seen = None if telemetry is None else watch(telemetry, timelines, summary.window)
        return cls(
            load=load,
            timelines=timelines,
            observation=observation,
            summary=summary,
            verdict=_verdict(summary, observation, spec, seen),
            spec=spec,
            telemetry=telemetry,
            watch=seen,
            split=split(timelines, summary.window, seen),
            cell=cell,
        )

    @classmethod
    def of_aggregate(
        cls, aggregate: Aggregate, observation: Observation, *, load: LoadProfile, spec: RunSpec
    ) -> Self:
        """Judge what is known of a stage of which no request is."""
        summary = summary_of(aggregate, observation, load=load)
        return cls(
            load=load,
            timelines=(),
            observation=observation,
            summary=summary,
            verdict=_verdict(summary, observation, spec),
            spec=spec,
            aggregate=aggregate,
        )

    def under(self, slo: Slo) -> Self:
        """Return the same measurement with its goodput under other limits.

        Raises:
            UsageError: only figures are known of it, and no requests.
        """
        if self.aggregate is not None:
            raise UsageError("only figures of this stage were imported: it has no goodput")
        return self._judged_anew(evolve(self.spec, slo=slo), self.telemetry)

    def with_telemetry(self, later: Telemetry) -> Self:
        """Return the same measurement, judged with what was learned of it afterwards.

        Args:
            later: its meters replace those of the same name.
        """
        return self._judged_anew(self.spec, (self.telemetry or Telemetry()).and_later(later))

    def _judged_anew(self, spec: RunSpec, telemetry: Telemetry | None) -> Self:
        return self.of(
            self.timelines,
            self.observation,
            load=self.load,
            spec=spec,
            telemetry=telemetry,
            cell=self.cell,
        )

    def __getitem__(self, metric: str) -> MetricSummary:
        return self.summary[metric]

    def to_dict(self) -> Mapping[str, Json]:
        """Return the stage as it stands in the `stages` of the `--json` document."""
        return show.stage_document(self.view)

    def save(self, folder: Path | str) -> None:
        """Write a run's folder with this one stage; `load_run` reads it back.

        Raises:
            StoredRunError: there is a run in it already, or it cannot be written.
        """
        Run(spec=self.spec, stages=(self,)).save(folder)

    @property
    def view(self) -> show.StageView:
        """The stage as tables and pages take it."""
        return show.StageView(self.load, self.summary, self.verdict, self.watch, self.split)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the requests, a row for each, as a pandas frame. It needs the extra `frames`."""
        return show.pandas_frame(self._columns)

    def to_polars(self) -> "polars.DataFrame":
        """Return the requests, a row for each, as a polars frame. It needs the extra `frames`."""
        return show.polars_frame(self._columns)

    def to_arrow(self) -> "pyarrow.Table":
        """Return the requests, a row for each, as an Arrow table. It needs the extra `frames`."""
        return show.arrow_table(self._columns)

    @property
    def _columns(self) -> show.Columns:
        return show.request_columns(self.timelines, self.summary.window)

    @property
    def plots(self) -> StagePlots:
        """The stage in pictures: `stage.plots.over_time()`. They need the extra `plots`."""
        return StagePlots(self.subject)

    @property
    def subject(self) -> Subject:
        """The stage as pictures take it."""
        return Subject(
            target=self.spec.target,
            simulated=self.spec.simulated,
            view=self.view,
            observation=self.observation,
            timelines=self.timelines,
            telemetry=self.telemetry,
        )

    def keep(self, folder: StageFolder) -> None:
        """Write into its folder what was made of the measurement."""
        log = io.StringIO()
        files = {"summary.json": json_file(self.to_dict())}
        if self.aggregate is not None:
            files["aggregate.json"] = json_file(asdict(self.aggregate))
        else:
            source, window = self.spec.source, self.summary.window
            metrics = METRICS if source is None else source.measured
            recorded = record_all(samples(self.timelines, window), metrics)
            write_log(log, recorded, window=window)
            files["histograms.hlog"] = log.getvalue().encode()
        folder.keep(files)

    def keep_telemetry(self, path: Path) -> None:
        """Write what was learned afterwards into the stage's folder, and what it makes of it.

        Raises:
            StoredRunError: it cannot be written.
        """
        if self.telemetry is not None:
            write_file(path / FILE, telemetry_file(self.telemetry))
            write_file(path / "summary.json", json_file(self.to_dict()))

    def __repr__(self) -> str:
        return repr(Run(spec=self.spec, stages=(self,)))

    def _repr_html_(self) -> str:
        return Run(spec=self.spec, stages=(self,))._repr_html_()

    _repr_mimebundle_ = show.mimebundle


@frozen(kw_only=True, eq=False, repr=False)
class Run:
    """Stages of one target, in the order in which they ran."""

    spec: RunSpec
    stages: tuple[StageResult, ...]

    def to_dict(self) -> Mapping[str, Json]:
        """Return the `--json` document, schema `llmperf.summary/1`."""
        return show.run_document(self.view)

    def save(self, folder: Path | str) -> None:
        """Write a run's folder; `load_run` reads it back.

        Raises:
            StoredRunError: there is a run in it already, or it cannot be written.
        """
        kept = RunFolder(Path(folder), self.spec)
        for stage in self.stages:
            place = kept.new_stage(stage.load, cell=stage.cell)
            with place.journal() as journal:
                for timeline in stage.timelines:
                    journal.append(timeline)
            place.finish(stage.observation, stage.telemetry)
            stage.keep(place)

    @property
    def view(self) -> show.RunView:
        """The run as tables and pages take it."""
        return show.RunView(
            target=self.spec.target,
            stages=[stage.view for stage in self.stages],
            simulated=self.spec.simulated,
            environment={**self.spec.environment, "server": self.spec.endpoint.get("server")},
            calibration=self.spec.settings.calibration,
        )

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the stages, a row for each, as a pandas frame. It needs the extra `frames`."""
        return show.pandas_frame(self._columns)

    def to_polars(self) -> "polars.DataFrame":
        """Return the stages, a row for each, as a polars frame. It needs the extra `frames`."""
        return show.polars_frame(self._columns)

    def to_arrow(self) -> "pyarrow.Table":
        """Return the stages, a row for each, as an Arrow table. It needs the extra `frames`."""
        return show.arrow_table(self._columns)

    @property
    def _columns(self) -> show.Columns:
        return show.summary_columns(self.view)

    @property
    def plots(self) -> RunPlots:
        """The stages in one picture: `run.plots.throughput()`. They need the extra `plots`."""
        return RunPlots([stage.subject for stage in self.stages], self.spec.slo)

    def __repr__(self) -> str:
        return show.as_text(partial(show.render, self.view), width=_TEXT_WIDTH)

    def _repr_html_(self) -> str:
        return show.run_html(self.view)

    _repr_mimebundle_ = show.mimebundle


@frozen(kw_only=True, eq=False, repr=False)
class Explored:
    """What was measured to answer a question, and the answer."""

    run: Run
    """The stages, in the order of measuring: each load was chosen by what came before."""
    answer: Answer

    def to_dict(self) -> Mapping[str, Json]:
        """Return the `--json` document, schema `llmperf.exploration/1`."""
        return {
            "schema": "llmperf.exploration/1",
            "answer": self.answer.to_dict(),
            "run": self.run.to_dict(),
        }

    def __repr__(self) -> str:
        return f"{self.answer}\n\n{self.run!r}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self.answer))}</p>{self.run._repr_html_()}"

    _repr_mimebundle_ = show.mimebundle


def _verdict(
    summary: Summary, observation: Observation, spec: RunSpec, seen: Watch | None = None
) -> Verdict:
    calibration, source = spec.settings.calibration, spec.source
    checks = [
        *CHECKS,
        *([] if calibration is None else [as_calibrated(calibration)]),
        *([] if source is None else [source.check]),
        *([] if seen is None else as_watched(seen)),
    ]
    return judge(summary, observation, checks=checks)


def _read_back(stage: StoredStage, spec: RunSpec) -> StageResult:
    if stage.aggregate is not None:
        return StageResult.of_aggregate(
            stage.aggregate, stage.observation, load=stage.load, spec=spec
        )
    return StageResult.of(
        stage.timelines,
        stage.observation,
        load=stage.load,
        spec=spec,
        telemetry=stage.telemetry,
        cell=stage.cell,
    )


def load_runs(folder: Path | str) -> list[Run]:
    """Read a run's folder, or every run in the folders below it, by their names.

    Raises:
        StoredRunError: there is no run, or one is of an unknown version or damaged.
    """
    top = Path(folder)
    inside = sorted(path.parent for path in top.rglob("run.json"))
    return [load_run(path) for path in inside or [top]]


def load_run(folder: Path | str) -> Run:
    """Read a run's folder, and judge it anew. A stage that a crash cut off is an interrupted one.

    Raises:
        StoredRunError: it is no run's folder, of an unknown version, or damaged.
    """
    spec, stored = read_run(Path(folder))
    return Run(spec=spec, stages=tuple(_read_back(stage, spec) for stage in stored))
