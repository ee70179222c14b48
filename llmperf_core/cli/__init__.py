"""The `llmperf` command: a skin over the library, without logic of its own."""

from llmperf_core.cli.main import main

__all__ = ["main"]
