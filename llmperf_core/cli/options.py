"""Options that several commands take, and what they say."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attrs import evolve

from llmperf_core.cli.arguments import header, json_object
from llmperf_core.errors import UsageError
from llmperf_core.run import Settings
from llmperf_core.target import Options
from llmperf_core.workload import Workload, length_of, workload_of

T = TypeVar("T")
_DEFAULTS = Settings()


def define_workload(parser: argparse.ArgumentParser) -> None:
    """Define what is asked."""
    group = parser.add_argument_group("workload")
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


def define_differences(parser: argparse.ArgumentParser, what: str) -> None:
    """Define `--allow-differences`.

    Args:
        parser: of the command.
        what: says what it allows, with the names.
    """
    parser.add_argument(
        "--allow-differences",
        metavar="NAME,…",
        nargs="?",
        const=True,
        default=False,
        type=lambda text: text.split(","),
        help=what,
    )


def define_window(parser: argparse.ArgumentParser, *, duration: str) -> argparse._ArgumentGroup:
    """Define how long a stage is; return the group, for more.

    Args:
        parser: of the command.
        duration: what `--duration` is the length of.
    """
    group = parser.add_argument_group("window")
    for name, what in (
        ("--duration", f"length of {duration} ({_DEFAULTS.duration_s:g})"),
        ("--warmup", f"load before the window opens ({_DEFAULTS.warmup_s:g})"),
        ("--drain", f"longest wait for the last answers ({_DEFAULTS.drain_s:g})"),
    ):
        group.add_argument(name, metavar="S", type=float, help=what)
    return group


def define_target(parser: argparse.ArgumentParser) -> None:
    """Define what is aimed at, and how it is spoken to."""
    parser.add_argument("target", metavar="TARGET", help="a URL; see: llmperf targets")
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


def define_output(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Define what becomes of the results; return the group, for more."""
    group = parser.add_argument_group("output")
    group.add_argument("--out", metavar="DIR", help="keep the run in this folder")
    group.add_argument("--json", action="store_true", help="print one JSON document")
    group.add_argument(
        "--telemetry",
        action=argparse.BooleanOptionalAction,
        help="read the server's counters and this machine's GPUs meanwhile (default: if there are)",
    )
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument(
        "--in-process", action="store_true", help="measure in this process, not in one of its own"
    )
    return group


def checked(make: Callable[[argparse.Namespace], T], given: argparse.Namespace) -> T:
    """Return what the arguments say, or raise what a validator objects to as a usage error.

    Raises:
        UsageError: an argument is out of its range.
    """
    try:
        return make(given)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error.args[0]) if error.args else str(error)) from error


def workload(given: argparse.Namespace) -> Workload:
    """Return what is asked."""
    tokenizer = given.tokenizer
    return workload_of(
        given.workload,
        output_tokens=None if given.output_tokens is None else length_of(given.output_tokens),
        unique=not given.repeat_prompts,
        tokenizer=tokenizer if tokenizer in (None, "server") else Path(tokenizer),
    )


def target_options(given: argparse.Namespace) -> Options:
    """Return what is said of the target beside its URL."""
    return Options(
        protocol=given.protocol,
        model=given.model,
        api_key_env=given.api_key_env,
        headers=dict(given.header),
        body=given.body,
        stream=not given.no_stream,
        verify=not given.insecure if given.ca_file is None else given.ca_file,
    )


def settings(given: argparse.Namespace) -> Settings:
    """Return how it is measured; the window's length is left as it is by default."""
    said = Settings(
        seed=given.seed,
        folder=given.out,
        telemetry=given.telemetry,
        quiet=given.quiet,
        in_process=given.in_process,
    )
    if given.warmup is not None:
        said = evolve(said, warmup_s=given.warmup)
    return said if given.drain is None else evolve(said, drain_s=given.drain)
