"""Which target to deploy, by each rule, and whether that is certain. Pure.

Every pair of candidates is tested, so the worst of many would be called best by chance now and
then. A candidate is out once some other one is proved to be better, at a level that is shared by
all comparisons which could throw out the best one, and by all rules: so with a chance of 95 %, what
is left holds the best one of every rule. If only one target is left, it is the pick; if several
are, there is no clear winner, and they are what cannot be told apart.

Source: Gupta, "On some multiple decision (selection and ranking) rules" (1965); Hsu, "Constrained
simultaneous confidence intervals for multiple comparisons with the best" (1984); the level is
Bonferroni's, so whatever the comparisons have in common, it holds.
"""

from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from llmperf_core.decide.candidate import Candidate
from llmperf_core.decide.needs import RULE_NAMES, Needs
from llmperf_core.decide.noise import Variation, over_runs, variation_of
from llmperf_core.decide.pareto import pareto
from llmperf_core.decide.rules import Rule, rules_for
from llmperf_core.errors import UsageError
from llmperf_core.judge.comparison import ALPHA, Change, changes
from llmperf_core.judge.estimate import Estimate, Figure
from llmperf_core.judge.quantity import Interval, Quantity


@frozen(kw_only=True)
class Ranked:
    """A candidate with what it is ranked by."""

    candidate: Candidate
    estimate: Estimate
    value: Quantity
    """With its own 95 % interval, what differs from run to run included."""


@frozen(kw_only=True)
class Margin:
    """How far the first is ahead of the best candidate of another target."""

    runner_up: Ranked
    by: float
    """The larger of the two values ÷ the smaller − 1: 0.5 is half as much again. 0 or more."""
    ci95: Interval | None
    """Of this pair alone."""
    p: float | None
    """How likely so large a margin is by chance, adjusted for the comparisons; None where nothing
    is known of the noise."""
    flips_at_usd_per_h: float | None
    """The price of the first at which the two cost the same; None for rules without a price."""
    runner_up_flips_at_usd_per_h: float | None
    """The price of the runner-up at which they do."""

    @property
    def certain(self) -> bool:
        """Whether chance does not explain it."""
        return self.p is not None and self.p <= ALPHA


@frozen(kw_only=True)
class LeftOut:
    """What does not count, and why."""

    candidate: Candidate
    why: str

    def __str__(self) -> str:
        return f"{self.candidate}: {self.why}"


@frozen(kw_only=True, eq=False)
class Pick:
    """What one rule comes to."""

    rule: Rule
    ranking: tuple[Ranked, ...]
    """All that count, the best value first."""
    contenders: tuple[Ranked, ...]
    """Those of them that may be the best one, in the same order."""
    margin: Margin | None
    """None where there is no other target."""
    variation: Variation | None
    """What differs from run to run; None where nothing counts."""
    left_out: tuple[LeftOut, ...] = ()
    """What this rule cannot rank."""

    @property
    def first(self) -> Ranked | None:
        """The best value, certain or not."""
        return self.ranking[0] if self.ranking else None

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that may be the best one."""
        return tuple(dict.fromkeys(ranked.candidate.target for ranked in self.contenders))

    @property
    def winner(self) -> str | None:
        """The target that is the best one; None if that is not clear."""
        return self.targets[0] if len(self.targets) == 1 else None

    @property
    def loads(self) -> tuple[str, ...]:
        """The loads under which the first target may be the best one."""
        return tuple(
            ranked.candidate.load_label
            for ranked in self.contenders
            if ranked.candidate.target == self.targets[0]
        )


@frozen(kw_only=True, eq=False)
class Recommended:
    """What is recommended, and among what."""

    needs: Needs
    picks: tuple[Pick, ...]
    """For each rule, in the order asked for."""
    pareto: tuple[Candidate, ...]
    """Those that no other one beats in cost, throughput and latency together, by their values."""
    candidates: tuple[Candidate, ...]
    """All that count."""
    left_out: tuple[LeftOut, ...]
    """Those that do not."""

    def __getitem__(self, rule: str) -> Pick:
        """Return the pick of a rule.

        Raises:
            KeyError: it was not asked.
        """
        for pick in self.picks:
            if pick.rule.name == rule:
                return pick
        raise KeyError(f"no rule {rule!r}; there are {', '.join(self.needs.rules)}")

    @property
    def clear(self) -> bool:
        """Whether every rule has a clear winner."""
        return all(pick.winner is not None for pick in self.picks)


def recommend(candidates: Sequence[Candidate], needs: Needs | None = None) -> Recommended:
    """Say which target to deploy by each rule, or between which it cannot be told.

    Invalid candidates never count, nor do those that break a constraint.

    Raises:
        UsageError: a load is asked for that nothing was measured at.
    """
    asked = needs or Needs()
    _refuse_unmeasured(asked, candidates)
    refused = [(one, asked.refused(one, among=len(candidates))) for one in candidates]
    usable = [one for one, why in refused if why is None]
    rules = rules_for(asked, usable)
    return Recommended(
        needs=asked,
        picks=tuple(_pick(rule, usable, asked) for rule in rules),
        pareto=tuple(pareto(usable, rules_for(evolve(asked, rules=RULE_NAMES), usable))),
        candidates=tuple(usable),
        left_out=tuple(LeftOut(candidate=one, why=why) for one, why in refused if why is not None),
    )


def _refuse_unmeasured(needs: Needs, candidates: Sequence[Candidate]) -> None:
    for rule in needs.rules:
        if not any(needs.is_at_load(rule, one) for one in candidates):
            labels = ", ".join(dict.fromkeys(one.load_label for one in candidates)) or "none"
            raise UsageError(
                f"nothing was measured at load {needs.at_load.get(rule)}; the loads are: {labels}"
            )


def _pick(rule: Rule, usable: Sequence[Candidate], needs: Needs) -> Pick:
    here = [one for one in usable if needs.is_at_load(rule.name, one)]
    lacking = [(one, rule.lacks(one)) for one in here]
    ranking, variation = _ranked(rule, [one for one, why in lacking if why is None], needs)
    level = len(needs.rules) * max(len(ranking) - 1, 1)
    return Pick(
        rule=rule,
        ranking=tuple(ranking),
        contenders=tuple(_contenders(rule, ranking, level)),
        margin=_margin(rule, ranking, level),
        variation=variation,
        left_out=tuple(LeftOut(candidate=one, why=why) for one, why in lacking if why is not None),
    )


def _ranked(
    rule: Rule, candidates: Sequence[Candidate], needs: Needs
) -> tuple[list[Ranked], Variation | None]:
    if not candidates:
        return [], None
    repeats: dict[str, list[list[Estimate]]] = {}
    for one in candidates:
        repeats.setdefault(one.target, []).append(one.estimates(rule.figure))
    variation = variation_of(repeats, assumed=needs.between_runs)
    found = []
    for one in candidates:
        estimate = rule.score(one, over_runs(one.estimates(rule.figure), variation))
        found.append(Ranked(candidate=one, estimate=estimate, value=estimate.quantity(rule.unit)))
    sign = 1 if rule.direction == "lower" else -1
    return sorted(found, key=lambda ranked: sign * ranked.value.value), variation


def _contenders(rule: Rule, ranking: Sequence[Ranked], level: int) -> Iterable[Ranked]:
    """Yield those that no other one is proved to be better than."""
    for place, one in enumerate(ranking):
        chances = (_chance(rule, other, one) for other in ranking[:place])
        if not any(p is not None and p * level <= ALPHA for p in chances):
            yield one


def _chance(rule: Rule, better: Ranked, worse: Ranked) -> float | None:
    """Return how likely chance puts the better value so far ahead; None if that is not known."""
    p = _against(rule, worse, better).p
    return None if p is None else p / 2


def _against(rule: Rule, baseline: Ranked, candidate: Ranked) -> Change:
    figure = Figure(
        metric=rule.figure, statistic=rule.name, unit=rule.unit, direction=rule.direction
    )
    return changes([(figure, baseline.estimate, candidate.estimate)])[0]


def _margin(rule: Rule, ranking: Sequence[Ranked], level: int) -> Margin | None:
    first = ranking[0] if ranking else None
    others = [r for r in ranking if first and r.candidate.target != first.candidate.target]
    if first is None or not others:
        return None
    runner_up = others[0]
    low, high = sorted((first, runner_up), key=lambda ranked: ranked.value.value)
    change = _against(rule, low, high)
    p = _chance(rule, first, runner_up)
    return Margin(
        runner_up=runner_up,
        by=change.effect or 0.0,
        ci95=change.ci95,
        p=None if p is None else min(1.0, p * level),
        flips_at_usd_per_h=_level_price(rule, first, runner_up),
        runner_up_flips_at_usd_per_h=_level_price(rule, runner_up, first),
    )


def _level_price(rule: Rule, one: Ranked, other: Ranked) -> float | None:
    """Return the price of the one at which it costs what the other does."""
    price = one.candidate.price
    if not rule.needs_price or price is None:
        return None
    return price.usd_per_h * other.value.value / one.value.value
