"""A study as the terminal shows it: each target's stages, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from llmperf_core.load import LoadProfile, load_label
from llmperf_core.show.table import print_table
from llmperf_core.show.view import StageView, stage_columns
from llmperf_core.units import format_usd

if TYPE_CHECKING:
    from rich.console import Console


@frozen
class StudiedCell:
    """One target under one load, once."""

    load: LoadProfile
    repeat: int
    stage: StageView | None
    """None as long as it is missing."""


@frozen(kw_only=True)
class StudiedTarget:
    """One target of a study."""

    name: str
    cells: Sequence[StudiedCell]
    simulated: bool
    finding: str | None


@frozen(kw_only=True)
class StudyView:
    """A study as far as it is measured."""

    targets: Sequence[StudiedTarget]
    spent_usd: float


def render_study(view: StudyView, console: Console) -> None:
    """Print a table for each target, and what is missing."""
    from rich.text import Text

    for target in view.targets:
        heading = Text(target.name, style="bold", overflow="fold")
        if target.simulated:
            heading.append(" · SIMULATED", style="magenta")
        console.print(heading)
        stages = [cell.stage for cell in target.cells if cell.stage is not None]
        if stages:
            print_table(stage_columns(stages), stages, console)
        for line in _lacks(target):
            console.print(Text(f"  {line}"))
        console.print()
    cells = [cell for target in view.targets for cell in target.cells]
    measured = sum(cell.stage is not None for cell in cells)
    console.print(Text(f"{measured} of {len(cells)} cells are measured{_spent(view)}"))


def _lacks(target: StudiedTarget) -> Sequence[str]:
    missing = dict.fromkeys(load_label(cell.load) for cell in target.cells if cell.stage is None)
    lines = [] if target.finding is None else [f"failed: {target.finding}"]
    return [*lines, *([f"missing: {', '.join(missing)}"] if missing else [])]


def _spent(view: StudyView) -> str:
    return f"; {format_usd(view.spent_usd)} spent" if view.spent_usd else ""
