"""`llmperf reap`: remove what a killed run has left running."""

import argparse
import sys

from llmperf_core.backends import backends
from llmperf_core.errors import LLMPerfError
from llmperf_core.target import CanReap, Leftover, Reap


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = (
        "Remove what llmperf started and nobody uses any more: what has expired, and what belongs "
        "to a process that has ended. Exit status 3 if something could not be looked at or removed."
    )
    parser.add_argument("--dry-run", action="store_true", help="list it, and remove nothing")
    parser.add_argument(
        "--expired",
        action="store_true",
        help="only what has expired, not what belongs to a process that has ended",
    )
    parser.add_argument(
        "--journal",
        action="store_true",
        help="go by what this machine has noted, and search no cloud",
    )
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        help="search this region of a cloud by tags, too; may come several times",
    )


def run(given: argparse.Namespace) -> int:
    """Look with each backend that can. What fails keeps nothing else from being removed."""
    status = found = 0
    which = Reap(expired_only=given.expired, noted_only=given.journal, regions=tuple(given.region))
    for backend in backends().values():
        if not isinstance(backend, CanReap):
            continue
        try:
            leftovers = backend.leftovers(which)
        except LLMPerfError as error:
            status = _complain(error)
            continue
        found += len(leftovers)
        for leftover in leftovers:
            status = _remove(leftover, dry_run=given.dry_run) or status
    if not found and not status:
        print("nothing is left running")
    return status


def _remove(leftover: Leftover, *, dry_run: bool) -> int:
    """Remove it unless this is a dry run, and return the exit status."""
    try:
        if not dry_run:
            leftover.remove()
    except LLMPerfError as error:
        return _complain(error)
    print(f"{'would remove' if dry_run else 'removed'} {leftover.what}: {leftover.why}")
    return 0


def _complain(error: LLMPerfError) -> int:
    print(f"llmperf: {error}", file=sys.stderr)
    return error.exit_status
