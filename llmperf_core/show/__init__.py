"""How a run is read: the JSON document, the terminal's table, the notebook's HTML."""

from llmperf_core.show.calibration import calibration_document, calibration_lines
from llmperf_core.show.document import SCHEMA, run_document, stage_document
from llmperf_core.show.html import run_html, stage_html
from llmperf_core.show.table import render
from llmperf_core.show.view import RunView, StageView, load_label

__all__ = [
    "SCHEMA",
    "RunView",
    "StageView",
    "calibration_document",
    "calibration_lines",
    "load_label",
    "render",
    "run_document",
    "run_html",
    "stage_document",
    "stage_html",
]
