"""What is kept of runs for people who did not measure: a page, Markdown, CSV, JUnit XML."""

from llmperf_core.report.files import write_report

__all__ = ["write_report"]
