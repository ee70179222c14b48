"""`llmperf report`: a run as a page to send around, and as files for other programs."""

import argparse

from llmperf_core.cli.arguments import price
from llmperf_core.comparison import compare
from llmperf_core.recommendation import recommend
from llmperf_core.report import write_report
from llmperf_core.results import load_runs

_EPILOG = """It writes report.html, report.md and summary.csv into the folder. Under GitHub Actions,
report.md is appended to the summary of the step, too.

exit status: 0 written; 1 a stage is invalid, or something is worse than in the baseline

examples:
  llmperf report runs/llama2
  llmperf report runs/after --baseline runs/before --junit junit.xml
  llmperf report runs/study --price '*@ml.g5.2xlarge*=1.515' --price '*@ml.g5.12xlarge*=7.09'
"""


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = "Write a report of a run, or of all runs in a folder."
    parser.epilog = _EPILOG
    parser.add_argument("folder", metavar="DIR", help="the run's folder, or one with runs in it")
    parser.add_argument("--html", metavar="FILE", help="the page (DIR/report.html)")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML, too")
    parser.add_argument(
        "--price",
        metavar="TARGET=USD/H",
        action="append",
        default=[],
        type=price,
        help="what a target costs, by its name or a pattern with *: say which one to deploy",
    )
    parser.add_argument("--baseline", metavar="DIR", help="a run to compare with")


def run(given: argparse.Namespace) -> int:
    """Write the files, print the page's name, and say by the status what they come to."""
    runs = load_runs(given.folder)
    comparison = None
    if given.baseline is not None:
        comparison = compare(load_runs(given.baseline), runs)
    recommendation = recommend(runs, prices=dict(given.price)) if given.price else None
    page = write_report(
        runs,
        given.folder,
        comparison=comparison,
        recommendation=recommendation,
        html=given.html,
        junit_file=given.junit,
    )
    print(page)
    invalid = any(stage.verdict.status == "invalid" for one in runs for stage in one.stages)
    return int(invalid or (comparison is not None and not comparison.passes))
