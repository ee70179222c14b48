"""A recommendation: the answers first, then the figures, then what they rest on."""

import math
from collections.abc import Iterator, Mapping, Sequence

from attrs import asdict, frozen

from llmperf_core.bringup import Price
from llmperf_core.decide import (
    Candidate,
    Cost,
    LeftOut,
    Margin,
    Pick,
    Ranked,
    Recommended,
    Work,
)
from llmperf_core.judge import Quantity, taken_together
from llmperf_core.show.view import Column, interval, number
from llmperf_core.target import Json
from llmperf_core.units import format_number, format_usd, percent

SCHEMA = "llmperf.recommendation/1"
"""Keys may be added under it; one that changes or goes makes it `/2`."""
_DECIMALS = 6
NO_WINNER = "no clear winner"


@frozen(kw_only=True)
class AnswerView:
    """What one rule comes to, in words."""

    title: str
    answer: str
    clear: bool
    details: Sequence[str]


@frozen(kw_only=True)
class CandidateView:
    """A candidate as a row of the table."""

    candidate: Candidate
    values: Mapping[str, Quantity]
    """By the name of the rule; without an interval where the rule does not rank it."""
    pareto: bool


def is_simulated(found: Recommended) -> bool:
    """Return whether anything that was chosen among is a simulator."""
    left_out = (left.candidate for left in found.left_out)
    return any(one.simulated for one in (*found.candidates, *left_out))


def answers(found: Recommended) -> list[AnswerView]:
    """Return what each rule comes to."""
    return [
        AnswerView(
            title=pick.rule.title,
            answer=_answer(pick),
            clear=pick.winner is not None,
            details=list(_details(pick)),
        )
        for pick in found.picks
    ]


def _answer(pick: Pick) -> str:
    first = pick.first
    if first is None:
        return "nothing to choose from"
    if pick.winner is not None:
        return f"{pick.winner} at {' or '.join(pick.loads)}: {first.value!r}"
    if len(pick.targets) == 2:
        return f"{NO_WINNER}: {' or '.join(pick.targets)}"
    others = len(pick.targets) - 1
    return f"{NO_WINNER}: {first.candidate.target}, or one of {others} that may be as good"


def _details(pick: Pick) -> Iterator[str]:
    yield f"rule: {pick.rule.text}"
    first = pick.first
    if first is not None:
        yield f"first: {_ranked(first)}"
        yield from _of_margin(pick, first)
        if pick.winner is None:
            yield f"may be the best: {_contenders(pick)}"
        yield f"noise: {_basis(pick)}"
        yield from _what_rules_it_out(first.candidate)
    yield from (f"not ranked: {left}" for left in pick.left_out)


def _contenders(pick: Pick) -> str:
    if len(pick.contenders) == len(pick.ranking):
        return "any of them"
    return ", ".join(str(ranked.candidate) for ranked in pick.contenders)


def _ranked(ranked: Ranked) -> str:
    return f"{ranked.candidate}, {ranked.value!r}"


def _of_margin(pick: Pick, first: Ranked) -> Iterator[str]:
    margin = pick.margin
    if margin is None:
        yield "there is no other target to compare it with"
        return
    yield f"runner-up: {_ranked(margin.runner_up)}, {_behind(margin)}"
    if margin.flips_at_usd_per_h is not None and margin.runner_up_flips_at_usd_per_h is not None:
        yield (
            f"the order of these two flips if {first.candidate.target} costs "
            f"{format_usd(margin.flips_at_usd_per_h)}/h, or {margin.runner_up.candidate.target} "
            f"{format_usd(margin.runner_up_flips_at_usd_per_h)}/h"
        )


def _behind(margin: Margin) -> str:
    by = f"{percent(margin.by)} apart"
    if margin.ci95 is not None:
        by += f" [{', '.join(format_number(100 * end) for end in margin.ci95)}]"
    return f"{by}: {'certain' if margin.certain else 'not certain'}"


def _basis(pick: Pick) -> str:
    if pick.margin is not None and pick.margin.p is None:
        return "only figures are known of it, so no order is certain"
    return str(pick.variation)


def _what_rules_it_out(candidate: Candidate) -> Iterator[str]:
    limits = candidate.keeps_no_limit_below
    if limits:
        said = ", ".join(f"{name} {format_number(ms)} ms" for name, ms in limits.items())
        yield f"a limit below one of these rules it out: {said}"


def rows(found: Recommended) -> list[CandidateView]:
    """Return the candidates that count, in their order."""
    return [
        CandidateView(
            candidate=one,
            values={
                pick.rule.name: _value(pick, one)
                for pick in found.picks
                if pick.rule.lacks(one) is None
            },
            pareto=one in found.pareto,
        )
        for one in found.candidates
    ]


def _value(pick: Pick, candidate: Candidate) -> Quantity:
    for ranked in pick.ranking:
        if ranked.candidate is candidate:
            return ranked.value
    measured = taken_together(candidate.estimates(pick.rule.figure))
    return Quantity(pick.rule.score(candidate, measured).value, pick.rule.unit)


def columns(found: Recommended) -> list[Column[CandidateView]]:
    """Return the columns of the table: what is ranked, and the costs."""
    return [
        Column("target", lambda row: row.candidate.target, 0, numeric=False),
        Column("load", lambda row: row.candidate.load_label, 0, numeric=False),
        Column("verdict", lambda row: row.candidate.status, 6, numeric=False),
        Column("runs", lambda row: str(len(row.candidate.repeats)), 7),
        Column("USD/h", lambda row: _price(row.candidate.price), 5),
        *(_of_rule(pick) for pick in found.picks),
        *(_of_cost(found, work, need=8) for work in _not_ranked(found)),
        Column("Pareto", lambda row: "yes" if row.pareto else "", 4, numeric=False),
    ]


def _of_rule(pick: Pick) -> Column[CandidateView]:
    def cell(row: CandidateView) -> str:
        value = row.values.get(pick.rule.name)
        return f"{number(value)}\n{interval(value)}".rstrip()

    unit = pick.rule.unit
    if pick.rule.needs_price:
        return Column(unit.replace("USD per ", "USD per\n"), cell, 0)
    return Column(f"{pick.rule.figure}\n{unit}", cell, 0)


def _not_ranked(found: Recommended) -> list[Work]:
    """Return the works whose costs are known of some candidate and are ranked by no rule."""
    ranked = {pick.rule.unit for pick in found.picks}
    works = (cost.work for one in found.candidates for cost in _costs(found, one))
    return [work for work in dict.fromkeys(works) if f"USD per {work.what}" not in ranked]


def _of_cost(found: Recommended, work: Work, *, need: int) -> Column[CandidateView]:
    def cell(row: CandidateView) -> str:
        costs = [cost for cost in _costs(found, row.candidate) if cost.work == work]
        return number(costs[0].usd) if costs else "–"

    return Column(f"USD per\n{work.what}", cell, need)


def _costs(found: Recommended, candidate: Candidate) -> list[Cost]:
    if candidate.price is None:
        return []
    return candidate.rates.costs(candidate.price, utilisation=found.needs.utilisation)


def _price(price: Price | None) -> str:
    return "–" if price is None else f"{price.usd_per_h:,g}"


def notes(found: Recommended) -> list[str]:
    """Return what there is to say under the table."""
    lines = [
        "95 % intervals in brackets, with what differs from run to run",
        "certain: all rules together name a wrong target in 5 % of recommendations at most",
        "Pareto: no other is as good in cost, throughput and latency, and better in one; by value",
    ]
    prices: dict[Price, list[str]] = {}
    for one in found.candidates:
        if one.price is not None:
            targets = prices.setdefault(one.price, [])
            if one.target not in targets:
                targets.append(one.target)
    lines += [
        f"price: {price.usd_per_h:,g} USD/h, {price.as_of}, {price.source}: " + ", ".join(targets)
        for price, targets in prices.items()
    ]
    if found.needs.utilisation < 1:
        lines.append(f"costs: {percent(found.needs.utilisation)} of the paid hours are loaded")
    lines += [f"suspect: {', '.join(who)}: {why}" for why, who in _suspects(found).items()]
    lines += [f"left out: {left}" for left in found.left_out]
    lines += [f"a run left out: {one}: {why}" for one in found.candidates for why in one.left_out]
    return lines


def _suspects(found: Recommended) -> dict[str, list[str]]:
    """Return what speaks against the first of each rule, with whom it is said of."""
    suspects: dict[str, list[str]] = {}
    for first in dict.fromkeys(pick.first.candidate for pick in found.picks if pick.first):
        if first.status == "suspect":
            for why in first.reasons:
                suspects.setdefault(why, []).append(str(first))
    return suspects


def recommendation_document(found: Recommended) -> dict[str, Json]:
    """Return the document: JSON types only, no NaN, None for what is not known."""
    return {
        "schema": SCHEMA,
        "simulated": is_simulated(found),
        "clear": found.clear,
        "picks": [_pick_document(pick) for pick in found.picks],
        "candidates": [_row_document(found, row) for row in rows(found)],
        "left_out": [_left_document(left) for left in found.left_out],
    }


def _pick_document(pick: Pick) -> dict[str, Json]:
    first, margin, variation = pick.first, pick.margin, pick.variation
    return {
        "rule": pick.rule.name,
        "text": pick.rule.text,
        "figure": pick.rule.figure,
        "unit": pick.rule.unit,
        "winner": pick.winner,
        "loads": list(pick.loads) if pick.winner is not None else [],
        "first": None if first is None else _ranked_document(first),
        "contenders": [_ranked_document(ranked) for ranked in pick.contenders],
        "margin": None if margin is None else _margin_document(margin),
        "between_runs": None
        if variation is None
        else {"share": _rounded(variation.share), "measured": variation.measured},
        "ruled_out_by_limits_below_ms": {}
        if first is None
        else {n: _rounded(ms) for n, ms in first.candidate.keeps_no_limit_below.items()},
        "not_ranked": [_left_document(left) for left in pick.left_out],
    }


def _margin_document(margin: Margin) -> dict[str, Json]:
    return {
        "runner_up": _ranked_document(margin.runner_up),
        "by": _rounded(margin.by),
        "ci95": _pair(margin.ci95),
        "p_adjusted": _rounded(margin.p),
        "certain": margin.certain,
        "flips_at_usd_per_h": _rounded(margin.flips_at_usd_per_h),
        "runner_up_flips_at_usd_per_h": _rounded(margin.runner_up_flips_at_usd_per_h),
    }


def _ranked_document(ranked: Ranked) -> dict[str, Json]:
    return {
        "target": ranked.candidate.target,
        "load": ranked.candidate.load_label,
        "value": _rounded(ranked.value.value),
        "ci95": _pair(ranked.value.ci95),
    }


def _row_document(found: Recommended, row: CandidateView) -> dict[str, Json]:
    one = row.candidate
    return {
        "target": one.target,
        "load": one.load_label,
        "verdict": one.status,
        "runs": len(one.repeats),
        "price": None if one.price is None else asdict(one.price),
        "values": {name: _rounded(value.value) for name, value in row.values.items()},
        "costs": [
            {
                "of": cost.work.what,
                "usd": _rounded(cost.usd.value),
                "ci95": _pair(cost.usd.ci95),
                "minutes": _rounded(cost.minutes.value),
            }
            for cost in _costs(found, one)
        ],
        "pareto": row.pareto,
    }


def _left_document(left: LeftOut) -> dict[str, Json]:
    return {"target": left.candidate.target, "load": left.candidate.load_label, "why": left.why}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, _DECIMALS)


def _pair(ends: tuple[float, float] | None) -> list[float | None] | None:
    return None if ends is None else [_rounded(end) for end in ends]
