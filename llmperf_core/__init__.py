"""Measure LLM inference endpoints, know how sure you are, and decide what to deploy."""

from llmperf_core._version import __version__
from llmperf_core.backends import target_of
from llmperf_core.benchmark import (
    InterruptedRunError,
    abench,
    aexplore,
    asweep,
    bench,
    explore,
    sweep,
)
from llmperf_core.bringup import Price
from llmperf_core.comparison import Comparison, compare, detectable
from llmperf_core.decide import (
    Capacity,
    Cost,
    Needs,
    PercentileLimit,
    Saturation,
    SaturationPoint,
    Search,
)
from llmperf_core.errors import LLMPerfError
from llmperf_core.gate import Gate, Gated
from llmperf_core.importers import import_results
from llmperf_core.instrument import acalibrate, calibrate
from llmperf_core.judge import (
    Calibration,
    Metric,
    Precision,
    Repeats,
    Slo,
    Verdict,
    over_repeats,
)
from llmperf_core.load import Concurrency, ConstantRate, Gamma, Poisson, Ramp, Replay, Steps
from llmperf_core.recommendation import Recommendation, candidates_of, recommend
from llmperf_core.report import write_report
from llmperf_core.results import Explored, Run, StageResult, load_run, load_runs
from llmperf_core.run import Deadlines, Settings
from llmperf_core.studies import (
    InterruptedStudyError,
    Study,
    StudyRun,
    StudyTarget,
    load_study,
    read_study,
)
from llmperf_core.target import Endpoint, Options, Prompt, Target
from llmperf_core.timeline import Timeline
from llmperf_core.traces import read_trace
from llmperf_core.workload import (
    Cancelling,
    Conversations,
    Dataset,
    Empirical,
    Fixed,
    InOrder,
    LogNormal,
    Normal,
    Synthetic,
    Uniform,
    read_dataset,
)

__all__ = [
    "Calibration",
    "Cancelling",
    "Capacity",
    "Comparison",
    "Concurrency",
    "ConstantRate",
    "Conversations",
    "Cost",
    "Dataset",
    "Deadlines",
    "Empirical",
    "Endpoint",
    "Explored",
    "Fixed",
    "Gamma",
    "Gate",
    "Gated",
    "InOrder",
    "InterruptedRunError",
    "InterruptedStudyError",
    "LLMPerfError",
    "LogNormal",
    "Metric",
    "Needs",
    "Normal",
    "Options",
    "PercentileLimit",
    "Poisson",
    "Precision",
    "Price",
    "Prompt",
    "Ramp",
    "Recommendation",
    "Repeats",
    "Replay",
    "Run",
    "Saturation",
    "SaturationPoint",
    "Search",
    "Settings",
    "Slo",
    "StageResult",
    "Steps",
    "Study",
    "StudyRun",
    "StudyTarget",
    "Synthetic",
    "Target",
    "Timeline",
    "Uniform",
    "Verdict",
    "__version__",
    "abench",
    "acalibrate",
    "aexplore",
    "asweep",
    "bench",
    "calibrate",
    "candidates_of",
    "compare",
    "detectable",
    "explore",
    "import_results",
    "load_run",
    "load_runs",
    "load_study",
    "over_repeats",
    "read_dataset",
    "read_study",
    "read_trace",
    "recommend",
    "sweep",
    "target_of",
    "write_report",
]
