"""Studies: which target, under which load, at what price. Planned, run within a budget, resumed."""

from llmperf_core.studies.entry import StudyTarget
from llmperf_core.studies.folder import is_study
from llmperf_core.studies.reading import read_study
from llmperf_core.studies.results import CellResult, StudyRun, TargetResult, load_study
from llmperf_core.studies.study import InterruptedStudyError, Study

__all__ = [
    "CellResult",
    "InterruptedStudyError",
    "Study",
    "StudyRun",
    "StudyTarget",
    "TargetResult",
    "is_study",
    "load_study",
    "read_study",
]
