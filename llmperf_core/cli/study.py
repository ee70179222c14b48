"""`llmperf study`: plan and run a study that a file says."""

import argparse
import sys

from attrs import evolve

from llmperf_core.cli.output import console, print_json
from llmperf_core.decide.plan import Plan
from llmperf_core.errors import UsageError
from llmperf_core.show import render_study
from llmperf_core.studies import InterruptedStudyError, StudyRun, read_study
from llmperf_core.studies.study import PARALLEL
from llmperf_core.units import format_usd

_EXAMPLES = """examples:
  llmperf study study.toml --plan
  llmperf study study.toml --out runs/study --budget-usd 50
  llmperf study study.toml --out runs/study --budget-usd 50 --resume
"""


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = (
        "Measure targets under loads as a file says, each target brought up once. With --plan, say "
        "what that takes and bring nothing up."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="the study, in TOML or YAML")
    parser.add_argument("--plan", action="store_true", help="only say what it takes")
    parser.add_argument("--out", metavar="DIR", help="where the study is kept")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the study in DIR: measure what is missing"
    )
    parser.add_argument(
        "--budget-usd",
        metavar="N",
        type=float,
        help="the most that it may cost, with what it has cost before; needed where targets cost "
        "money",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before money is spent")
    parser.add_argument(
        "--parallel",
        metavar="N",
        type=int,
        default=PARALLEL,
        help="so many targets that cost money are up at a time (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(given: argparse.Namespace) -> int:
    """Plan or run, print, and say by the status whether all was measured and can be used."""
    study = read_study(given.file)
    if given.plan:
        planned = study.plan(given.out, parallel=given.parallel)
        _print(planned, given)
        return int(any(bring_up.refusal for bring_up in planned.bring_ups))
    if given.out is None:
        raise UsageError("say where the study is kept: --out DIR; or only plan it: --plan")
    if given.quiet:
        study = evolve(study, settings=evolve(study.settings, quiet=True))
    if given.budget_usd is not None and not given.yes and sys.stdin.isatty():
        _ask(study.plan(given.out, parallel=given.parallel), given.budget_usd)
    try:
        done = study.run(
            given.out,
            budget_usd=given.budget_usd,
            parallel=given.parallel,
            resume=given.resume,
        )
    except InterruptedStudyError as interrupted:
        _print(interrupted.run, given)
        print("llmperf: interrupted; go on with --resume", file=sys.stderr)
        raise
    _print(done, given)
    verdicts = (cell.stage.verdict.status for cell in done.cells if cell.stage is not None)
    return int(bool(done.missing) or "invalid" in verdicts)


def _ask(planned: Plan, budget_usd: float) -> None:
    """Ask before money is spent.

    Raises:
        UsageError: the answer is not yes.
    """
    if not planned.paid:
        return
    print(planned, file=sys.stderr)
    most_usd = min(budget_usd, planned.worst_usd)
    print(f"This costs up to {format_usd(most_usd)}. Go on? [y/N] ", end="", file=sys.stderr)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was brought up")


def _print(what: Plan | StudyRun, given: argparse.Namespace) -> None:
    if given.json:
        print_json(what.to_dict())
    elif isinstance(what, Plan):
        print(what)
    else:
        render_study(what.view, console())
