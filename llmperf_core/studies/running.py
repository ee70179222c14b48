"""Run a study: bring up one target after the other, within a budget, and measure its cells."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AsyncExitStack

import anyio
from attrs import define, evolve, field, frozen
from attrs.validators import and_, ge, gt, instance_of, optional

from llmperf_core.benchmark import StoppedBeforeStartError, Sweep
from llmperf_core.bringup import Paid
from llmperf_core.decide import Step
from llmperf_core.decide.cells import Question
from llmperf_core.decide.ledger import Ledger
from llmperf_core.decide.plan import PARALLEL, Plan, PlannedBringUp
from llmperf_core.errors import BudgetError, LLMPerfError, StoredRunError
from llmperf_core.judge import Slo
from llmperf_core.results import StageResult
from llmperf_core.show.board import Board, Lane
from llmperf_core.studies.entry import StudyTarget
from llmperf_core.studies.folder import StudyFolder
from llmperf_core.target import Target
from llmperf_core.units import s_from_ns


@frozen(kw_only=True)
class Terms:
    """On which terms a study is run.

    Raises:
        ValueError: a field is out of its range.
    """

    budget_usd: float | None = field(default=None, validator=optional(ge(0)))
    parallel: int = field(validator=and_(instance_of(int), gt(0)))
    resume: bool = False


@define
class StudyRunner:
    """Runs the bring-ups of a plan into a study's folder."""

    entries: Mapping[str, StudyTarget]
    """By their names."""
    question: Question
    slo: Slo | None
    place: StudyFolder
    ledger: Ledger
    stop: anyio.Event
    board: Board
    clock: Callable[[], int] = time.monotonic_ns
    _settled: anyio.Event = field(factory=anyio.Event, init=False)
    """Is set, and replaced, whenever a bring-up has ended and what it did not spend is free."""

    async def run(self, plan: Plan) -> None:
        """Measure what can be measured: first what costs nothing, one at a time, then the rest.

        Raises:
            StoredRunError: the folder cannot be written.
        """
        for bring_up in plan.bring_ups:
            if bring_up.refusal is not None and bring_up.cells:
                self._failed(bring_up, bring_up.refusal)
        with self.board:
            for bring_up in plan.runnable:
                if not bring_up.paid:
                    await self._bring_up(bring_up)
            slots = {name: anyio.CapacityLimiter(n) for name, n in plan.limits.items()}
            async with anyio.create_task_group() as tasks:
                for bring_up in plan.paid:
                    tasks.start_soon(self._in_a_slot, slots, bring_up)

    async def _in_a_slot(
        self, slots: Mapping[str, anyio.CapacityLimiter], bring_up: PlannedBringUp
    ) -> None:
        """Wait for the quotas of a target, and last of all for its turn, which others may take."""
        async with AsyncExitStack() as held:
            for name in (*bring_up.quotas, PARALLEL):
                await held.enter_async_context(slots[name])
            await self._bring_up(bring_up)

    async def _bring_up(self, bring_up: PlannedBringUp) -> None:
        """Bring a target up, measure its cells, and account for it."""
        if self.stop.is_set():
            return
        if not await self._reserve(bring_up):
            return
        name, target = self.place.next_run(bring_up.target), bring_up.target
        self.place.append("begun", run=name, target=target, usd=bring_up.worst_usd)
        began_ns = self.clock()
        try:
            await self._measure(name, bring_up)
        finally:
            took_s = s_from_ns(self.clock() - began_ns)
            usd = bring_up.usd(took_s)
            self.ledger.settle(target, usd)
            self._settled.set()
            self._settled = anyio.Event()
            self.place.append("gone", run=name, target=target, usd=usd, seconds=took_s)

    async def _reserve(self, bring_up: PlannedBringUp) -> bool:
        """Hold its worst case; wait for others to end if what they leave may cover it."""
        usd = bring_up.worst_usd
        while not self.ledger.covers(usd) and self.ledger.may_cover_later(usd):
            settled = self._settled
            if not self.ledger.held_usd or self.stop.is_set():
                break
            await settled.wait()
        if self.stop.is_set():
            return False
        try:
            self.ledger.reserve(bring_up.target, usd)
        except BudgetError as error:
            self._failed(bring_up, str(error))
            return False
        return True

    async def _measure(self, name: str, bring_up: PlannedBringUp) -> None:
        lane = self.board.lane(bring_up.target)
        settings = evolve(
            self.question.settings, folder=self.place.path / "runs" / name, seed=0, quiet=True
        )
        workload = self.question.workload
        try:
            target = self._allowed(bring_up)
            sweep = Sweep(
                target, workload, self.slo, settings, self.stop, lane, called=bring_up.target
            )
            _, left_out = await sweep.run(self._steps(bring_up, lane))
        except StoppedBeforeStartError:
            lane.end("stopped")
        except StoredRunError:
            raise
        except LLMPerfError as error:
            self._failed(bring_up, str(error))
        except Exception as error:  # noqa: BLE001 -- the backend of somebody else may raise anything
            self._failed(bring_up, f"{type(error).__name__}: {error}")
        else:
            if left_out:
                self._failed(bring_up, left_out)
            lane.end("stopped" if self.stop.is_set() else left_out or "done")

    def _steps(self, bring_up: PlannedBringUp, lane: Lane) -> Generator[Step, StageResult, str]:
        """Have the cells measured one after the other, within the time that is reserved for them.

        Returns:
            Why some were left out; empty if none was.
        """
        began_ns = self.clock()
        for cell, takes in zip(bring_up.cells, bring_up.times, strict=True):
            left_s = bring_up.measuring_s - s_from_ns(self.clock() - began_ns)
            if left_s < takes.worst_s and cell is not bring_up.cells[0]:
                return (
                    f"it took longer than the worst case; {cell.label} and what follows is missing"
                )
            stage = yield Step(cell.load, seed=cell.seed, cell=cell.id)
            if not stage.observation.interrupted:
                lane.mark(stage.verdict.status)
        return ""

    def _allowed(self, bring_up: PlannedBringUp) -> Target:
        """Return the target, which may cost what is reserved for it."""
        target = self.entries[bring_up.target].opened_as
        if isinstance(target, Paid):
            return target.allowed(max_usd=bring_up.worst_usd, measuring_s=bring_up.measuring_s)
        return target

    def _failed(self, bring_up: PlannedBringUp, detail: str) -> None:
        """Record what went wrong with a target; the others go on."""
        self.board.lane(bring_up.target).end(detail)
        self.place.append("failed", target=bring_up.target, detail=detail)
