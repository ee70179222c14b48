"""Known truth to check an instrument against: servers that say when they sent what."""

from llmperf_core.testing.reference import ReferenceServer, Script, SendError, Truth

__all__ = ["ReferenceServer", "Script", "SendError", "Truth"]
