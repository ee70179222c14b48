"""What to deploy, and how much it can bear."""

from llmperf_core.decide.limits import Exceeding, PercentileLimit
from llmperf_core.decide.saturation import Answer, Saturation, SaturationPoint
from llmperf_core.decide.search import Capacity, Measured, Probe, Search, Step

__all__ = [
    "Answer",
    "Capacity",
    "Exceeding",
    "Measured",
    "PercentileLimit",
    "Probe",
    "Saturation",
    "SaturationPoint",
    "Search",
    "Step",
]
