"""Known truth to check an instrument against: servers that say when they sent what."""

from llmperf_core.testing.dialects import (
    DIALECTS,
    EVENT_STREAM,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    TGI,
    TGI_2_0,
    Dialect,
)
from llmperf_core.testing.faults import FAULTS, Fault, fault_schedule
from llmperf_core.testing.reference import (
    FaultPlan,
    Played,
    ReferenceServer,
    Script,
    SendError,
    Truth,
)

__all__ = [
    "DIALECTS",
    "EVENT_STREAM",
    "FAULTS",
    "OPENAI_CHAT",
    "OPENAI_COMPLETIONS",
    "TGI",
    "TGI_2_0",
    "Dialect",
    "Fault",
    "FaultPlan",
    "Played",
    "ReferenceServer",
    "Script",
    "SendError",
    "Truth",
    "fault_schedule",
]
