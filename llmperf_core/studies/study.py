"""A study: what is to be measured on which targets, and how."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
from attrs import asdict, field, frozen
from attrs.validators import and_, ge, instance_of, min_len

from llmperf_core.benchmark import blocking
from llmperf_core.decide.cells import Question, settings_record
from llmperf_core.decide.ledger import Ledger
from llmperf_core.decide.plan import Plan
from llmperf_core.errors import BudgetError, UsageError, leaf_of
from llmperf_core.judge import Slo
from llmperf_core.load import LoadProfile, record_of
from llmperf_core.run import Settings
from llmperf_core.show.board import Board
from llmperf_core.studies.entry import StudyTarget, entry_of
from llmperf_core.studies.folder import (
    StoredCell,
    StoredStudy,
    StoredTarget,
    StudyFolder,
    done_cells,
    spent_usd,
)
from llmperf_core.studies.planning import plan_of
from llmperf_core.studies.results import StudyRun, load_study
from llmperf_core.studies.running import StudyRunner, Terms
from llmperf_core.target import Target
from llmperf_core.units import format_usd
from llmperf_core.workload import Synthetic, Workload

PARALLEL = 4
"""Targets that cost money, up at a time: each has a measuring process on this machine."""


class InterruptedStudyError(KeyboardInterrupt):
    """Ctrl-C came while a study ran; `run` holds what had been measured by then."""

    def __init__(self, run: StudyRun) -> None:
        super().__init__("interrupted; what was measured until then is in .run")
        self.run = run


def _entries(targets: Iterable[StudyTarget | Target | str]) -> tuple[StudyTarget, ...]:
    return tuple(map(entry_of, targets))


def _in_order(loads: Iterable[LoadProfile]) -> tuple[LoadProfile, ...]:
    return tuple(loads)


@frozen(kw_only=True)
class Study:
    """Targets × loads × repeats, all asked the same. `read_study` makes one of a file.

    Each target is brought up once for all its cells. The seed of a cell comes from its load, its
    repeat and `settings.seed`, so all targets are asked the same.

    Raises:
        UsageError: two targets are the same, or two loads.
        ValueError: a field is out of its range.
    """

    targets: tuple[StudyTarget, ...] = field(converter=_entries, validator=min_len(1))
    """Targets or their URLs, or `StudyTarget`s where there is more to say."""
    loads: tuple[LoadProfile, ...] = field(converter=_in_order, validator=min_len(1))
    workload: Workload = field(factory=Synthetic)
    """What is asked."""
    repeats: int = field(default=1, validator=and_(instance_of(int), ge(1)))
    """How often each target is measured under each load."""
    slo: Slo | None = None
    """The limits that a request must meet to count in the goodput."""
    settings: Settings = field(factory=Settings)
    """How a stage is measured. `folder` is left out: `run` says where."""

    def __attrs_post_init__(self) -> None:
        _refuse_twins("target", [entry.name for entry in self.targets])
        _refuse_twins("target", [str(entry.describe()) for entry in self.targets])
        _refuse_twins("load", self.loads)

    def plan(self, folder: Path | str | None = None, *, parallel: int = PARALLEL) -> Plan:
        """Return what the study would take, in time and money, and what stands in the way.

        Each target is asked; none is brought up.

        Args:
            folder: of a study that has begun; what is measured there is not planned again.
            parallel: so many targets that cost money are up at a time.
        """
        planned, interrupted = blocking(partial(self._plan, folder, parallel))
        if interrupted:
            raise KeyboardInterrupt
        return planned

    async def aplan(self, folder: Path | str | None = None, *, parallel: int = PARALLEL) -> Plan:
        """Return what the study would take: `plan` for code that is asynchronous itself."""
        return await self._plan(folder, parallel)

    def run(
        self,
        folder: Path | str,
        *,
        budget_usd: float | None = None,
        parallel: int = PARALLEL,
        resume: bool = False,
    ) -> StudyRun:
        """Measure what is missing, and return all that is there.

        What fails with one target is recorded, and the others go on. Targets that cost nothing are
        measured one at a time, and before the others: they are on the same machine.

        Args:
            folder: where the study is kept, written while it goes on.
            budget_usd: the most that the study may cost, with what it has cost until now. The
                worst case of each bring-up is held before it begins, so it is never exceeded.
                None brings up nothing that needs a budget.
            parallel: so many targets that cost money are up at a time.
            resume: go on with a study that is there already, from whatever machine.

        Raises:
            BudgetError: a target costs money, and no budget is given.
            StoredRunError: there is a study already, somebody is at work on it, or the folder
                cannot be written.
            InterruptedStudyError: Ctrl-C; it holds what was measured until then.
        """
        terms = Terms(budget_usd=budget_usd, parallel=parallel, resume=resume)
        done, interrupted = blocking(partial(self._run, Path(folder), terms))
        if interrupted:
            raise InterruptedStudyError(done) from None
        return done

    async def arun(
        self,
        folder: Path | str,
        *,
        budget_usd: float | None = None,
        parallel: int = PARALLEL,
        resume: bool = False,
    ) -> StudyRun:
        """Measure what is missing: `run` for code that is asynchronous itself.

        When it is cancelled, every target is taken down, and the folder can be resumed.
        """
        terms = Terms(budget_usd=budget_usd, parallel=parallel, resume=resume)
        return await self._run(Path(folder), terms, stop=anyio.Event())

    async def _plan(
        self, folder: Path | str | None, parallel: int, *, stop: anyio.Event | None = None
    ) -> Plan:
        del stop  # asking does not take long
        done = done_cells(Path(folder)) if folder is not None else set[str]()
        return await plan_of(self.targets, self.question, done=done, parallel=parallel)

    async def _run(self, folder: Path, terms: Terms, *, stop: anyio.Event) -> StudyRun:
        with StudyFolder(folder, resume=terms.resume) as place:
            plan = await self._plan(folder, terms.parallel)
            if plan.paid and terms.budget_usd is None:
                raise _without_budget(plan)
            place.begin(self._stored())
            runner = StudyRunner(
                entries={entry.name: entry for entry in self.targets},
                question=self.question,
                slo=self.slo,
                place=place,
                ledger=Ledger(terms.budget_usd, spent_usd=spent_usd(folder)),
                stop=stop,
                board=Board(_sizes(plan), quiet=self.settings.quiet),
            )
            try:
                await runner.run(plan)
            except BaseExceptionGroup as group:
                error = leaf_of(group)
                raise error from error.__cause__
        return load_study(folder)

    @property
    def question(self) -> Question:
        """What is asked of every target; it knows the cells."""
        return Question(
            loads=self.loads,
            workload=self.workload,
            settings=self.settings,
            repeats=self.repeats,
        )

    def _stored(self) -> StoredStudy:
        question = self.question
        return StoredStudy(
            targets=[_stored_target(entry, question) for entry in self.targets],
            workload=dict(self.workload.describe()),
            settings=settings_record(self.settings),
            slo=None if self.slo is None else asdict(self.slo),
        )


def _stored_target(entry: StudyTarget, question: Question) -> StoredTarget:
    cells = question.cells(entry.name, entry.describe())
    return StoredTarget(
        name=entry.name,
        labels=entry.labels,
        price=entry.charged,
        cells=[
            StoredCell(id=cell.id, load=record_of(cell.load), repeat=cell.repeat) for cell in cells
        ],
    )


def _sizes(plan: Plan) -> Mapping[str, int]:
    return {bring_up.target: len(bring_up.cells) for bring_up in plan.bring_ups}


def _without_budget(plan: Plan) -> BudgetError:
    at_worst = sum(bring_up.worst_usd for bring_up in plan.paid)
    names = ", ".join(bring_up.target for bring_up in plan.paid)
    return BudgetError(names, f"{format_usd(at_worst)} at worst", 0.0)


def _refuse_twins(what: str, several: Sequence[object]) -> None:
    """Refuse what is there twice: it would be the same cells.

    Raises:
        UsageError: something is.
    """
    for one in several:
        if several.count(one) > 1:
            raise UsageError(f"the study has the {what} {one!r} twice; leave one out")
