"""Plan a study: ask each target what it takes and whether it can come up."""

from collections.abc import Collection, Sequence

import anyio
from anyio import create_task_group

from llmperf_core.bringup import CanPlan, Finding
from llmperf_core.decide.cells import Cell, Question
from llmperf_core.decide.plan import Plan, PlannedBringUp, in_order, stage_time
from llmperf_core.errors import LLMPerfError
from llmperf_core.studies.entry import StudyTarget

_ASKED_AT_A_TIME = 8
"""A cloud's control plane throttles who asks more."""


async def plan_of(
    entries: Sequence[StudyTarget],
    question: Question,
    *,
    done: Collection[str] = (),
    parallel: int = 1,
) -> Plan:
    """Return what it takes to measure the cells that are still to be measured.

    Args:
        entries: the targets.
        question: what is asked of each.
        done: the addresses of the cells that are there.
        parallel: so many that cost money are up at a time.
    """
    planned: list[PlannedBringUp] = []
    limiter = anyio.CapacityLimiter(_ASKED_AT_A_TIME)

    async def ask(entry: StudyTarget) -> None:
        cells = question.cells(entry.name, entry.describe())
        missing = tuple(cell for cell in cells if cell.id not in done)
        async with limiter:
            findings = await _findings(entry) if missing else ()
        planned.append(_planned(entry, question, missing, findings, len(cells) - len(missing)))

    async with create_task_group() as tasks:
        for entry in entries:
            tasks.start_soon(ask, entry)
    order = {entry.name: number for number, entry in enumerate(entries)}
    return Plan(
        bring_ups=in_order(sorted(planned, key=lambda bring_up: order[bring_up.target])),
        parallel=parallel,
    )


async def _findings(entry: StudyTarget) -> tuple[Finding, ...]:
    target = entry.opened_as
    found: list[Finding] = []
    if entry.paid and entry.charged is None:
        detail = "it costs money, and nobody knows how much; say its price in the study"
        found.append(Finding(detail=detail, refused=True))
    if isinstance(target, CanPlan):
        try:
            found += await target.check()
        except LLMPerfError as error:
            found.append(Finding(detail=f"it could not be checked: {error}"))
    return tuple(found)


def _planned(
    entry: StudyTarget,
    question: Question,
    missing: tuple[Cell, ...],
    findings: tuple[Finding, ...],
    done: int,
) -> PlannedBringUp:
    target = entry.opened_as
    return PlannedBringUp(
        target=entry.name,
        cells=missing,
        times=tuple(stage_time(cell.load, question.settings) for cell in missing),
        done=done,
        bring_up=target.bring_up if isinstance(target, CanPlan) else None,
        price=entry.charged,
        paid=entry.paid,
        findings=findings,
    )
