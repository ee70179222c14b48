"""A simulated TGI: its scheduler, on a model of the hardware."""

from llmperf_local.sim.hardware import Hardware
from llmperf_local.sim.options import Answers, ServerOptions
from llmperf_local.sim.presets import Fit, Preset, preset, presets
from llmperf_local.sim.requests import Ask, Emission, FinishReason, Gauges, Ticket
from llmperf_local.sim.scheduler import Scheduler
from llmperf_local.sim.virtual import VirtualStage, run_virtually

__all__ = [
    "Answers",
    "Ask",
    "Emission",
    "FinishReason",
    "Fit",
    "Gauges",
    "Hardware",
    "Preset",
    "Scheduler",
    "ServerOptions",
    "Ticket",
    "VirtualStage",
    "preset",
    "presets",
    "run_virtually",
]
