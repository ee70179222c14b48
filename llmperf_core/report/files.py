"""The files of a report."""

import os
from collections.abc import Sequence
from pathlib import Path

from llmperf_core.comparison import Comparison
from llmperf_core.errors import StoredRunError
from llmperf_core.recommendation import Recommendation
from llmperf_core.report.junit import junit
from llmperf_core.report.markdown import markdown
from llmperf_core.report.page import page
from llmperf_core.report.rows import csv_text
from llmperf_core.report.view import report_view
from llmperf_core.results import Run

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""Where GitHub's runner says which file the summary of a step is appended to."""


def write_report(
    runs: Run | Sequence[Run],
    folder: Path | str,
    *,
    comparison: Comparison | None = None,
    recommendation: Recommendation | None = None,
    html: Path | str | None = None,
    junit_file: Path | str | None = None,
) -> Path:
    """Write `report.md`, `summary.csv` and `report.html` of some runs.

    Under GitHub Actions the Markdown is appended to the summary of the step, too.

    Args:
        runs: one run or several.
        folder: where to; it is made if there is none.
        comparison: what to say of the runs against a baseline.
        recommendation: what to say of which target to deploy.
        html: another name for the page than `report.html` in the folder.
        junit_file: where to write JUnit XML; None writes none.

    Returns:
        The page.

    Raises:
        MissingExtraError: the extra `plots` is not installed; the other files are written.
        StoredRunError: a file cannot be written.
    """
    place = Path(folder)
    view = report_view([runs] if isinstance(runs, Run) else runs, comparison, recommendation)
    words = markdown(view)
    _write(place / "report.md", words.encode())
    _write(place / "summary.csv", csv_text(view).encode())
    if junit_file is not None:
        _write(Path(junit_file), junit(view))
    if summary := os.environ.get(SUMMARY_VARIABLE):
        _write(Path(summary), words.encode(), append=True)
    target = place / "report.html" if html is None else Path(html)
    _write(target, page(view).encode())
    return target


def _write(path: Path, content: bytes, *, append: bool = False) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if append else "wb") as file:
            file.write(content)
    except OSError as error:
        raise StoredRunError(path, f"cannot be written: {error.strerror}") from error
