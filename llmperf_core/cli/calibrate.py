"""`llmperf calibrate`: this host's instrument error, at the load that is to be measured."""

import argparse

from llmperf_core.cli.options import checked
from llmperf_core.cli.output import print_json
from llmperf_core.instrument import calibrate
from llmperf_core.load import Concurrency, LoadProfile, Poisson
from llmperf_core.run import Settings
from llmperf_core.show import calibration_document, calibration_lines
from llmperf_core.units import s_from_ms


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = (
        "Measure a server whose truth is known, and print how wrong the measuring is on this host. "
        "It takes under 30 s. Exit status 1 if this load cannot be measured well here."
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--concurrency", metavar="N", type=int, default=100, help="requests in flight (%(default)s)"
    )
    either.add_argument("--rate", metavar="R", type=float, help="requests started a second")
    parser.add_argument(
        "--gap",
        metavar="MS",
        type=float,
        default=20.0,
        help="usual time between two tokens of an answer (%(default)g)",
    )
    parser.add_argument(
        "--output-tokens", metavar="N", type=int, default=64, help="tokens of an answer (64)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument(
        "--in-process", action="store_true", help="measure in this process, not in one of its own"
    )


def run(given: argparse.Namespace) -> int:
    """Calibrate, print, and say by the status whether this host measures well."""
    found = calibrate(
        checked(_load, given),
        gap_s=s_from_ms(given.gap),
        output_tokens=given.output_tokens,
        settings=Settings(quiet=given.quiet, in_process=given.in_process),
    )
    if given.json:
        print_json(calibration_document(found))
    else:
        print("\n".join(calibration_lines(found)))
    return int(found.status == "degraded")


def _load(given: argparse.Namespace) -> LoadProfile:
    return Concurrency(given.concurrency) if given.rate is None else Poisson(given.rate)
