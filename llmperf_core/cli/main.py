"""Read the command line, run the command, and turn what is raised into one line and a status.

Exit status: 0 done, 1 a verdict is invalid, a calibration degraded, a gate not passed or measuring
failed, 2 usage, 3 the target could not be brought up or reached, 130 interrupted.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from llmperf_core._version import __version__
from llmperf_core.cli import (
    bench,
    calibrate,
    compare,
    import_results,
    reap,
    recommend,
    report,
    search,
    serve,
    study,
    targets,
)
from llmperf_core.errors import LLMPerfError

INTERRUPTED = 130
_COMMANDS = {
    "bench": (bench, "measure a target under a load, or under several"),
    "calibrate": (calibrate, "measure how wrong the measuring is on this host"),
    "compare": (compare, "say whether a run is better or worse than another"),
    "import": (import_results, "read the results of another tool"),
    "recommend": (recommend, "say which target to deploy, and how certain that is"),
    "reap": (reap, "remove what a killed run has left running"),
    "report": (report, "write a page, Markdown, CSV and JUnit XML of a run"),
    "search": (search, "find the highest load that keeps limits, or that saturates"),
    "serve": (serve, "run a simulated server for other programs"),
    "study": (study, "plan and run a study: which target, under which load, at what price"),
    "targets": (targets, "list what can be measured"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `llmperf`; by default those of this process.

    Returns:
        The exit status.
    """
    given = _parser().parse_args(arguments)
    before = {number: signal.signal(number, _as_interrupt) for number in _ending_signals()}
    try:
        status: int = given.run(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return LLMPerfError.exit_status
    except LLMPerfError as error:
        print(f"llmperf: {error}", file=sys.stderr)
        return error.exit_status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmperf",
        description="Benchmark LLM inference endpoints with stamps taken by the kernel.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"llmperf {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (command, purpose) in _COMMANDS.items():
        its_parser = commands.add_parser(
            name,
            help=purpose,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.define(its_parser)
        its_parser.set_defaults(run=command.run)
    return parser


def _ending_signals() -> list[signal.Signals]:
    """Return what a scheduler sends, and a terminal that closes; the latter unless nohup is used.

    Windows has no SIGHUP.
    """
    hang_up = getattr(signal, "SIGHUP", signal.SIGTERM)
    ignored = signal.getsignal(hang_up) is signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, hang_up]


def _as_interrupt(_signal: int, _frame: object) -> NoReturn:
    """Take a signal like Ctrl-C: stop, keep what was measured, leave nothing running."""
    raise KeyboardInterrupt
