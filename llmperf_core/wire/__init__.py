"""Bytes and their stamps: the sockets, and the codecs that make tokens of what came."""

from llmperf_core.wire.stamps import stamping
from llmperf_core.wire.trace import Trace
from llmperf_core.wire.transport import Wire

__all__ = ["Trace", "Wire", "stamping"]
