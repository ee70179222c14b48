"""The measuring process: `python -m llmperf_core.run`."""

from llmperf_core.run.worker import main

main()
