"""`llmperf search`: the highest load that keeps limits, or the load that saturates."""

import argparse
import sys
from functools import partial

from attrs import evolve

from llmperf_core.backends import target_of
from llmperf_core.benchmark import InterruptedRunError, explore
from llmperf_core.cli import options
from llmperf_core.cli.arguments import arrival
from llmperf_core.cli.bench import rate
from llmperf_core.cli.options import checked
from llmperf_core.cli.output import print_json, print_run
from llmperf_core.decide import Capacity, PercentileLimit, Saturation, Search
from llmperf_core.results import Explored

_EXAMPLES = """examples:
  llmperf search http://127.0.0.1:8080 --limit ttft.p99=500,itl.p95=50 --start 4
  llmperf search http://127.0.0.1:8080 --limit ttft.p95=800 --by concurrency
  llmperf search http://127.0.0.1:8080 --saturation
"""
_DEFAULTS = Search(limits=[PercentileLimit("ttft", 50, 1)])


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = (
        "Find the highest load that keeps limits on percentiles; or, with --saturation, the "
        "concurrency from which on more brings nothing. A stage that proves neither that a limit "
        "holds nor that it is broken is measured again for twice as long."
    )
    parser.epilog = _EXAMPLES
    options.define_target(parser)
    _define_question(parser)
    options.define_workload(parser)
    options.define_window(parser, duration="the first stage at a load")
    options.define_output(parser)


def _define_question(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("question")
    either = group.add_mutually_exclusive_group(required=True)
    either.add_argument(
        "--limit",
        metavar="METRIC.pNN=MS,…",
        help="limits that must all hold: percentiles of ttft, itl, tpot or e2e, such as "
        "ttft.p99=500",
    )
    either.add_argument(
        "--saturation", action="store_true", help="double the concurrency until nothing is gained"
    )
    group.add_argument(
        "--by",
        choices=("rate", "concurrency"),
        default="rate",
        help="what to vary (default: %(default)s)",
    )
    group.add_argument(
        "--arrival",
        metavar="KIND",
        type=arrival,
        default="poisson",
        help="how the arrivals of a rate are spread: poisson (default), constant or gamma:SHAPE",
    )
    group.add_argument(
        "--start",
        metavar="N",
        type=float,
        default=_DEFAULTS.start,
        help="the first load to try (%(default)g)",
    )
    group.add_argument("--most", metavar="N", type=float, help="the highest load to try")
    group.add_argument(
        "--tolerance",
        metavar="P",
        type=float,
        default=100 * _DEFAULTS.tolerance,
        help="end when what holds and what does not are within P %% of each other (%(default)g)",
    )


def run(given: argparse.Namespace) -> int:
    """Measure, print the answer and the stages, and say by the status whether there is one."""
    target = target_of(given.target, checked(options.target_options, given))
    question = checked(_question, given)
    workload, settings = checked(options.workload, given), checked(options.settings, given)
    try:
        found = explore(target, question, workload=workload, settings=settings)
    except InterruptedRunError as interrupted:
        print_run(interrupted.run, given)
        print("llmperf: interrupted; this is what was measured until then", file=sys.stderr)
        raise
    _print(found, given)
    # Beyond the answer there are stages that no server could have served: they fail nothing.
    return int(isinstance(found.answer, Capacity) and found.answer.holds_at is None)


def _question(given: argparse.Namespace) -> Search | Saturation:
    if given.saturation:
        sweep = Saturation()
        if given.most is not None:
            sweep = evolve(sweep, most=int(given.most))
        return sweep if given.duration is None else evolve(sweep, duration_s=given.duration)
    search = Search(
        limits=[PercentileLimit.parse(part) for part in given.limit.split(",")],
        by=given.by,
        arrivals=partial(rate, arrival=given.arrival),
        start=given.start,
        tolerance=given.tolerance / 100,
    )
    if given.most is not None:
        search = evolve(search, most=given.most)
    return search if given.duration is None else evolve(search, duration_s=given.duration)


def _print(found: Explored, given: argparse.Namespace) -> None:
    if given.json:
        print_json(found.to_dict())
        return
    print(f"{found.answer}\n")
    print_run(found.run, given)
