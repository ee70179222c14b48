"""`python -m llmperf_core` is the `llmperf` command."""

import sys

from llmperf_core.cli import main

sys.exit(main())
