"""What timelines mean. Pure: no IO, no clock, so a stored run can be judged again."""

from llmperf_core.judge.calibration import Calibration, Spread, as_calibrated
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
from llmperf_core.judge.quantity import Quantity
from llmperf_core.judge.recorder import Recorder, read_log, record_all, write_log
from llmperf_core.judge.slo import Slo
from llmperf_core.judge.summary import (
    ConnectionCounts,
    MetricSummary,
    RequestCounts,
    Summary,
    TokenTotals,
    summarize,
    summarize_metric,
)
from llmperf_core.judge.verdict import CHECKS, Check, Evidence, Reason, Verdict, judge

__all__ = [
    "CHECKS",
    "CONNECT",
    "E2E",
    "ITL",
    "LAG",
    "METRICS",
    "READ_LAG",
    "SERVICE_E2E",
    "SERVICE_TTFT",
    "TIME_PER_TOKEN",
    "TPOT",
    "TTFT",
    "Calibration",
    "Check",
    "ConnectionCounts",
    "Evidence",
    "Metric",
    "MetricSummary",
    "Quantity",
    "Reason",
    "Recorder",
    "RequestCounts",
    "Slo",
    "Spread",
    "Summary",
    "TokenTotals",
    "Verdict",
    "all_values",
    "as_calibrated",
    "judge",
    "read_log",
    "record_all",
    "samples",
    "summarize",
    "summarize_metric",
    "write_log",
]
