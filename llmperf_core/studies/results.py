"""What a study has measured, read back from its folder."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from html import escape
from pathlib import Path

from attrs import asdict, evolve, frozen

from llmperf_core import show
from llmperf_core.bringup import Price
from llmperf_core.decide import Needs
from llmperf_core.load import LoadProfile, load_of
from llmperf_core.recommendation import Recommendation, recommend
from llmperf_core.results import Run, StageResult, load_run
from llmperf_core.studies.folder import (
    SCHEMA,
    StoredCell,
    StoredTarget,
    findings,
    run_folders,
    spent_usd,
    stored_study,
)
from llmperf_core.target import Json
from llmperf_core.units import format_usd

_TEXT_WIDTH = 120


@frozen(kw_only=True, eq=False)
class CellResult:
    """One cell of a study, and what was measured."""

    id: str
    """Its address."""
    target: str
    load: LoadProfile
    repeat: int
    stage: StageResult | None
    """None as long as it is missing."""


@frozen(kw_only=True, eq=False)
class TargetResult:
    """One target of a study."""

    name: str
    labels: Mapping[str, str]
    price: Price | None
    cells: tuple[CellResult, ...]
    runs: tuple[Run, ...]
    """Its bring-ups, in order. Stages that were interrupted are in them, too."""
    finding: str | None
    """What went wrong with it when it was last brought up; None if nothing did."""

    @property
    def stages(self) -> tuple[StageResult, ...]:
        """What was measured of it, in the order of the cells."""
        return tuple(cell.stage for cell in self.cells if cell.stage is not None)


@frozen(kw_only=True, eq=False, repr=False)
class StudyRun:
    """What a study has measured so far, whoever measured it and in however many goes."""

    folder: Path
    targets: tuple[TargetResult, ...]
    spent_usd: float
    """What the bring-ups have cost. One whose end is not known has cost its worst case."""

    @property
    def cells(self) -> tuple[CellResult, ...]:
        """All cells, target by target."""
        return tuple(cell for target in self.targets for cell in target.cells)

    @property
    def missing(self) -> tuple[CellResult, ...]:
        """The cells that are still to be measured."""
        return tuple(cell for cell in self.cells if cell.stage is None)

    def __getitem__(self, target: str) -> TargetResult:
        for result in self.targets:
            if result.name == target:
                return result
        raise KeyError(target)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All bring-ups, without the stages that were cut off and measured again."""
        kept = (_without_interrupted(run) for target in self.targets for run in target.runs)
        return tuple(run for run in kept if run.stages)

    @property
    def prices(self) -> Mapping[str, Price]:
        """What is known of them, by the names of the targets of which something was measured."""
        measured = {run.spec.target for run in self.runs}
        return {t.name: t.price for t in self.targets if t.price and t.name in measured}

    def recommend(
        self,
        needs: Needs | None = None,
        *,
        prices: Mapping[str, Price] | None = None,
        allow_differences: bool | Collection[str] = False,
    ) -> Recommendation:
        """Say which target to deploy, by each rule, or between which it cannot be told.

        Args:
            needs: the rules and the constraints.
            prices: what if they were these; others stay as the study has them.
            allow_differences: as for `recommend`.

        Raises:
            UnlikeRunsError: what was measured differs in what must be alike; it names what.
            UsageError: nothing was measured, or a price is for no target.
        """
        return recommend(
            self.runs, needs, prices=self.priced(prices or {}), allow_differences=allow_differences
        )

    def priced(self, prices: Mapping[str, Price]) -> Mapping[str, Price]:
        """Return these prices, which may be for patterns, with the study's own of all others."""
        own = {
            name: price
            for name, price in self.prices.items()
            if not any(name == given or fnmatchcase(name, given) for given in prices)
        }
        return {**own, **prices}

    def to_dict(self) -> Mapping[str, Json]:
        """Return the `--json` document, schema `llmperf.study/1`."""
        return {
            "schema": SCHEMA,
            "spent_usd": self.spent_usd,
            "missing": len(self.missing),
            "targets": [_document(target) for target in self.targets],
        }

    @property
    def view(self) -> show.StudyView:
        """The study as tables take it."""
        return show.StudyView(
            targets=[
                show.StudiedTarget(
                    name=target.name,
                    cells=[
                        show.StudiedCell(cell.load, cell.repeat, _view(cell.stage))
                        for cell in target.cells
                    ],
                    simulated=any(run.spec.simulated for run in target.runs),
                    finding=target.finding,
                )
                for target in self.targets
            ],
            spent_usd=self.spent_usd,
        )

    def __repr__(self) -> str:
        return show.as_text(partial(show.render_study, self.view), width=_TEXT_WIDTH)

    def _repr_html_(self) -> str:
        cells = f"{len(self.cells) - len(self.missing)} of {len(self.cells)} cells are measured"
        said = [
            f"{cells}; {format_usd(self.spent_usd)} spent",
            *(f"{target.name}: {target.finding}" for target in self.targets if target.finding),
        ]
        head = "".join(f"<p>{escape(line)}</p>" for line in said)
        return head + "".join(run._repr_html_() for run in self.runs)

    _repr_mimebundle_ = show.mimebundle


def load_study(folder: Path | str) -> StudyRun:
    """Read a study's folder, and judge what was measured anew.

    Raises:
        StoredRunError: it is no study's folder, of an unknown version, or damaged.
    """
    path = Path(folder)
    study = stored_study(path)
    runs = {run: load_run(run) for run in run_folders(path)}
    found = findings(path)
    return StudyRun(
        folder=path,
        targets=tuple(_target(target, runs, found.get(target.name)) for target in study.targets),
        spent_usd=spent_usd(path),
    )


def _target(stored: StoredTarget, runs: Mapping[Path, Run], finding: str | None) -> TargetResult:
    of_it = tuple(run for run in runs.values() if run.spec.target == stored.name)
    measured = {
        stage.cell: stage
        for run in of_it
        for stage in run.stages
        if stage.cell is not None and not stage.observation.interrupted
    }
    return TargetResult(
        name=stored.name,
        labels=stored.labels,
        price=stored.price,
        cells=tuple(_cell(stored.name, cell, measured.get(cell.id)) for cell in stored.cells),
        runs=of_it,
        finding=finding,
    )


def _without_interrupted(run: Run) -> Run:
    return evolve(run, stages=tuple(s for s in run.stages if not s.observation.interrupted))


def _cell(target: str, stored: StoredCell, stage: StageResult | None) -> CellResult:
    return CellResult(
        id=stored.id,
        target=target,
        load=load_of(stored.load),
        repeat=stored.repeat,
        stage=stage,
    )


def _view(stage: StageResult | None) -> show.StageView | None:
    return None if stage is None else stage.view


def _document(target: TargetResult) -> Mapping[str, Json]:
    cells: Sequence[Mapping[str, Json]] = [
        {
            "id": cell.id,
            "load": show.load_label(cell.load),
            "repeat": cell.repeat,
            "stage": None if cell.stage is None else cell.stage.to_dict(),
        }
        for cell in target.cells
    ]
    return {
        "target": target.name,
        "labels": target.labels,
        "price": None if target.price is None else asdict(target.price),
        "finding": target.finding,
        "cells": cells,
    }
