"""Targets on this machine: a real LLM, containers, a simulated TGI; and what fits on its GPUs."""

from llmperf_local.container import Container, Engine, ServerSpec
from llmperf_local.cpu import CpuModel
from llmperf_local.fit import (
    INSTANCES,
    QUANTIZATIONS,
    Demand,
    Fit,
    Gpus,
    Quantization,
    weight_bytes,
    will_it_fit,
)
from llmperf_local.model_shape import LLAMA_2, ModelShape, shape_from_config, shape_of
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
