"""What timelines mean. Pure: no IO, no clock, so a stored run can be judged again."""

from llmperf_core.judge.aggregate import Aggregate, MetricFigures, summary_of
from llmperf_core.judge.calibration import Calibration, Spread, as_calibrated
from llmperf_core.judge.comparison import (
    MARGIN,
    Change,
    Outcome,
    changes,
    figures_in_both,
    overall,
    smallest_detectable,
)
from llmperf_core.judge.counts import ConnectionCounts, RequestCounts, TokenTotals
from llmperf_core.judge.course import Course, course
from llmperf_core.judge.crosscheck import CrossCheck
from llmperf_core.judge.estimate import (
    COMPARED,
    Estimate,
    Estimates,
    Figure,
    estimate,
    estimate_from,
    taken_together,
)
from llmperf_core.judge.metrics import (
    CONNECT,
    E2E,
    ITL,
    LAG,
    METRICS,
    READ_LAG,
    SERVICE_E2E,
    SERVICE_TTFT,
    TIME_PER_TOKEN,
    TPOT,
    TTFT,
    Metric,
    all_values,
    samples,
)
from llmperf_core.judge.precision import Precision
from llmperf_core.judge.quantity import Quantity
from llmperf_core.judge.recorder import Recorder, read_log, record_all, write_log
from llmperf_core.judge.repeats import Repeats, over_repeats
from llmperf_core.judge.slo import Slo
from llmperf_core.judge.source import Source
from llmperf_core.judge.split import Split, split
from llmperf_core.judge.summary import (
    MetricSummary,
    Summary,
    percentile_curve,
    summarize,
    summarize_metric,
)
from llmperf_core.judge.telemetry import Level, Watch, Watched, watch
from llmperf_core.judge.verdict import CHECKS, Check, Evidence, Reason, Verdict, judge
from llmperf_core.judge.watching import as_watched

__all__ = [
    "CHECKS",
    "COMPARED",
    "CONNECT",
    "E2E",
    "ITL",
    "LAG",
    "MARGIN",
    "METRICS",
    "READ_LAG",
    "SERVICE_E2E",
    "SERVICE_TTFT",
    "TIME_PER_TOKEN",
    "TPOT",
    "TTFT",
    "Aggregate",
    "Calibration",
    "Change",
    "Check",
    "ConnectionCounts",
    "Course",
    "CrossCheck",
    "Estimate",
    "Estimates",
    "Evidence",
    "Figure",
    "Level",
    "Metric",
    "MetricFigures",
    "MetricSummary",
    "Outcome",
    "Precision",
    "Quantity",
    "Reason",
    "Recorder",
    "Repeats",
    "RequestCounts",
    "Slo",
    "Source",
    "Split",
    "Spread",
    "Summary",
    "TokenTotals",
    "Verdict",
    "Watch",
    "Watched",
    "all_values",
    "as_calibrated",
    "as_watched",
    "changes",
    "course",
    "estimate",
    "estimate_from",
    "figures_in_both",
    "judge",
    "over_repeats",
    "overall",
    "percentile_curve",
    "read_log",
    "record_all",
    "samples",
    "smallest_detectable",
    "split",
    "summarize",
    "summarize_metric",
    "summary_of",
    "taken_together",
    "watch",
    "write_log",
]
