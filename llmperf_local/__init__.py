"""Targets on this machine: a real language model on its processors, and a simulated TGI."""

from llmperf_local.cpu import CpuModel
from llmperf_local.sim import Answers, Hardware, ServerOptions
from llmperf_local.sim.target import Simulated

__all__ = ["Answers", "CpuModel", "Hardware", "ServerOptions", "Simulated"]
