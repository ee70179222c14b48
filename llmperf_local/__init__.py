"""Targets on this machine: a real LLM, containers, a simulated TGI; and what fits on its GPUs."""

from llmperf_core.decide import (
    LLAMA_2,
    QUANTIZATIONS,
    Demand,
    Fit,
    Gpus,
    ModelShape,
    Quantization,
    shape_from_config,
    shape_of,
    weight_bytes,
    will_it_fit,
)
from llmperf_local.container import Container, Engine, ServerSpec
from llmperf_local.cpu import CpuModel
from llmperf_local.instances import INSTANCES
from llmperf_local.sim import Answers, Hardware, ServerOptions
from llmperf_local.sim.target import Simulated

__all__ = [
    "INSTANCES",
    "LLAMA_2",
    "QUANTIZATIONS",
    "Answers",
    "Container",
    "CpuModel",
    "Demand",
    "Engine",
    "Fit",
    "Gpus",
    "Hardware",
    "ModelShape",
    "Quantization",
    "ServerOptions",
    "ServerSpec",
    "Simulated",
    "shape_from_config",
    "shape_of",
    "weight_bytes",
    "will_it_fit",
]
