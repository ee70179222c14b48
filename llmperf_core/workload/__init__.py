"""What is asked: seeded streams of prompts with token budgets."""

from llmperf_core.workload.fixed import Fixed
from llmperf_core.workload.protocol import Workload
from llmperf_core.workload.spec import workload_of
from llmperf_core.workload.synthetic import Synthetic

__all__ = ["Fixed", "Synthetic", "Workload", "workload_of"]
