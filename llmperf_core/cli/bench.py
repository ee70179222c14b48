"""`llmperf bench`: measure a target under one load or several."""

import argparse
import sys
from collections.abc import Sequence

import attrs

from llmperf_core.backends import target_of
from llmperf_core.benchmark import InterruptedRunError, sweep
from llmperf_core.cli import options
from llmperf_core.cli.arguments import (
    arrival,
    limits,
    numbers,
    precision,
    ramp,
    steps,
    whole_numbers,
)
from llmperf_core.cli.options import checked
from llmperf_core.cli.output import print_run
from llmperf_core.errors import UsageError
from llmperf_core.instrument import calibrate
from llmperf_core.judge import Slo
from llmperf_core.load import (
    Concurrency,
    ConstantRate,
    Gamma,
    LoadProfile,
    Poisson,
    Ramp,
    Steps,
)
from llmperf_core.run import Settings
from llmperf_core.traces import read_trace
from llmperf_core.workload import length_of

_EXAMPLES = """examples:
  llmperf bench cpu:smollm2 --concurrency 1,2,4 --duration 15
  llmperf bench http://127.0.0.1:8080 --rate 2,4,8 --slo ttft=500,itl=50
  llmperf bench https://api.example.com --api-key-env API_KEY --model NAME --json
"""
_USUAL_ANSWER = 64
"""Tokens of an answer to calibrate with, where their number varies or a file says it."""


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = "Measure a target under a load, or under several one after the other."
    parser.epilog = _EXAMPLES
    options.define_target(parser)
    _define_load(parser)
    options.define_workload(parser)
    _define_window(parser)
    options.define_output(parser).add_argument(
        "--calibrate",
        action="store_true",
        help="first measure how wrong the measuring is here, at the largest load (under 30 s)",
    )


def _define_load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--concurrency",
        metavar="N,…",
        type=whole_numbers,
        default=[1],
        help="requests in flight (default: 1)",
    )
    either.add_argument(
        "--rate", metavar="R,…", type=numbers, help="requests started a second, come what may"
    )
    either.add_argument(
        "--ramp", metavar="FROM:TO:S", type=ramp, help="a rate that changes evenly in S seconds"
    )
    either.add_argument(
        "--steps", metavar="RATE:S,…", type=steps, help="one rate after the other, each S seconds"
    )
    either.add_argument(
        "--replay",
        metavar="FILE",
        help="recorded arrivals: a trace of Azure, Mooncake or BurstGPT, or a timelines.jsonl",
    )
    group.add_argument(
        "--arrival",
        metavar="KIND",
        type=arrival,
        default="poisson",
        help="how the arrivals of a rate are spread: poisson (default), constant or gamma:SHAPE, "
        "where a shape below 1 makes bursts",
    )
    group.add_argument(
        "--max-in-flight", metavar="N", type=int, help="arrivals beyond N wait, and the wait counts"
    )


def _define_window(parser: argparse.ArgumentParser) -> None:
    group = options.define_window(parser, duration="the window")
    group.add_argument(
        "--requests", metavar="N", type=int, help="start at most N requests in the window"
    )
    group.add_argument(
        "--precision",
        metavar="METRIC.pNN=P%",
        type=precision,
        help="stop early where a 95 %% interval is within P %% of its value: ttft.p50=5%%",
    )
    group.add_argument(
        "--slo",
        metavar="NAME=MS,…",
        type=limits,
        default={},
        help="limits a request must meet to count in the goodput: ttft, itl, tpot, e2e",
    )


def run(given: argparse.Namespace) -> int:
    """Measure, print, and say by the status whether the numbers can be used."""
    target, loads = (
        target_of(given.target, checked(options.target_options, given)),
        checked(_loads, given),
    )
    workload, slo = checked(options.workload, given), checked(_slo, given)
    settings = checked(_settings, given)
    if given.calibrate:
        largest = max(loads, key=lambda load: load.value)
        length = None if given.output_tokens is None else length_of(given.output_tokens)
        tokens = length if isinstance(length, int) else _USUAL_ANSWER
        calibration = calibrate(largest, output_tokens=tokens, settings=settings)
        settings = attrs.evolve(settings, calibration=calibration)
    try:
        done = sweep(target, loads, workload=workload, slo=slo, settings=settings)
    except InterruptedRunError as interrupted:
        print_run(interrupted.run, given)
        print("llmperf: interrupted; this is what was measured until then", file=sys.stderr)
        raise
    print_run(done, given)
    return int(any(stage.verdict.status == "invalid" for stage in done.stages))


def _loads(given: argparse.Namespace) -> Sequence[LoadProfile]:
    if given.rate is not None:
        return [rate(rate_rps, given.arrival) for rate_rps in given.rate]
    if given.replay is not None:
        return [read_trace(given.replay)]
    if given.ramp is None and given.steps is None:
        return [Concurrency(slots) for slots in given.concurrency]
    if isinstance(given.arrival, float):
        raise UsageError("a rate that changes is spread as poisson or constant; not gamma")
    if given.steps is not None:
        return [Steps(given.steps, spread=given.arrival)]
    from_rps, to_rps, duration_s = given.ramp
    return [Ramp(from_rps, to_rps, duration_s=duration_s, spread=given.arrival)]


def rate(rate_rps: float, arrival: str | float) -> LoadProfile:
    """Return an open loop of this rate, spread as `--arrival` says."""
    if isinstance(arrival, float):
        return Gamma(rate_rps, arrival)
    return Poisson(rate_rps) if arrival == "poisson" else ConstantRate(rate_rps)


def _slo(given: argparse.Namespace) -> Slo | None:
    return (
        Slo(**{f"{name}_ms": limit_ms for name, limit_ms in given.slo.items()})
        if given.slo
        else None
    )


def _settings(given: argparse.Namespace) -> Settings:
    settings = attrs.evolve(
        options.settings(given),
        requests=given.requests,
        max_in_flight=given.max_in_flight,
    )
    if given.duration is not None or given.requests is not None:
        settings = attrs.evolve(settings, duration_s=given.duration)
    return attrs.evolve(settings, precision=given.precision)
