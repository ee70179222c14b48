"""What is asked: seeded streams of prompts with token budgets."""

from llmperf_core.workload.cancelling import Cancelling
from llmperf_core.workload.conversations import Conversations
from llmperf_core.workload.counting import Counted
from llmperf_core.workload.dataset import Dataset, read_dataset
from llmperf_core.workload.fixed import Fixed
from llmperf_core.workload.lengths import (
    Empirical,
    InOrder,
    Length,
    Lengths,
    LogNormal,
    Normal,
    Uniform,
)
from llmperf_core.workload.protocol import Workload
from llmperf_core.workload.spec import length_of, workload_of
from llmperf_core.workload.synthetic import Synthetic

__all__ = [
    "Cancelling",
    "Conversations",
    "Counted",
    "Dataset",
    "Empirical",
    "Fixed",
    "InOrder",
    "Length",
    "Lengths",
    "LogNormal",
    "Normal",
    "Synthetic",
    "Uniform",
    "Workload",
    "length_of",
    "read_dataset",
    "workload_of",
]
