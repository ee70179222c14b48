"""`llmperf compare`: whether one run is better or worse than another, for people and for gates."""

import argparse
from collections.abc import Sequence

from llmperf_core.cli.arguments import share
from llmperf_core.cli.options import define_differences
from llmperf_core.cli.output import console, print_json
from llmperf_core.comparison import compare, detectable
from llmperf_core.judge import MARGIN
from llmperf_core.results import Run, load_run
from llmperf_core.show import detectable_document, render_comparison, render_detectable

_EPILOG = """A side may be several runs, with commas between them: repeats, taken together.
Without a candidate it says how small a change a comparison with the baseline would find.

exit status: 0 nothing is worse; 1 something is, or a stage is invalid; 2 the runs are not alike

examples:
  llmperf compare runs/before runs/after
  llmperf compare runs/before-1,runs/before-2,runs/before-3 runs/after-1,runs/after-2,runs/after-3
"""


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = "Compare a candidate with a baseline, figure by figure."
    parser.epilog = _EPILOG
    parser.add_argument("baseline", metavar="DIR", type=_folders, help="the baseline's run")
    parser.add_argument(
        "candidate", metavar="DIR", type=_folders, nargs="?", help="the candidate's run"
    )
    parser.add_argument(
        "--margin",
        metavar="PERCENT",
        type=share,
        default=MARGIN,
        help=f"a change up to this is the same ({100 * MARGIN:g}%%)",
    )
    define_differences(
        parser,
        "compare what differs in these, or in anything: workload, load, model, stream, simulated, "
        "tool, stamps, counted_by",
    )
    parser.add_argument("--allow-invalid", action="store_true", help="compare invalid stages, too")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(given: argparse.Namespace) -> int:
    """Compare, print, and say by the status whether a gate may let the candidate through."""
    baseline = _runs(given.baseline)
    if given.candidate is None:
        found = detectable(baseline, margin=given.margin)
        if given.json:
            print_json(detectable_document(found))
        else:
            render_detectable(found, console())
        return 0
    comparison = compare(
        baseline,
        _runs(given.candidate),
        margin=given.margin,
        allow_differences=given.allow_differences,
        allow_invalid=given.allow_invalid,
    )
    if given.json:
        print_json(comparison.to_dict())
    else:
        render_comparison(comparison.view, console())
    return int(not comparison.passes)


def _runs(folders: Sequence[str]) -> list[Run]:
    return [load_run(folder) for folder in folders]


def _folders(text: str) -> Sequence[str]:
    return text.split(",")
