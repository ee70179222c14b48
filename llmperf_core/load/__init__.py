"""When requests start: pure plans that never wait."""

from llmperf_core.load.changing import Ramp, Spread, Steps
from llmperf_core.load.closed import Concurrency
from llmperf_core.load.open import ConstantRate, Gamma, Poisson
from llmperf_core.load.plan import part_of_plan
from llmperf_core.load.protocol import ClosedLoop, Labelled, LoadProfile, OpenLoop, Planned
from llmperf_core.load.replay import Replay
from llmperf_core.load.stored import (
    StoredClosedLoop,
    StoredOpenLoop,
    load_label,
    load_of,
    record_of,
)

__all__ = [
    "ClosedLoop",
    "Concurrency",
    "ConstantRate",
    "Gamma",
    "Labelled",
    "LoadProfile",
    "OpenLoop",
    "Planned",
    "Poisson",
    "Ramp",
    "Replay",
    "Spread",
    "Steps",
    "StoredClosedLoop",
    "StoredOpenLoop",
    "load_label",
    "load_of",
    "part_of_plan",
    "record_of",
]
