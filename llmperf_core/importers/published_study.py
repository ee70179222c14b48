"""The published Llama 2 study: its CSV of 60 rows, and the JSON file of each row.

Only figures are left of it. Its times are TGI's own, read from the server's log: they leave out
the network, the gateway and the client. Its `Thorughput` is no measurement: in every row it is
50 × virtual users ÷ mean total time, so it is not imported. What is counted is the requests, over
k6's 90 s; answers that ended in the 30 s of grace after that are among them.

Source: https://github.com/philschmid/text-generation-inference-tests, `results/sagemaker/` and
`sagemaker_llm_container/benchmark.py`.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from llmperf_core.errors import ImportFileError
from llmperf_core.importers.files import Count, Milliseconds, decoded, read_bytes
from llmperf_core.importers.runs import NO_WIRE, About, Imported, run_of
from llmperf_core.judge import TIME_PER_TOKEN, Aggregate, MetricFigures, Source
from llmperf_core.load import Concurrency
from llmperf_core.results import Run
from llmperf_core.units import ns_from_ms, ns_from_s

FORMAT = "published-study"
DURATION_S = 90
"""How long k6 kept the virtual users asking."""
_CANNOT = (
    *NO_WIRE,
    "what a client saw",
    "TTFT",
    "the gaps between tokens",
    "failed requests",
    "how many tokens came",
)
_NOTES = (
    "its times are the server's own",
    "requests per second are its number of requests ÷ 90 s, with those of up to 30 s of grace",
    "its tokens/s are left out: they are 50 × virtual users ÷ mean total time, a formula",
)
_TIMES = (
    (TIME_PER_TOKEN.name, "Latency (ms/token)", TIME_PER_TOKEN.description),
    ("server_total", "Latency Request ms", "validation, queue and inference, as the server saw it"),
    ("server_inference", "Latency Infernece ms", "inference, as the server saw it"),
    ("server_queue", "Queue time ms", "waiting in the server's queue, as it saw it"),
)
"""Our name, the study's (with its spelling), and what it is."""
_STATISTICS = ("avg", "min", "med", "max", "p(90)", "p(95)")


class _Row(msgspec.Struct):
    host: str = msgspec.field(name="Host")
    model: str = msgspec.field(name="Model Id")
    instance: str = msgspec.field(name="Instance")
    tensor_parallel: Count = msgspec.field(name="Tensor parallelism degree")
    quantization: str = msgspec.field(name="quantization")
    requests: Count = msgspec.field(name="Number of requests")
    users: Count = msgspec.field(name="Virtual Users")

    @property
    def target(self) -> str:
        quantized = "" if self.quantization in {"none", ""} else f" {self.quantization}"
        return f"{self.model}@{self.instance}{quantized}"


_Times: TypeAlias = dict[str, Milliseconds]
"""The times of a row, by their columns."""


def read(path: Path) -> Sequence[Run]:
    """Read the CSV, one of the JSON files, or a folder of them: a run for each deployment.

    Raises:
        ImportFileError: it is not the study's.
    """
    deployments: dict[str, list[tuple[_Row, _Times]]] = {}
    for content in _rows(path):
        row, times = _checked(content, path)
        deployments.setdefault(row.target, []).append((row, times))
    return [_run(rows, path) for rows in deployments.values()]


def _rows(path: Path) -> Iterator[dict[str, object]]:
    if path.is_dir():
        for file in sorted(path.glob("*.json")):
            yield decoded(read_bytes(file, FORMAT), dict[str, object], file, FORMAT)
    elif path.suffix == ".json":
        yield decoded(read_bytes(path, FORMAT), dict[str, object], path, FORMAT)
    else:
        try:
            text = read_bytes(path, FORMAT).decode("utf-8-sig")
            yield from (dict(row) for row in csv.DictReader(io.StringIO(text), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ImportFileError(path, FORMAT, f"it is no CSV file: {error}") from error


def _checked(content: dict[str, object], path: Path) -> tuple[_Row, _Times]:
    names = [f"{field} {statistic}" for _, field, _ in _TIMES for statistic in _STATISTICS]
    if missing := [name for name in names if content.get(name) is None]:
        raise ImportFileError(path, FORMAT, f"it has no {missing[0]!r}")
    try:
        # Numbers are text in a CSV file.
        row = msgspec.convert(content, _Row, strict=False)
        times = msgspec.convert({name: content[name] for name in names}, _Times, strict=False)
    except msgspec.ValidationError as error:
        raise ImportFileError(path, FORMAT, str(error)) from error
    return row, times


def _run(rows: Sequence[tuple[_Row, _Times]], path: Path) -> Run:
    first = rows[0][0]
    about = About(
        target=first.target,
        source=Source(
            format=FORMAT,
            tool="the published Llama 2 study (TGI 1.0.3, k6)",
            file=path.name,
            metrics=(),
            cannot=_CANNOT,
            notes=_NOTES,
        ),
        endpoint={
            "protocol": "tgi",
            "stream": False,
            "model": first.model,
            "server": {
                "host": first.host,
                "instance": first.instance,
                "tensor_parallel": first.tensor_parallel,
                "quantization": first.quantization,
            },
        },
    )
    ordered = sorted(rows, key=lambda pair: pair[0].users)
    return run_of([_stage(row, times) for row, times in ordered], about)


def _stage(row: _Row, times: _Times) -> Imported:
    aggregate = Aggregate(
        completed=row.requests,
        failed=0,
        metrics=[_figures(row.requests, times, name, field, what) for name, field, what in _TIMES],
        requests_per_s=row.requests / DURATION_S,
    )
    return Imported(
        load=Concurrency(row.users), duration_ns=ns_from_s(DURATION_S), aggregate=aggregate
    )


def _figures(count: int, times: _Times, name: str, field: str, what: str) -> MetricFigures:
    found = {s: float(ns_from_ms(times[f"{field} {s}"])) for s in _STATISTICS}
    return MetricFigures(
        name=name,
        description=what,
        count=count,
        mean=found["avg"],
        min=found["min"],
        max=found["max"],
        percentiles={"50": found["med"], "90": found["p(90)"], "95": found["p(95)"]},
    )
