"""Others' results as our record: what they measured, and what they cannot say of it."""

from llmperf_core.importers.formats import FORMATS, import_results, save_runs

__all__ = ["FORMATS", "import_results", "save_runs"]
