"""`llmperf import`: another tool's results as a run's folder."""

import argparse

from llmperf_core.importers import FORMATS, import_results, save_runs


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = (
        "Read the results of another tool, and keep them as a run's folder, or as one for each "
        "target where there are several."
    )
    parser.add_argument("format", metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("file", metavar="FILE", help="the tool's file, or the folder it wrote")
    parser.add_argument("--out", metavar="DIR", required=True, help="where to keep them")


def run(given: argparse.Namespace) -> int:
    """Import, keep, and print the folder of each run."""
    runs = import_results(given.format, given.file)
    for path in save_runs(runs, given.out):
        print(path)
    return 0
