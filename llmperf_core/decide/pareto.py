"""Which candidates nobody beats in everything at once."""

from collections.abc import Iterator, Sequence

from llmperf_core.decide.candidate import Candidate
from llmperf_core.decide.rules import Rule
from llmperf_core.judge.estimate import taken_together


def pareto(candidates: Sequence[Candidate], rules: Sequence[Rule]) -> Iterator[Candidate]:
    """Yield those that no other is as good as by every rule, and better than by one.

    By the values alone, whatever their noise. A rule that ranks none of them is no axis, as cost is
    none where no price is known; a candidate that another axis cannot rank is not in the set.
    """
    axes = [rule for rule in rules if not all(map(rule.lacks, candidates))]
    ranked = [one for one in candidates if not any(rule.lacks(one) for rule in axes)]
    losses = [[_loss(rule, one) for rule in axes] for one in ranked]
    for one, own in zip(ranked, losses, strict=True):
        if axes and not any(_beats(other, own) for other in losses):
            yield one


def _loss(rule: Rule, candidate: Candidate) -> float:
    measured = taken_together(candidate.estimates(rule.figure))
    value = rule.score(candidate, measured).value
    return value if rule.direction == "lower" else -value


def _beats(other: Sequence[float], own: Sequence[float]) -> bool:
    pairs = list(zip(other, own, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
