"""Inference servers in containers on this machine: brought up, measured, and never left behind."""

from llmperf_core.serving import ServerSpec
from llmperf_core.signs import Failure, Phase
from llmperf_local.container.engines import ENGINES, LLAMA_CPP, SGLANG, TGI, VLLM, Engine
from llmperf_local.container.running import RunningContainer
from llmperf_local.container.target import Container

__all__ = [
    "ENGINES",
    "LLAMA_CPP",
    "SGLANG",
    "TGI",
    "VLLM",
    "Container",
    "Engine",
    "Failure",
    "Phase",
    "RunningContainer",
    "ServerSpec",
]
