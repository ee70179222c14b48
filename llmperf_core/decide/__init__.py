"""What to deploy, what it costs, and how much it can bear."""

from llmperf_core.decide.candidate import Candidate
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
from llmperf_core.decide.fit import (
    QUANTIZATIONS,
    Demand,
    Fit,
    Gpus,
    Quantization,
    weight_bytes,
    will_it_fit,
)
from llmperf_core.decide.limits import Exceeding, PercentileLimit
from llmperf_core.decide.model_shape import LLAMA_2, ModelShape, shape_from_config, shape_of
from llmperf_core.decide.needs import Needs
from llmperf_core.decide.recommend import (
    LeftOut,
    Margin,
    Pick,
    Ranked,
    Recommended,
    recommend,
)
from llmperf_core.decide.rules import Rule
from llmperf_core.decide.saturation import Answer, Saturation, SaturationPoint
from llmperf_core.decide.search import Capacity, Measured, Probe, Search, Step

__all__ = [
    "LLAMA_2",
    "MILLION_IN_AND_OUT",
    "MILLION_OUTPUT",
    "QUANTIZATIONS",
    "THOUSAND_GOOD_REQUESTS",
    "THOUSAND_REQUESTS",
    "Answer",
    "Candidate",
    "Capacity",
    "Cost",
    "Demand",
    "Exceeding",
    "Fit",
    "Gpus",
    "LeftOut",
    "Margin",
    "Measured",
    "ModelShape",
    "Needs",
    "Outlay",
    "PercentileLimit",
    "Pick",
    "Probe",
    "Quantization",
    "Ranked",
    "Rates",
    "Recommended",
    "Rule",
    "Saturation",
    "SaturationPoint",
    "Search",
    "Step",
    "Work",
    "cost_of",
    "recommend",
    "shape_from_config",
    "shape_of",
    "weight_bytes",
    "will_it_fit",
]
