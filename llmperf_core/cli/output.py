"""How the commands print: one JSON document, or tables as wide as there is room."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from llmperf_core.show import render
from llmperf_core.target import Json

if TYPE_CHECKING:
    from rich.console import Console

    from llmperf_core.results import Run

_ALL_COLUMNS = 120


def print_json(document: Mapping[str, Json]) -> None:
    """Print one document."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_run(run: "Run", given: argparse.Namespace) -> None:
    """Print a run as `--json` and `--out` of the command line ask."""
    if given.json:
        print_json(run.to_dict())
        return
    render(run.view, console())
    if given.out:
        print(f"\nkept in {os.fspath(given.out)}")


def console() -> "Console":
    """Return standard output, with room for all columns where it has no width of its own."""
    from rich.console import Console

    # A file or a pipe has no width: all columns go there. COLUMNS says otherwise if it is set.
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if narrow else _ALL_COLUMNS)
