"""What to deploy, what it costs, and how much it can bear."""

from llmperf_core.decide.cost import (
    MILLION_IN_AND_OUT,
    MILLION_OUTPUT,
    THOUSAND_GOOD_REQUESTS,
    THOUSAND_REQUESTS,
    Cost,
    Outlay,
    Rates,
    Work,
    cost_of,
)
from llmperf_core.decide.limits import Exceeding, PercentileLimit
from llmperf_core.decide.saturation import Answer, Saturation, SaturationPoint
from llmperf_core.decide.search import Capacity, Measured, Probe, Search, Step

__all__ = [
    "MILLION_IN_AND_OUT",
    "MILLION_OUTPUT",
    "THOUSAND_GOOD_REQUESTS",
    "THOUSAND_REQUESTS",
    "Answer",
    "Capacity",
    "Cost",
    "Exceeding",
    "Measured",
    "Outlay",
    "PercentileLimit",
    "Probe",
    "Rates",
    "Saturation",
    "SaturationPoint",
    "Search",
    "Step",
    "Work",
    "cost_of",
]
