"""`llmperf bench`: measure a target under one load or several."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from llmperf_core.backends import target_of
from llmperf_core.benchmark import InterruptedRunError, sweep
from llmperf_core.cli.arguments import (
    arrival,
    header,
    json_object,
    limits,
    numbers,
    precision,
    ramp,
    steps,
    whole_numbers,
)
from llmperf_core.cli.output import console, print_json
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
from llmperf_core.results import Run
from llmperf_core.run import Settings
from llmperf_core.show import render
from llmperf_core.target import Options
from llmperf_core.traces import read_trace
from llmperf_core.workload import Workload, length_of, workload_of

T = TypeVar("T")
_EXAMPLES = """examples:
  llmperf bench cpu:smollm2 --concurrency 1,2,4 --duration 15
  llmperf bench http://127.0.0.1:8080 --rate 2,4,8 --slo ttft=500,itl=50
  llmperf bench https://api.example.com --api-key-env API_KEY --model NAME --json
"""
_DEFAULTS = Settings()
_USUAL_ANSWER = 64
"""Tokens of an answer to calibrate with, where their number varies or a file says it."""


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = "Measure a target under a load, or under several one after the other."
    parser.epilog = _EXAMPLES
    parser.add_argument("target", metavar="TARGET", help="a URL; see: llmperf targets")
    _define_load(parser)
    _define_window(parser)
    _define_target(parser)
    _define_output(parser)


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
    group.add_argument(
        "--workload",
        metavar="SPEC",
        default="synthetic:64",
        help="synthetic:LENGTH, fixed:TEXT, dataset:FILE, sharegpt:FILE or conversation:LENGTH; a "
        "LENGTH is a number, uniform(low,high), normal(mean,sd) or lognormal(mean,sd) (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--output-tokens", metavar="LENGTH", help="limit of each answer (64, or as the file says)"
    )
    group.add_argument(
        "--tokenizer",
        metavar="WHICH",
        help="what counts the tokens of synthetic prompts: server, or a tokenizer.json",
    )
    group.add_argument(
        "--repeat-prompts",
        action="store_true",
        help="do not begin fixed prompts, and those of files, with a salt that no cache knows",
    )
    group.add_argument("--seed", metavar="N", type=int, help="of the prompts and the arrivals")


def _define_window(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("window")
    for name, metavar, kind, what in (
        ("--duration", "S", float, f"length of the window ({_DEFAULTS.duration_s:g})"),
        ("--requests", "N", int, "start at most N requests in the window"),
        ("--warmup", "S", float, f"load before the window opens ({_DEFAULTS.warmup_s:g})"),
        ("--drain", "S", float, f"longest wait for the last answers ({_DEFAULTS.drain_s:g})"),
    ):
        group.add_argument(name, metavar=metavar, type=kind, help=what)
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


def _define_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("target")
    group.add_argument(
        "--protocol", metavar="NAME", help="tgi, openai-chat, openai-completions (default: ask)"
    )
    group.add_argument("--model", metavar="NAME", help="the model to name (default: ask)")
    group.add_argument(
        "--api-key-env", metavar="VARIABLE", help="environment variable that holds the bearer key"
    )
    group.add_argument("--header", metavar="NAME:VALUE", action="append", default=[], type=header)
    group.add_argument(
        "--body",
        metavar="JSON",
        default={},
        type=json_object,
        help="further fields of each request; null removes one",
    )
    group.add_argument(
        "--no-stream", action="store_true", help="ask for whole answers, which have no TTFT"
    )
    group.add_argument("--ca-file", metavar="FILE", help="certificate authorities to trust")
    group.add_argument(
        "--insecure", action="store_true", help="do not check the server's certificate"
    )


def _define_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--out", metavar="DIR", help="keep the run in this folder")
    group.add_argument("--json", action="store_true", help="print one JSON document")
    group.add_argument(
        "--calibrate",
        action="store_true",
        help="first measure how wrong the measuring is here, at the largest load (under 30 s)",
    )
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument(
        "--in-process", action="store_true", help="measure in this process, not in one of its own"
    )


def run(given: argparse.Namespace) -> int:
    """Measure, print, and say by the status whether the numbers can be used."""
    target, loads = target_of(given.target, checked(_options, given)), checked(_loads, given)
    workload, slo = checked(_workload, given), checked(_slo, given)
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
        _print(interrupted.run, given)
        print("llmperf: interrupted; this is what was measured until then", file=sys.stderr)
        raise
    _print(done, given)
    return int(any(stage.verdict.status == "invalid" for stage in done.stages))


def checked(make: Callable[[argparse.Namespace], T], given: argparse.Namespace) -> T:
    """Return what the arguments say, or raise what a validator objects to as a usage error."""
    try:
        return make(given)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error.args[0]) if error.args else str(error)) from error


def _print(done: Run, given: argparse.Namespace) -> None:
    if given.json:
        print_json(done.to_dict())
        return
    render(done.view, console())
    if given.out:
        print(f"\nkept in {os.fspath(given.out)}")


def _loads(given: argparse.Namespace) -> Sequence[LoadProfile]:
    if given.rate is not None:
        return [_rate(rate_rps, given.arrival) for rate_rps in given.rate]
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


def _rate(rate_rps: float, arrival: str | float) -> LoadProfile:
    if isinstance(arrival, float):
        return Gamma(rate_rps, arrival)
    return Poisson(rate_rps) if arrival == "poisson" else ConstantRate(rate_rps)


def _workload(given: argparse.Namespace) -> Workload:
    tokenizer = given.tokenizer
    return workload_of(
        given.workload,
        output_tokens=None if given.output_tokens is None else length_of(given.output_tokens),
        unique=not given.repeat_prompts,
        tokenizer=tokenizer if tokenizer in (None, "server") else Path(tokenizer),
    )


def _slo(given: argparse.Namespace) -> Slo | None:
    return (
        Slo(**{f"{name}_ms": limit_ms for name, limit_ms in given.slo.items()})
        if given.slo
        else None
    )


def _settings(given: argparse.Namespace) -> Settings:
    settings = Settings(
        requests=given.requests,
        seed=given.seed,
        folder=given.out,
        quiet=given.quiet,
        in_process=given.in_process,
        precision=given.precision,
        max_in_flight=given.max_in_flight,
    )
    if given.duration is not None or given.requests is not None:
        settings = attrs.evolve(settings, duration_s=given.duration)
    if given.warmup is not None:
        settings = attrs.evolve(settings, warmup_s=given.warmup)
    if given.drain is not None:
        settings = attrs.evolve(settings, drain_s=given.drain)
    return settings


def _options(given: argparse.Namespace) -> Options:
    return Options(
        protocol=given.protocol,
        model=given.model,
        api_key_env=given.api_key_env,
        headers=dict(given.header),
        body=given.body,
        stream=not given.no_stream,
        verify=not given.insecure if given.ca_file is None else given.ca_file,
    )
