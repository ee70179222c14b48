"""One measured stage: its settings, its job, where it is measured, and its journal."""

from llmperf_core.run.job import Executor, Job, Listener
from llmperf_core.run.journal import Journal, read_journal
from llmperf_core.run.settings import Deadlines, Settings
from llmperf_core.run.stage import measure

__all__ = [
    "Deadlines",
    "Executor",
    "Job",
    "Journal",
    "Listener",
    "Settings",
    "measure",
    "read_journal",
]
