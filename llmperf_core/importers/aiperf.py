"""aiperf: `profile_export.jsonl`, a line a request, and `profile_export_aiperf.json` beside it.

Source: aiperf 0.13.0, `aiperf/common/models/record_models.py` (`MetricRecordInfo`),
`aiperf/common/models/export_models.py` (`JsonExportData`), `aiperf/config/phases.py`,
`aiperf/transports/aiohttp_client.py` (what it says of a cancelled request);
https://github.com/ai-dynamo/aiperf.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import msgspec

from llmperf_core.errors import ImportFileError
from llmperf_core.importers.files import (
    Count,
    Milliseconds,
    UnixNanoseconds,
    decoded,
    lines,
    read_bytes,
)
from llmperf_core.importers.runs import NO_DUE, NO_WIRE, About, Imported, in_order, run_of
from llmperf_core.judge import Source
from llmperf_core.load import Concurrency, ConstantRate, Gamma, LoadProfile, Poisson
from llmperf_core.results import Run
from llmperf_core.timeline import (
    Cancelled,
    Censored,
    Completed,
    CountedBy,
    Failed,
    Outcome,
    Timeline,
    TokenCount,
)
from llmperf_core.units import ns_from_ms

FORMAT = "aiperf"
RECORDS, SUMMARY = "profile_export.jsonl", "profile_export_aiperf.json"
_CANNOT = (*NO_WIRE, NO_DUE, "connections")
_NOTES = (
    "each gap is between two chunks, which may hold several tokens",
    "instants are the program's",
)
_CANCELLED_BY_THE_END = "Request cancelled by external signal"


class _Metadata(msgspec.Struct):
    request_start_ns: UnixNanoseconds
    request_end_ns: UnixNanoseconds
    benchmark_phase: str
    was_cancelled: bool = False


class _Value(msgspec.Struct):
    value: Any
    """A number, or a list of them; of metrics that are not used here, anything."""


class _Error(msgspec.Struct):
    message: str = ""
    type: str | None = None
    code: int | None = None


class _Record(msgspec.Struct):
    """One line of the records."""

    metadata: _Metadata
    metrics: dict[str, _Value]
    error: _Error | None = None

    def one(self, name: str) -> float | None:
        """Return a metric that is one number."""
        found = self.metrics.get(name)
        return None if found is None else msgspec.convert(found.value, float)

    def count(self, name: str) -> int | None:
        """Return a metric that is a number of tokens."""
        found = self.one(name)
        return None if found is None else msgspec.convert(found, Count, strict=False)


class _Phase(msgspec.Struct):
    type: str
    kind: Literal["warmup", "profiling"] = "profiling"
    concurrency: Count | None = None
    rate: float | None = None
    smoothness: float | None = None


class _Named(msgspec.Struct):
    name: str


class _Models(msgspec.Struct):
    items: list[_Named] = []


class _Endpoint(msgspec.Struct):
    urls: list[str] = []
    type: str | None = None
    streaming: bool | None = None


class _Config(msgspec.Struct):
    phases: list[_Phase]
    endpoint: _Endpoint = msgspec.field(default_factory=_Endpoint)
    models: _Models = msgspec.field(default_factory=_Models)


class _Summary(msgspec.Struct):
    """What is used of the summary."""

    input_config: _Config
    aiperf_version: str = "of unknown version"
    start_time: str | None = None


def read(path: Path) -> Sequence[Run]:
    """Read the folder of a run, or the records in it; the summary lies beside them.

    Raises:
        ImportFileError: it is not aiperf's.
    """
    folder = path if path.is_dir() else path.parent
    beside = folder / SUMMARY
    summary = decoded(read_bytes(beside, FORMAT), _Summary, beside, FORMAT)
    records = [
        record
        for record in lines(folder / RECORDS, _Record, FORMAT)
        if record.metadata.benchmark_phase == "profiling"
    ]
    zero_ns = min((record.metadata.request_start_ns for record in records), default=0)
    timelines = in_order(_timeline(record, zero_ns) for record in records)
    config = summary.input_config
    stage = Imported(
        load=_load(config, beside),
        duration_ns=max((timeline.ended_at_ns + 1 for timeline in timelines), default=0),
        started_at=summary.start_time or "",
        timelines=timelines,
    )
    return [run_of([stage], _about(summary))]


def _about(summary: _Summary) -> About:
    config = summary.input_config
    source = Source(
        format=FORMAT,
        tool=f"aiperf {summary.aiperf_version}",
        file=RECORDS,
        metrics=("ttft", "itl", "tpot", "e2e", "time_per_token"),
        cannot=_CANNOT,
        notes=_NOTES,
    )
    model = config.models.items[0].name if config.models.items else None
    return About(
        target=config.endpoint.urls[0] if config.endpoint.urls else "aiperf",
        source=source,
        endpoint={
            "protocol": config.endpoint.type,
            "stream": config.endpoint.streaming,
            "model": model,
        },
    )


def _load(config: _Config, path: Path) -> LoadProfile:
    phase = next((phase for phase in config.phases if phase.kind == "profiling"), None)
    match phase:
        case _Phase(type="concurrency", concurrency=int(slots)):
            return Concurrency(slots)
        case _Phase(type="poisson", rate=float(rate_rps)):
            return Poisson(rate_rps)
        case _Phase(type="constant", rate=float(rate_rps)):
            return ConstantRate(rate_rps)
        case _Phase(type="gamma", rate=float(rate_rps), smoothness=shape):
            return Gamma(rate_rps, 1.0 if shape is None else shape)
    kind = "none" if phase is None else phase.type
    reason = f"its load is {kind!r}; concurrency, poisson, gamma and constant can be imported"
    raise ImportFileError(path, FORMAT, reason)


def _timeline(record: _Record, zero_ns: int) -> Timeline:
    metadata = record.metadata
    sent_at_ns = metadata.request_start_ns - zero_ns
    token_at_ns = _token_at_ns(record, sent_at_ns)
    usage = record.count("usage_completion_tokens")
    counted_by: CountedBy = "tokenizer" if usage is None else "usage"
    names = {
        "usage": ("usage_completion_tokens", "usage_prompt_tokens"),
        "tokenizer": ("output_sequence_length", "input_sequence_length"),
    }[counted_by]
    ended_at_ns = metadata.request_end_ns - zero_ns
    return Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=sent_at_ns,
        token_at_ns=token_at_ns,
        # The last chunk is known to the nanosecond by its own clock, the end by another.
        ended_at_ns=max(ended_at_ns, *token_at_ns, sent_at_ns),
        outcome=_outcome(record),
        tokens=TokenCount(
            output=record.count(names[0]) or 0,
            input=record.count(names[1]),
            cached=record.count("usage_prompt_cache_read_tokens"),
            counted_by=counted_by,
        ),
    )


def _token_at_ns(record: _Record, sent_at_ns: int) -> list[int]:
    first_ms = record.one("time_to_first_token")
    if first_ms is None:
        return []
    gaps = record.metrics.get("inter_chunk_latency")
    after_ms = [first_ms, *([] if gaps is None else msgspec.convert(gaps.value, list[float]))]
    after_ms = msgspec.convert(after_ms, list[Milliseconds])
    return [sent_at_ns + at_ns for at_ns in accumulate(map(ns_from_ms, after_ms))]


def _outcome(record: _Record) -> Outcome:
    error = record.error
    if record.metadata.was_cancelled:
        # The end of the run cancels what is in flight; all else is a user who went away.
        ended = error is not None and error.message == _CANCELLED_BY_THE_END
        return Censored() if ended else Cancelled("time")
    if error is None:
        return Completed()
    name = f"http_{error.code}" if error.code and 400 <= error.code < 600 else "error"
    return Failed(name, f"{error.type or ''} {error.message}".strip()[:200])
