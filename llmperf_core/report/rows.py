"""The report as a table for other programs: a line for each stage."""

import csv
import io
from collections.abc import Iterator, Mapping

from llmperf_core.report.view import ReportView
from llmperf_core.show import stage_document
from llmperf_core.target import Json

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(view: ReportView) -> str:
    """Return the CSV. Its columns are the keys of the JSON document, joined by dots.

    A text that a spreadsheet would take for a formula begins with an apostrophe.

    Source: OWASP, "CSV Injection".
    """
    rows = [
        {
            "target": run.view.target,
            "simulated": run.view.simulated,
            **dict(_flat({**stage_document(stage.view), "telemetry": None, "time_split": None})),
        }
        for run, stage in view.stages
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def _flat(document: Mapping[str, Json], before: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in document.items():
        match value:
            case {"code": code}:
                yield f"{before}{name}", code
            case Mapping():
                yield from _flat(value, f"{before}{name}.")
            case [float() | int() | None as low, float() | int() | None as high]:
                yield from ((f"{before}{name}.low", low), (f"{before}{name}.high", high))
            case [*reasons] if name == "reasons":
                codes = [str(r["code"]) for r in reasons if isinstance(r, Mapping)]
                yield f"{before}{name}", " ".join(codes)
            case None | bool() | int() | float() | str():
                yield f"{before}{name}", value


def _cell(value: Json) -> Json:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
