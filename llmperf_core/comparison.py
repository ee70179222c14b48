"""Compare what was measured: a candidate against a baseline."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from attrs import frozen

from llmperf_core import show
from llmperf_core.errors import UnlikeRunsError, UsageError
from llmperf_core.judge import (
    COMPARED,
    MARGIN,
    Estimates,
    Outcome,
    Slo,
    changes,
    estimate,
    estimate_from,
    figures_in_both,
    overall,
    smallest_detectable,
    taken_together,
)
from llmperf_core.load import record_of
from llmperf_core.results import Run, StageResult
from llmperf_core.show.plots import ComparisonPlots
from llmperf_core.target import Json

Measured: TypeAlias = StageResult | Run | Sequence[StageResult | Run]
"""A stage, a run of several, or repeats of either."""
_TEXT_WIDTH = 120


@frozen(kw_only=True, eq=False, repr=False)
class Comparison:
    """A candidate against its baseline, figure by figure; the stages are matched by their load."""

    view: show.ComparisonView
    """The comparison as tables and pages take it."""

    @property
    def stages(self) -> Sequence[show.PairView]:
        """The stages that were compared, each with its changes."""
        return self.view.pairs

    @property
    def outcome(self) -> Outcome:
        """What all figures say together: `worse` if any is worse, `same` only if all are."""
        return overall([change.outcome for pair in self.view.pairs for change in pair.changes])

    @property
    def passes(self) -> bool:
        """Whether a gate may let the candidate through.

        Nothing is worse, and no stage was left out as its numbers are invalid.
        """
        return self.outcome != "worse" and not self.view.left_out

    @property
    def plots(self) -> ComparisonPlots:
        """The comparison in a picture: `comparison.plots.changes()`. It needs the extra `plots`."""
        return ComparisonPlots(self.view)

    def to_dict(self) -> Mapping[str, Json]:
        """Return the `--json` document, schema `llmperf.comparison/1`."""
        return show.comparison_document(self.view, outcome=self.outcome, passes=self.passes)

    def __repr__(self) -> str:
        return show.as_text(partial(show.render_comparison, self.view), width=_TEXT_WIDTH)

    def _repr_html_(self) -> str:
        return show.comparison_html(self.view)

    _repr_mimebundle_ = show.mimebundle


def compare(
    baseline: Measured,
    candidate: Measured,
    *,
    margin: float = MARGIN,
    allow_differences: bool | Collection[str] = False,
    allow_invalid: bool = False,
) -> Comparison:
    """Say of each figure whether the candidate is better, worse, the same, or cannot be told.

    Several repeats on a side are taken together, and then what differs from one start of the server
    to the next is in the interval too; of one run on each side it is not.

    Args:
        baseline: what to compare with.
        candidate: what to judge.
        margin: the relative change up to which the two are the same, 0.03 for 3 %.
        allow_differences: names of what may differ, such as `("model", "workload")`; True for all.
        allow_invalid: compare stages, too, whose verdict says not to use them.

    Raises:
        UnlikeRunsError: they differ in what must be alike; it names what.
        UsageError: the margin is negative, or a side has no stage.
    """
    if not 0 <= margin < 1:
        raise UsageError(f"the margin must be from 0 to 1: {margin:g}; 0.03 is 3 %")
    one, other = _stages(baseline, "baseline"), _stages(candidate, "candidate")
    _refuse_differences(one, other, allow_differences)
    groups, unmatched = _matched(one, other)
    pairs, left_out = [], []
    for label, sides in groups:
        usable = [_usable(side, allow_invalid=allow_invalid) for side in sides]
        if not all(usable):
            left_out.append(_why_left_out(label, sides))
            continue
        pairs.append((label, [estimates_of(side) for side in usable]))
    return Comparison(
        view=show.ComparisonView(
            baseline=_name(one),
            candidate=_name(other),
            simulated=any(stage.spec.simulated for stage in (*one, *other)),
            margin=margin,
            pairs=_judged(pairs, margin),
            left_out=left_out,
            unmatched=unmatched,
        )
    )


def detectable(baseline: Measured, *, margin: float = MARGIN) -> show.DetectableView:
    """Say, before there is a candidate, how small a change a comparison with it would find.

    It is found with a chance of 90 %, if the candidate is measured like the baseline.

    Raises:
        UsageError: there is no stage.
    """
    stages = _stages(baseline, "baseline")
    groups = [(label, estimates_of(sides[0])) for label, sides in _matched(stages, stages)[0]]
    tests = sum(one.spread is not None for _, found in groups for one in found.values())
    return show.DetectableView(
        baseline=_name(stages),
        margin=margin,
        rows=[
            show.DetectableRow(
                load=label,
                figure=figure,
                value=one.value,
                detectable=smallest_detectable(one, tests=tests, margin=margin),
            )
            for label, found in groups
            for figure, one in found.items()
        ],
    )


def _stages(measured: Measured, side: str) -> list[StageResult]:
    parts = [measured] if isinstance(measured, StageResult | Run) else list(measured)
    found = [
        stage for part in parts for stage in (part.stages if isinstance(part, Run) else [part])
    ]
    if not found:
        raise UsageError(f"the {side} holds no stage")
    return found


def _name(stages: Sequence[StageResult]) -> str:
    return ", ".join(dict.fromkeys(stage.spec.target for stage in stages))


DIFFERENCES: Mapping[str, Callable[[StageResult], Json]] = {
    "workload": lambda stage: dict(stage.spec.workload) or None,
    "model": lambda stage: stage.spec.endpoint.get("model"),
    "stream": lambda stage: stage.spec.endpoint.get("stream"),
    "simulated": lambda stage: stage.spec.simulated,
    "tool": lambda stage: "llmperf" if stage.spec.source is None else stage.spec.source.format,
    "stamps": lambda stage: stage.summary.stamps,
    "counted_by": lambda stage: stage.summary.tokens.counted_by,
}
"""What must be alike, apart from the load, by the name to allow it with."""


def _refuse_differences(
    one: Sequence[StageResult],
    other: Sequence[StageResult],
    allowed: bool | Collection[str],  # noqa: FBT001 -- as the caller of `compare` gave it
) -> None:
    """Raise if the two sides differ in what must be alike; what is not known differs from nothing.

    Raises:
        UnlikeRunsError: they do.
        UsageError: what is allowed is no name of a difference.
    """
    names = {*DIFFERENCES, "load"}
    may = names if allowed is True else set(allowed or ())
    if unknown := may - names:
        raise UsageError(f"no difference {min(unknown)!r}; there are {', '.join(sorted(names))}")
    found = {}
    for name, read in DIFFERENCES.items():
        sides = [distinct(map(read, side)) for side in (one, other)]
        if name not in may and len(distinct([*sides[0], *sides[1]])) > 1:
            found[name] = (_said(sides[0]), _said(sides[1]))
    if "load" not in may and not {*map(load_key, one)} & {*map(load_key, other)}:
        found["load"] = _loads_said(one, other)
    if found:
        raise UnlikeRunsError(found)


def load_key(stage: StageResult) -> str:
    """Return what tells a stage's load from all others, as a label does not."""
    return json.dumps(record_of(stage.load), sort_keys=True)


def _loads_said(one: Sequence[StageResult], other: Sequence[StageResult]) -> tuple[str, str]:
    """Return the loads of either side in words: by their labels, or in full where those agree."""
    labels = [_said(distinct(show.load_label(s.load) for s in side)) for side in (one, other)]
    if labels[0] == labels[1]:
        labels = [_said(distinct(repr(s.load) for s in side)) for side in (one, other)]
    return labels[0], labels[1]


def distinct(values: Iterable[Json]) -> list[Json]:
    """Return what is known of the values, each once, in their order."""
    found: list[Json] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found


def _said(values: Sequence[Json]) -> str:
    return " and ".join(map(str, values)) or "unknown"


_Sides: TypeAlias = tuple[list[StageResult], list[StageResult]]


def _matched(
    one: Sequence[StageResult], other: Sequence[StageResult]
) -> tuple[list[tuple[str, _Sides]], list[str]]:
    """Return the stages of each load that both have, and the loads that only one has."""
    labels = {load_key(stage): show.load_label(stage.load) for stage in (*one, *other)}
    groups: list[tuple[str, _Sides]] = []
    unmatched = []
    for key, label in labels.items():
        sides = tuple([s for s in side if load_key(s) == key] for side in (one, other))
        if all(sides):
            groups.append((label, (sides[0], sides[1])))
        else:
            unmatched.append(label)
    if not groups:  # only where the caller allows other loads
        return [(" against ".join(labels.values()), (list(one), list(other)))], []
    return groups, unmatched


def _usable(side: Sequence[StageResult], *, allow_invalid: bool) -> list[StageResult]:
    return [stage for stage in side if allow_invalid or stage.verdict.status != "invalid"]


def _why_left_out(label: str, sides: _Sides) -> str:
    reasons = dict.fromkeys(
        reason.detail
        for side in sides
        for stage in side
        for reason in stage.verdict.reasons
        if reason.status == "invalid"
    )
    return f"{label}: {'; '.join(reasons)}"


def estimates_of(repeats: Sequence[StageResult], *, slo: Slo | None = None) -> Estimates:
    """Return the figures that all repeats of a stage have, taken together.

    Args:
        repeats: at least one.
        slo: of the goodput; None takes that under which each was measured.
    """
    each = [_of_stage(stage, slo or stage.spec.slo) for stage in repeats]
    figures = [figure for figure in each[0] if all(figure in found for found in each)]
    return {figure: taken_together([found[figure] for found in each]) for figure in figures}


def _of_stage(stage: StageResult, slo: Slo | None) -> Estimates:
    source = stage.spec.source
    if stage.aggregate is not None:
        return estimate_from(stage.summary)
    metrics = [m for m in COMPARED if source is None or m.name in source.metrics]
    return estimate(stage.timelines, stage.summary.window, metrics=metrics, slo=slo)


def _judged(pairs: Sequence[tuple[str, Sequence[Estimates]]], margin: float) -> list[show.PairView]:
    """Return the changes of each pair of stages; the figures of all of them are one family."""
    family = [
        (number, figure, a[figure], b[figure])
        for number, (_, (a, b)) in enumerate(pairs)
        for figure in figures_in_both(a, b)
    ]
    found = changes([test[1:] for test in family], margin=margin)
    return [
        show.PairView(
            load=label,
            changes=[
                change for test, change in zip(family, found, strict=True) if test[0] == number
            ],
        )
        for number, (label, _) in enumerate(pairs)
    ]
