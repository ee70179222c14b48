"""`vllm bench serve`: its result file, with the arrays of `--save-detailed` or without them.

Source: vllm, `vllm/benchmarks/serve.py` (what `main_async` saves and `benchmark` returns);
https://github.com/vllm-project/vllm.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

import msgspec

from llmperf_core.errors import ImportFileError
from llmperf_core.importers.files import (
    Count,
    Milliseconds,
    Seconds,
    UnixSeconds,
    decoded,
    read_bytes,
)
from llmperf_core.importers.runs import NO_DUE, NO_WIRE, About, Imported, in_order, run_of
from llmperf_core.judge import (
    E2E,
    ITL,
    TPOT,
    TTFT,
    Aggregate,
    Metric,
    MetricFigures,
    Source,
)
from llmperf_core.judge.intervals import PERCENTILES
from llmperf_core.load import Concurrency, Gamma, LoadProfile, Poisson
from llmperf_core.results import Run
from llmperf_core.timeline import Completed, Failed, Timeline, TokenCount
from llmperf_core.units import ns_from_ms, ns_from_s

FORMAT = "vllm-bench"
_CANNOT = (*NO_WIRE, NO_DUE, "connections", "its own warm-up")
_NOTES = (
    "each gap is between two chunks, which may hold several tokens",
    "instants are the program's",
)
_NO_REQUESTS = "any request (it was saved without --save-detailed)"
_METRICS: tuple[tuple[Metric, str], ...] = (
    (TTFT, "ttft"),
    (TPOT, "tpot"),
    (ITL, "itl"),
    (E2E, "e2el"),
)
"""Ours, and its name for them."""


class _Result(msgspec.Struct):
    """What is used of a result; the percentiles have names of their own and are read apart."""

    duration: Seconds
    completed: Count
    model_id: str
    num_prompts: Count
    request_rate: float | Literal["inf"]
    backend: str = "vllm"
    date: str = ""
    burstiness: float = 1.0
    max_concurrency: Count | None = None
    failed: Count | None = None
    total_input_tokens: Count | None = None
    total_output_tokens: Count | None = None
    request_throughput: float | None = None
    output_throughput: float | None = None
    start_times: list[UnixSeconds] | None = None
    ttfts: list[Seconds] | None = None
    itls: list[list[Seconds]] | None = None
    latencies: list[Seconds] | None = None
    input_lens: list[Count] | None = None
    output_lens: list[Count] | None = None
    errors: list[str] | None = None


def read(path: Path) -> Sequence[Run]:
    """Read a result file: one run, with a stage for each result that was appended to it.

    Raises:
        ImportFileError: it is not a result of `vllm bench serve`.
    """
    results = _results(path)
    first, detailed = results[0][0], all(result.ttfts is not None for result, _ in results)
    source = Source(
        format=FORMAT,
        tool="vllm bench serve",
        file=path.name,
        metrics=("ttft", "itl", "tpot", "e2e", "time_per_token"),
        cannot=_CANNOT if detailed else (*_CANNOT, _NO_REQUESTS),
        notes=_NOTES,
    )
    about = About(
        target=f"{first.backend}:{first.model_id}",
        source=source,
        endpoint={"protocol": first.backend, "stream": True, "model": first.model_id},
    )
    return [run_of([_stage(result, every, path) for result, every in results], about)]


def _results(path: Path) -> list[tuple[_Result, dict[str, object]]]:
    """Return each result, and all its fields. There is one, or a line for each that was appended.

    Raises:
        ImportFileError: one is damaged, or there is none.
    """
    content = read_bytes(path, FORMAT)
    pieces = content.splitlines() if b"\n{" in content else [content]
    found = [
        (decoded(piece, _Result, path, FORMAT), decoded(piece, dict[str, object], path, FORMAT))
        for piece in pieces
        if piece.strip()
    ]
    if not found:
        raise ImportFileError(path, FORMAT, "it is empty")
    return found


def _stage(result: _Result, every: dict[str, object], path: Path) -> Imported:
    timelines = [] if result.ttfts is None else in_order(_timelines(result, path))
    last_ns = max((timeline.ended_at_ns + 1 for timeline in timelines), default=0)
    return Imported(
        load=_load(result),
        duration_ns=max(ns_from_s(result.duration), last_ns),
        started_at=result.date,
        timelines=timelines,
        aggregate=_aggregate(result, every, path) if result.ttfts is None else None,
    )


def _load(result: _Result) -> LoadProfile:
    if result.request_rate == "inf":
        # Without a limit all are asked at once.
        return Concurrency(result.max_concurrency or max(result.num_prompts, 1))
    if result.burstiness == 1:
        return Poisson(result.request_rate)
    return Gamma(result.request_rate, result.burstiness)


def _timelines(result: _Result, path: Path) -> Iterator[Timeline]:
    starts, ttfts, itls = result.start_times or [], result.ttfts or [], result.itls or []
    inputs, outputs, count = result.input_lens or [], result.output_lens or [], len(ttfts)
    errors = result.errors or [""] * count
    if {len(starts), len(itls), len(inputs), len(outputs), len(errors)} != {count}:
        raise ImportFileError(path, FORMAT, "its arrays of requests are not of the same length")
    zero = min(starts, default=0.0)
    for k in range(count):
        sent_at_ns = ns_from_s(starts[k] - zero)
        after_ns = accumulate(map(ns_from_s, [ttfts[k], *itls[k]]))
        token_at_ns = [sent_at_ns + at_ns for at_ns in after_ns]
        lasted_ns = ns_from_s(result.latencies[k]) if result.latencies else 0
        yield Timeline(
            index=k,
            due_at_ns=None,
            sent_at_ns=sent_at_ns,
            token_at_ns=() if errors[k] else token_at_ns,
            ended_at_ns=max(token_at_ns[-1], sent_at_ns + lasted_ns),
            outcome=Failed("error", errors[k].strip()[-200:]) if errors[k] else Completed(),
            # The server's usage, or a tokenizer where it gives none: the file does not say which.
            tokens=TokenCount(output=outputs[k], input=inputs[k], counted_by="tokenizer"),
        )


def _aggregate(result: _Result, every: dict[str, object], path: Path) -> Aggregate:
    return Aggregate(
        completed=result.completed,
        failed=result.failed or 0,
        metrics=[
            figures
            for metric, name in _METRICS
            if (figures := _figures(metric, name, result, every, path)) is not None
        ],
        output_tokens=result.total_output_tokens,
        input_tokens=result.total_input_tokens,
        counted_by="tokenizer",
        output_tokens_per_s=result.output_throughput,
        requests_per_s=result.request_throughput,
    )


def _figures(
    metric: Metric, name: str, result: _Result, every: dict[str, object], path: Path
) -> MetricFigures | None:
    """Return what is said of one metric; None if nothing is.

    Raises:
        ImportFileError: one of its figures is no duration.
    """

    def figure(field: str) -> float | None:
        if (value := every.get(f"{field}_{name}_ms")) is None:
            return None
        try:
            return float(ns_from_ms(msgspec.convert(value, Milliseconds)))
        except msgspec.ValidationError as error:
            raise ImportFileError(path, FORMAT, f"{field}_{name}_ms: {error}") from error

    mean = figure("mean")
    if mean is None:
        return None
    known = {f"{p:g}": figure(f"p{p:g}") for p in PERCENTILES} | {"50": figure("median")}
    return MetricFigures(
        name=metric.name,
        description=metric.description,
        count=result.completed,
        mean=mean,
        percentiles={p: value for p, value in known.items() if value is not None},
    )
