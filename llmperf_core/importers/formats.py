"""The formats by name, and the door to them."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from llmperf_core.errors import ImportFileError, UsageError
from llmperf_core.importers import aiperf, guidellm, llmeter, published_study, vllm_bench
from llmperf_core.results import Run

Reader: TypeAlias = Callable[[Path], Sequence[Run]]
"""Reads a file, or a folder of files where a tool writes several, as one run or more."""

FORMATS: Mapping[str, Reader] = {
    "aiperf": aiperf.read,
    "guidellm": guidellm.read,
    "llmeter": llmeter.read,
    "published-study": published_study.read,
    "vllm-bench": vllm_bench.read,
}
"""By the name that `llmperf import` takes."""


def import_results(format: str, path: Path | str) -> Sequence[Run]:  # noqa: A002 -- its word
    """Return the runs that a file of another tool holds: one for each target.

    Args:
        format: one of `FORMATS`.
        path: the tool's file; for some formats the folder that it wrote.

    Raises:
        ImportFileError: the file is not of that format, or is damaged.
        UsageError: there is no such format.
    """
    if format not in FORMATS:
        raise UsageError(f"no format {format!r}; there are {', '.join(FORMATS)}")
    try:
        runs = FORMATS[format](Path(path))
    except (OverflowError, ValueError, msgspec.ValidationError) as error:
        # A number that no duration or count can have.
        raise ImportFileError(path, format, f"a value is out of range: {error}") from error
    if not any(run.stages for run in runs):
        raise ImportFileError(path, format, "it holds no result")
    return runs


def save_runs(runs: Sequence[Run], folder: Path | str) -> Sequence[Path]:
    """Write the runs: one into the folder itself, more into a folder each inside it.

    Returns:
        The folder of each run, for `load_run`.

    Raises:
        StoredRunError: there is a run in a folder already, or it cannot be written.
    """
    top = Path(folder)
    if len(runs) == 1:
        paths = [top]
    else:
        paths = [top / f"{k:02d}-{_slug(run.spec.target)}" for k, run in enumerate(runs, start=1)]
    for run, path in zip(runs, paths, strict=True):
        run.save(path)
    return paths


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-.").lower()[:80]
