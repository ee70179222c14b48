"""Whether one stage is better than another, worse, the same, or whether that cannot be told.

Several figures are tested at once, so chance alone would call some of them different: "better" and
"worse" are said so that the chance of a single false one, over all figures of a comparison, is 5 %
at most.

Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from attrs import evolve, frozen

from llmperf_core.judge.estimate import Estimate, Estimates, Figure
from llmperf_core.judge.quantity import Interval
from llmperf_core.judge.student import two_sided_p, two_sided_point

Outcome: TypeAlias = Literal["better", "worse", "same", "cannot tell"]
"""Of the candidate against the baseline."""

ALPHA = 0.05
"""The chance of a false "better" or "worse" among all figures of a comparison."""
POWER = 0.9
"""The chance with which a change of the smallest detectable size is found."""
MARGIN = 0.03
"""What counts as the same unless the caller says otherwise. Below 5 %, so that a change of 5 % is
outside of it with certainty."""

_LARGEST_LOGARITHM = 700
"""Of which a float can hold the exponential."""


@frozen(kw_only=True)
class Change:
    """One figure of a candidate against that of its baseline."""

    figure: Figure
    baseline: float
    candidate: float
    effect: float | None
    """Candidate ÷ baseline − 1; None if the baseline is 0."""
    ci95: Interval | None
    """The 95 % interval of the effect by itself; None where the data cannot support one."""
    detectable: float | None
    """The smallest effect that the baseline's own noise lets a like candidate show, with a chance
    of 90 %. It is known before there is a candidate."""
    p: float | None
    """How likely so large an effect is by chance, adjusted for how many figures were tested."""
    outcome: Outcome


def changes(
    pairs: Sequence[tuple[Figure, Estimate, Estimate]], *, margin: float = MARGIN
) -> list[Change]:
    """Return what became of each figure.

    - `same`: the 95 % interval of the effect lies inside the margin.
    - `better`, `worse`: it does not, and the effect is none of chance.
    - `cannot tell`: neither.

    Args:
        pairs: each figure with its baseline's and its candidate's estimate: one family of tests.
        margin: the relative change up to which the two are the same: 0.03 is a factor from
            1 ÷ 1.03 to 1.03.
    """
    tests = sum(_spread(a, b) is not None for _, a, b in pairs)
    found = [
        Change(
            figure=figure,
            baseline=a.value,
            candidate=b.value,
            effect=b.value / a.value - 1 if a.value else None,
            ci95=_interval(a, b),
            detectable=smallest_detectable(a, tests=tests, margin=margin),
            p=_p(a, b),
            outcome="cannot tell",
        )
        for figure, a, b in pairs
    ]
    adjusted = _adjusted([change.p for change in found])
    return [
        evolve(change, p=p, outcome=_outcome(evolve(change, p=p), margin))
        for change, p in zip(found, adjusted, strict=True)
    ]


def smallest_detectable(baseline: Estimate, *, tests: int, margin: float = MARGIN) -> float | None:
    """Return the smallest effect that a candidate would be called better or worse for.

    It is found with a chance of 90 %, if the candidate is measured like the baseline and is as
    noisy. The strictest of the tests is assumed, so it is found more often than that.

    Args:
        baseline: the estimate, made before there is a candidate.
        tests: how many figures will be tested.
        margin: as for `changes`.

    Returns:
        Such as 0.04 for 4 %; None where nothing is known of the noise.

    Source: Cohen, "Statistical Power Analysis", chapter 2; with Bonferroni's level.
    """
    if baseline.spread is None:
        return None
    spread, freedom = baseline.spread * math.sqrt(2), 2 * baseline.freedom
    power = two_sided_point(2 * (1 - POWER), freedom)
    told_from_0 = two_sided_point(ALPHA / max(tests, 1), freedom) + power
    told_from_margin = power - two_sided_point(ALPHA, freedom)
    return _relative(max(told_from_0 * spread, math.log1p(margin) + told_from_margin * spread))


def figures_in_both(baseline: Estimates, candidate: Estimates) -> list[Figure]:
    """Return the figures that both have, in the baseline's order."""
    return [figure for figure in baseline if figure in candidate]


def overall(outcomes: Sequence[Outcome]) -> Outcome:
    """Return one outcome for several: `worse` if any is, `same` only if all are."""
    for outcome in ("worse", "better", "cannot tell"):
        if outcome in outcomes:
            return outcome
    return "same" if outcomes else "cannot tell"


def _spread(a: Estimate, b: Estimate) -> float | None:
    """Return the standard error of the logarithm of candidate ÷ baseline."""
    return None if a.spread is None or b.spread is None else math.hypot(a.spread, b.spread)


def _freedom(a: Estimate, b: Estimate) -> int:
    """Return the degrees of freedom of the difference of two estimates, at least 1.

    Source: Welch, "The generalization of Student's problem" (1947).
    """
    squares = [(one.spread or 0) ** 2 for one in (a, b)]
    below = sum(s**2 / one.freedom for s, one in zip(squares, (a, b), strict=True))
    # Without any noise there is nothing to divide by, and nothing that depends on it.
    return max(1, int(sum(squares) ** 2 / below)) if below > 0 else min(a.freedom, b.freedom)


def _difference(a: Estimate, b: Estimate) -> float:
    return math.log(b.value / a.value)


def _relative(logarithm: float) -> float:
    """Return the relative change that a difference of logarithms is."""
    return math.expm1(logarithm) if logarithm < _LARGEST_LOGARITHM else math.inf


def _interval(a: Estimate, b: Estimate) -> Interval | None:
    spread = _spread(a, b)
    if spread is None:
        return None
    reach = two_sided_point(ALPHA, _freedom(a, b)) * spread
    difference = _difference(a, b)
    return _relative(difference - reach), _relative(difference + reach)


def _p(a: Estimate, b: Estimate) -> float | None:
    spread = _spread(a, b)
    if spread is None:
        return None
    difference = abs(_difference(a, b))
    if spread == 0:
        return float(difference == 0)
    return two_sided_p(difference / spread, _freedom(a, b))


def _adjusted(chances: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p of each test."""
    ranked = sorted((p, index) for index, p in enumerate(chances) if p is not None)
    adjusted: list[float | None] = [None] * len(chances)
    highest = 0.0
    for rank, (p, index) in enumerate(ranked):
        highest = max(highest, min(1.0, p * (len(ranked) - rank)))
        adjusted[index] = highest
    return adjusted


def _outcome(change: Change, margin: float) -> Outcome:
    if change.ci95 is None or change.effect is None or change.p is None:
        return "cannot tell"
    low, high = change.ci95
    if 1 / (1 + margin) - 1 <= low and high <= margin:
        return "same"
    if change.p > ALPHA:
        return "cannot tell"
    rises = change.effect > 0
    return "better" if rises == (change.figure.direction == "higher") else "worse"
