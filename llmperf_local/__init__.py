"""Targets on this machine: a real language model on its processors."""

from llmperf_local.cpu import CpuModel

__all__ = ["CpuModel"]
