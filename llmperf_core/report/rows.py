"""The report as a table for other programs: a line for each stage."""

import csv
import io

from llmperf_core.report.view import ReportView
from llmperf_core.show.frames import summary_row
from llmperf_core.target import Json

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(view: ReportView) -> str:
    """Return the CSV. Its columns are the keys of the JSON document, joined by dots.

    A text that a spreadsheet would take for a formula begins with an apostrophe.

    Source: OWASP, "CSV Injection".
    """
    rows = [
        summary_row(run.view, number) for run in view.runs for number in range(len(run.view.stages))
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def _cell(value: Json) -> Json:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
