"""When requests start: pure plans that never wait."""

from llmperf_core.load.closed import Concurrency
from llmperf_core.load.open import ConstantRate, Poisson
from llmperf_core.load.protocol import ClosedLoop, LoadProfile, OpenLoop

__all__ = ["ClosedLoop", "Concurrency", "ConstantRate", "LoadProfile", "OpenLoop", "Poisson"]
