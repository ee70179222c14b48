"""How a run is read: the JSON document, the terminal's table, the notebook's HTML."""

from llmperf_core.load import load_label
from llmperf_core.show.calibration import calibration_document, calibration_lines
from llmperf_core.show.comparison import (
    ComparisonView,
    DetectableRow,
    DetectableView,
    PairView,
    comparison_document,
    detectable_document,
)
from llmperf_core.show.document import SCHEMA, run_document, stage_document
from llmperf_core.show.frames import (
    Columns,
    arrow_table,
    pandas_frame,
    polars_frame,
    request_columns,
    summary_columns,
)
from llmperf_core.show.html import (
    comparison_html,
    mimebundle,
    recommendation_html,
    run_html,
    stage_html,
)
from llmperf_core.show.recommendation import recommendation_document
from llmperf_core.show.study import StudiedCell, StudiedTarget, StudyView, render_study
from llmperf_core.show.table import (
    as_text,
    render,
    render_comparison,
    render_detectable,
    render_recommendation,
)
from llmperf_core.show.view import RunView, StageView

__all__ = [
    "SCHEMA",
    "Columns",
    "ComparisonView",
    "DetectableRow",
    "DetectableView",
    "PairView",
    "RunView",
    "StageView",
    "StudiedCell",
    "StudiedTarget",
    "StudyView",
    "arrow_table",
    "as_text",
    "calibration_document",
    "calibration_lines",
    "comparison_document",
    "comparison_html",
    "detectable_document",
    "load_label",
    "mimebundle",
    "pandas_frame",
    "polars_frame",
    "recommendation_document",
    "recommendation_html",
    "render",
    "render_comparison",
    "render_detectable",
    "render_recommendation",
    "render_study",
    "request_columns",
    "run_document",
    "run_html",
    "stage_document",
    "stage_html",
    "summary_columns",
]
