"""guidellm: `benchmarks.json`, a benchmark for each load, each with its requests.

Source: guidellm 0.8.1, `guidellm/benchmark/schemas/` (`report.py`, `benchmark.py`, `base.py`,
`metrics.py`), `guidellm/schemas/base/` (`request_stats.py`, `info.py`, `request.py`),
`guidellm/scheduler/strategies.py`; https://github.com/vllm-project/guidellm.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from llmperf_core.errors import ImportFileError
from llmperf_core.importers.files import Count, UnixSeconds, decoded, read_bytes
from llmperf_core.importers.runs import NO_WIRE, About, Imported, in_order, run_of
from llmperf_core.judge import Source
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile, OpenLoop, Poisson
from llmperf_core.results import Run
from llmperf_core.timeline import Censored, Completed, Failed, Outcome, Timeline, TokenCount
from llmperf_core.units import ns_from_s

FORMAT = "guidellm"
_CANNOT = (*NO_WIRE, "the gaps between tokens", "connections")
_NOTES = ("instants are the program's and on the wall clock",)


class _Timings(msgspec.Struct):
    request_start: UnixSeconds | None = None
    request_end: UnixSeconds | None = None
    resolve_start: UnixSeconds | None = None
    resolve_end: UnixSeconds | None = None
    targeted_start: UnixSeconds | None = None
    first_token_iteration: UnixSeconds | None = None
    last_token_iteration: UnixSeconds | None = None


class _Info(msgspec.Struct):
    timings: _Timings
    error: str | None = None


class _Usage(msgspec.Struct):
    text_tokens: Count | None = None
    cached_tokens: Count | None = None


class _Request(msgspec.Struct):
    info: _Info
    input_metrics: _Usage = msgspec.field(default_factory=_Usage)
    output_metrics: _Usage = msgspec.field(default_factory=_Usage)


class _Requests(msgspec.Struct):
    successful: list[_Request] | None = None
    incomplete: list[_Request] | None = None
    errored: list[_Request] | None = None


class _Strategy(msgspec.Struct):
    type_: str
    streams: Count | None = None
    max_concurrency: Count | None = None
    rate: float | None = None


class _Config(msgspec.Struct):
    strategy: _Strategy
    backend: dict[str, Any] = {}


class _Made(msgspec.Struct):
    total: Count | None = None


class _SchedulerMetrics(msgspec.Struct):
    measure_start_time: UnixSeconds
    measure_end_time: UnixSeconds
    requests_made: _Made = msgspec.field(default_factory=_Made)


class _Benchmark(msgspec.Struct):
    config: _Config
    scheduler_metrics: _SchedulerMetrics
    requests: _Requests


class _Metadata(msgspec.Struct):
    version: int
    guidellm_version: str = "of unknown version"


class _Report(msgspec.Struct):
    metadata: _Metadata
    benchmarks: list[_Benchmark]


def read(path: Path) -> Sequence[Run]:
    """Read `benchmarks.json`: one run with a stage for each benchmark.

    Raises:
        ImportFileError: it is not guidellm's, or holds only a sample of the requests.
    """
    report = decoded(read_bytes(path, FORMAT), _Report, path, FORMAT)
    stages = [_stage(benchmark, path) for benchmark in report.benchmarks]
    backend = report.benchmarks[0].config.backend if report.benchmarks else {}
    target = backend.get("target")
    model = backend.get("model")
    source = Source(
        format=FORMAT,
        tool=f"guidellm {report.metadata.guidellm_version}",
        file=path.name,
        metrics=("ttft", "tpot", "e2e", "time_per_token", "lag", "service_ttft", "service_e2e"),
        cannot=_CANNOT,
        notes=_NOTES,
        has_due=True,
    )
    about = About(
        target=target if isinstance(target, str) else "guidellm",
        source=source,
        endpoint={"model": model if isinstance(model, str) else None},
    )
    return [run_of(stages, about)]


def _stage(benchmark: _Benchmark, path: Path) -> Imported:
    load = _load(benchmark.config.strategy, path)
    scheduler = benchmark.scheduler_metrics
    grouped = (
        (benchmark.requests.successful, Completed()),
        (benchmark.requests.incomplete, Censored()),
        (benchmark.requests.errored, None),
    )
    pairs = [(request, outcome) for requests, outcome in grouped for request in requests or ()]
    made = scheduler.requests_made.total
    if made is not None and len(pairs) < made:
        reason = (
            f"it holds {len(pairs)} of {made} requests, and nothing true can be said of a rate "
            "then; let guidellm keep them all"
        )
        raise ImportFileError(path, FORMAT, reason)
    zero = scheduler.measure_start_time
    is_open = isinstance(load, OpenLoop)
    return Imported(
        load=load,
        duration_ns=ns_from_s(scheduler.measure_end_time - zero),
        started_at=datetime.fromtimestamp(zero, UTC).isoformat(),
        timelines=in_order(
            _timeline(request, outcome, zero, is_open=is_open) for request, outcome in pairs
        ),
    )


def _load(strategy: _Strategy, path: Path) -> LoadProfile:
    match strategy:
        case _Strategy(type_="synchronous"):
            return Concurrency(1)
        case _Strategy(type_="concurrent", streams=int(slots)):
            return Concurrency(slots)
        case _Strategy(type_="throughput", max_concurrency=int(slots)):
            return Concurrency(slots)
        case _Strategy(type_="constant", rate=float(rate_rps)):
            return ConstantRate(rate_rps)
        case _Strategy(type_="poisson", rate=float(rate_rps)):
            return Poisson(rate_rps)
    reason = (
        f"its strategy is {strategy.type_!r}; synchronous, concurrent, constant, poisson and "
        "throughput with a maximum can be imported"
    )
    raise ImportFileError(path, FORMAT, reason)


def _timeline(
    request: _Request, outcome: Outcome | None, zero: float, *, is_open: bool
) -> Timeline:
    timings = request.info.timings
    sent_at_ns = _since(zero, timings.request_start, timings.resolve_start)
    ended_at_ns = _since(zero, timings.request_end, timings.resolve_end)
    if ended_at_ns is None:
        raise ValueError("a request has no end")
    first_at_ns = _since(zero, timings.first_token_iteration)
    last_at_ns = _since(zero, timings.last_token_iteration)
    token_at_ns = [at_ns for at_ns in (first_at_ns, last_at_ns) if at_ns is not None]
    tokens = request.output_metrics.text_tokens or 0
    return Timeline(
        index=0,
        due_at_ns=_since(zero, timings.targeted_start) if is_open else None,
        sent_at_ns=sent_at_ns,
        token_at_ns=token_at_ns[:1] if tokens == 1 else token_at_ns,
        ended_at_ns=ended_at_ns,
        outcome=outcome or Failed("error", (request.info.error or "")[:200]),
        tokens=TokenCount(
            output=tokens,
            input=request.input_metrics.text_tokens,
            cached=request.input_metrics.cached_tokens,
            counted_by="usage",
        ),
    )


def _since(zero: float, *candidates: float | None) -> int | None:
    """Return the first instant that is known, in nanoseconds after the window's opening."""
    known = next((at for at in candidates if at is not None), None)
    return None if known is None else ns_from_s(known - zero)
