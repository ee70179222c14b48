"""Recommend what to deploy, from runs."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from statistics import fmean

from attrs import frozen

from llmperf_core import show
from llmperf_core.bringup import Price
from llmperf_core.comparison import DIFFERENCES, distinct, estimates_of, load_key
from llmperf_core.decide import Candidate, LeftOut, Needs, Pick, Recommended
from llmperf_core.decide import recommend as recommend_among
from llmperf_core.decide.cost import input_per_output
from llmperf_core.errors import UnlikeRunsError, UsageError
from llmperf_core.judge import samples
from llmperf_core.results import Run, StageResult
from llmperf_core.show.plots import RecommendationPlots
from llmperf_core.target import Json
from llmperf_core.timeline import Timeline

_TEXT_WIDTH = 120
_GRAVITY = ("valid", "suspect", "invalid")


@frozen(kw_only=True, eq=False, repr=False)
class Recommendation:
    """Which target to deploy by each rule, or between which it cannot be told.

    `recommendation["cost"].winner` is a target's name, or None.
    """

    found: Recommended
    """What was chosen, among what, and what was left out."""

    def __getitem__(self, rule: str) -> Pick:
        """Return the pick of a rule: `cost`, `throughput` or `latency`.

        Raises:
            KeyError: it was not asked.
        """
        return self.found[rule]

    @property
    def picks(self) -> Sequence[Pick]:
        """What each rule that was asked comes to."""
        return self.found.picks

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """What does not count, and why."""
        return self.found.left_out

    @property
    def clear(self) -> bool:
        """Whether every rule that was asked has a clear winner."""
        return self.found.clear

    @property
    def plots(self) -> RecommendationPlots:
        """The choice in a picture: `recommendation.plots.cost()`. It needs the extra `plots`."""
        return RecommendationPlots(self.found)

    def to_dict(self) -> Mapping[str, Json]:
        """Return the `--json` document, schema `llmperf.recommendation/1`."""
        return show.recommendation_document(self.found)

    def __repr__(self) -> str:
        return show.as_text(partial(show.render_recommendation, self.found), width=_TEXT_WIDTH)

    def _repr_html_(self) -> str:
        return show.recommendation_html(self.found)

    _repr_mimebundle_ = show.mimebundle


def recommend(
    runs: Run | Sequence[Run],
    needs: Needs | None = None,
    *,
    prices: Mapping[str, Price] | None = None,
    allow_differences: bool | Collection[str] = False,
) -> Recommendation:
    """Say which target to deploy for the lowest cost, the best throughput and the best latency.

    Runs of one target are repeats of each other: what differs from one to the next, as from one
    start of a server to the next, is then measured. Without any it is assumed, see
    `Needs.between_runs`. Several stages of one run under the same load count as one repeat.

    Args:
        runs: of all targets that are to be chosen among.
        needs: the rules and the constraints; by default all three rules and no constraint.
        prices: by the name of a target, or by a pattern such as `*@ml.g5.2xlarge*`.
        allow_differences: what else than the target, its model and its load may differ, such as
            `["workload"]`; True for anything.

    Raises:
        UnlikeRunsError: they differ in what must be alike; it names what.
        UsageError: there is no stage, or a price is for no target.
    """
    given = [runs] if isinstance(runs, Run) else list(runs)
    _refuse_differences([stage for run in given for stage in run.stages], allow_differences)
    asked = needs or Needs()
    return Recommendation(found=recommend_among(candidates_of(given, asked, prices=prices), asked))


def candidates_of(
    runs: Sequence[Run],
    needs: Needs | None = None,
    *,
    prices: Mapping[str, Price] | None = None,
) -> list[Candidate]:
    """Return what is to be chosen among: each target under each load, over all its runs.

    Args:
        runs: of all targets.
        needs: says which SLO the goodput is of, and which limits are looked at.
        prices: as for `recommend`.

    Raises:
        UsageError: there is no stage, or a price is for no target.
    """
    groups: dict[tuple[str, str], list[list[StageResult]]] = {}
    for run in runs:
        here: dict[tuple[str, str], list[StageResult]] = {}
        for stage in run.stages:
            here.setdefault((stage.spec.target, load_key(stage)), []).append(stage)
        for key, stages in here.items():
            groups.setdefault(key, []).append(stages)
    if not groups:
        raise UsageError("there is no stage to choose from")
    price_of = _priced(distinct(target for target, _ in groups), prices or {})
    asked = needs or Needs()
    return [
        _candidate(by_run, asked, price_of.get(target)) for (target, _), by_run in groups.items()
    ]


def _priced(targets: Sequence[Json], prices: Mapping[str, Price]) -> dict[str, Price]:
    """Return the price of each target that has one: under its name, or by the longest pattern."""
    found: dict[str, Price] = {}
    for pattern in sorted(prices, key=len):
        matched = [str(t) for t in targets if t == pattern or fnmatchcase(str(t), pattern)]
        if not matched:
            known = ", ".join(map(str, targets))
            raise UsageError(f"the price of {pattern!r} is for no target; there are {known}")
        found |= dict.fromkeys(matched, prices[pattern])
    return found | {str(t): prices[str(t)] for t in targets if str(t) in prices}


def _candidate(
    by_run: Sequence[Sequence[StageResult]], needs: Needs, price: Price | None
) -> Candidate:
    """Return a target under a load. Stages of one run share its start, so they are one repeat."""
    usable, invalid = _parted([stage for stages in by_run for stage in stages])
    kept = [_parted(stages)[0] for stages in by_run]
    judged = usable or invalid
    with_requests = all(stage.aggregate is None for stage in usable)
    status = max((stage.verdict.status for stage in judged), key=_GRAVITY.index)
    limits = needs.limits if with_requests else ()
    # Reading a long journal takes a while: once, and for limits alone.
    inside = list(_inside(usable)) if limits else []
    return Candidate(
        target=judged[0].spec.target,
        load=judged[0].load,
        repeats=[estimates_of(stages, slo=needs.slo) for stages in kept if stages],
        price=price,
        status=status,
        reasons=tuple(_details(judged, status)),
        left_out=tuple("; ".join(_details([stage], "invalid")) for stage in invalid if usable),
        slo=needs.slo if with_requests else None,
        exceeding={limit: limit.exceeding(inside) for limit in limits},
        memory_bytes=max(filter(None, map(_memory_bytes, usable)), default=None),
        input_per_output=_mean(map(input_per_output, (stage.summary for stage in usable))),
        simulated=any(stage.spec.simulated for stage in judged),
    )


def _parted(stages: Sequence[StageResult]) -> tuple[list[StageResult], list[StageResult]]:
    """Return those whose numbers may be used, and those that are invalid."""
    invalid = [stage for stage in stages if stage.verdict.status == "invalid"]
    return [stage for stage in stages if stage.verdict.status != "invalid"], invalid


def _details(stages: Iterable[StageResult], status: str) -> Iterable[str]:
    reasons = [reason for stage in stages for reason in stage.verdict.reasons]
    return dict.fromkeys(reason.detail for reason in reasons if reason.status == status)


def _inside(stages: Iterable[StageResult]) -> Iterator[Timeline]:
    """Yield the requests that count, in the order of starting, one stage after the other."""
    for stage in stages:
        in_order = sorted(stage.timelines, key=lambda timeline: timeline.index)
        yield from samples(in_order, stage.summary.window)


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean; None unless all are known, and there are some."""
    found = list(values)
    known = [value for value in found if value is not None]
    return fmean(known) if known and len(known) == len(found) else None


def _memory_bytes(stage: StageResult) -> float | None:
    """Return the most that the GPUs of the machine used, together; None if nobody looked."""
    meters = {} if stage.watch is None else stage.watch.meters
    used = [
        watched.levels["memory_bytes"].max
        for name, watched in meters.items()
        if name.startswith("gpu") and "memory_bytes" in watched.levels
    ]
    return sum(used) or None


def _refuse_differences(
    stages: Sequence[StageResult],
    allowed: bool | Collection[str],  # noqa: FBT001 -- as the caller of `recommend` gave it
) -> None:
    """Raise if targets were measured in ways that cannot be compared.

    Raises:
        UnlikeRunsError: they were.
        UsageError: what is allowed is no name of a difference.
    """
    names = set(DIFFERENCES) - {"model"}
    may = names if allowed is True else set(allowed or ())
    if unknown := may - names:
        raise UsageError(f"no difference {min(unknown)!r}; there are {', '.join(sorted(names))}")
    found = {}
    for name in sorted(names - may):
        values = distinct(map(DIFFERENCES[name], stages))
        if len(values) > 1:
            found[name] = (str(values[0]), str(values[1]))
    if found:
        raise UnlikeRunsError(found)
