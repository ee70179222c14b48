"""`llmperf recommend`: which target to deploy, by three rules, and how certain that is."""

import argparse
from argparse import ArgumentTypeError
from collections.abc import Mapping

from llmperf_core.bringup import Price
from llmperf_core.cli.arguments import limits, numbers, price, share
from llmperf_core.cli.options import checked, define_differences
from llmperf_core.cli.output import console, print_json
from llmperf_core.decide import Needs, PercentileLimit
from llmperf_core.decide.needs import RULE_NAMES, AtLoad
from llmperf_core.decide.noise import BETWEEN_RUNS
from llmperf_core.judge import Slo
from llmperf_core.recommendation import recommend
from llmperf_core.results import Run, load_runs
from llmperf_core.show import render_recommendation
from llmperf_core.studies import is_study, load_study

_EPILOG = """Runs of one target are repeats. Invalid stages never count; what was left out is said.

exit status: 0 every rule that was asked has a clear winner; 1 one has none, so ask with --rule for
those that you need; 2 the runs are not alike, or a price or a load is of nothing in them

examples:
  llmperf recommend runs/a runs/b --price 'http://a:8080=1.515' --price 'http://b:8080=7.09'
  llmperf recommend runs/study --price '*@ml.g5.2xlarge*=1.515' --rule cost --at-load 5
  llmperf recommend runs/study --rule throughput --limit ttft.p99=500 --budget 10
"""


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = (
        "Recommend what to deploy: the most cost-effective target, that of the best throughput and "
        "that of the best latency; or say between which it cannot be told."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "folders", metavar="DIR", nargs="+", help="a run, a folder of runs, or a study"
    )
    parser.add_argument(
        "--price",
        metavar="TARGET=USD/H",
        action="append",
        default=[],
        type=price,
        help="what a target costs, by its name or a pattern with *; may be given again, and says "
        "what if the price were another one",
    )
    _define_rules(parser)
    _define_constraints(parser)
    define_differences(
        parser,
        "rank what was measured in different ways: workload, stream, simulated, tool, stamps, "
        "counted_by",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _define_rules(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("rules")
    group.add_argument(
        "--rule",
        metavar="NAME,…",
        type=lambda text: text.split(","),
        default=RULE_NAMES,
        help=f"{', '.join(RULE_NAMES)} (all)",
    )
    group.add_argument(
        "--at-load",
        metavar="LOAD",
        action="append",
        default=[],
        type=_at_load,
        help="rank at this load, such as 5, or cost=5 for one rule; may be given again (by "
        "default each target counts at its best load)",
    )
    group.add_argument(
        "--latency",
        metavar="FIGURE",
        help="what the latency rule ranks: mean, p50, p90 or p99 of a metric, such as ttft.p90",
    )
    group.add_argument(
        "--utilisation",
        metavar="PERCENT",
        type=share,
        default=1.0,
        help="how much of the paid hours is loaded (100%%)",
    )
    group.add_argument(
        "--between-runs",
        metavar="PERCENT",
        type=share,
        default=BETWEEN_RUNS,
        help="what a figure is taken to vary by from run to run where no target has two "
        f"({100 * BETWEEN_RUNS:g}%%)",
    )


def _define_constraints(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("constraints")
    group.add_argument(
        "--slo",
        metavar="METRIC=MS,…",
        type=limits,
        help="count the requests that kept these: ttft, itl, tpot, e2e",
    )
    group.add_argument(
        "--limit",
        metavar="METRIC.pNN=MS,…",
        help="limits on percentiles that must be proved to hold, such as ttft.p99=500",
    )
    group.add_argument("--budget", metavar="USD/H", type=float, help="what an hour may cost")
    group.add_argument("--memory", metavar="GB", type=float, help="what its GPUs may use together")
    group.add_argument("--loads", metavar="LOW:HIGH", type=_range, help="which loads count")


def run(given: argparse.Namespace) -> int:
    """Recommend, print, and say by the status whether every rule has a clear winner."""
    needs = checked(_needs, given)
    runs: list[Run] = []
    prices: Mapping[str, Price] = dict(given.price)
    for folder in given.folders:
        if is_study(folder):
            study = load_study(folder)
            runs += study.runs
            prices = study.priced(prices)
        else:
            runs += load_runs(folder)
    found = recommend(runs, needs, prices=prices, allow_differences=given.allow_differences)
    if given.json:
        print_json(found.to_dict())
    else:
        render_recommendation(found.found, console())
    return int(not found.clear)


def _needs(given: argparse.Namespace) -> Needs:
    at_load = {rule: load for rules, load in given.at_load for rule in rules}
    limit = given.limit.split(",") if given.limit else []
    return Needs(
        rules=given.rule,
        latency=given.latency,
        slo=None if given.slo is None else Slo(**{f"{k}_ms": v for k, v in given.slo.items()}),
        limits=[PercentileLimit.parse(part) for part in limit],
        budget_usd_per_h=given.budget,
        memory_gb=given.memory,
        loads=given.loads,
        at_load=at_load,
        utilisation=given.utilisation,
        between_runs=given.between_runs,
    )


def _at_load(text: str) -> tuple[tuple[str, ...], AtLoad]:
    """Return `5`, `cost=5` or `poisson 8/s` as the rules and the load."""
    rule, equals, load = text.partition("=")
    rules: tuple[str, ...] = (rule,) if equals else RULE_NAMES
    load = load if equals else text
    if equals and rule not in RULE_NAMES:
        raise ArgumentTypeError(f"{rule!r} is none of {', '.join(RULE_NAMES)}")
    try:
        return rules, float(load)
    except ValueError:
        return rules, load


def _range(text: str) -> tuple[float, float]:
    """Return `5:20` as two numbers.

    Raises:
        ArgumentTypeError: it is written in another way.
    """
    ends = numbers(text.replace(":", ","))
    if len(ends) != 2:
        raise ArgumentTypeError(f"LOW:HIGH, such as 5:20, not {text!r}")
    return ends[0], ends[1]
