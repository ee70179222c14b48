"""llmeter: the folder of a run, with `responses.jsonl` and what lies beside it.

Source: llmeter 0.2.0, `llmeter/endpoints/base.py` (`InvocationResponse`) and `llmeter/results.py`
(`Result.save`); https://github.com/awslabs/llmeter.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from llmperf_core.importers.files import Count, Seconds, decoded, lines, read_bytes
from llmperf_core.importers.runs import NO_DUE, NO_WIRE, About, Imported, in_order, run_of
from llmperf_core.judge import Source
from llmperf_core.load import Concurrency
from llmperf_core.results import Run
from llmperf_core.timeline import Completed, Failed, Timeline, TokenCount
from llmperf_core.units import ns_from_s

FORMAT = "llmeter"
_CANNOT = (*NO_WIRE, NO_DUE, "the gaps between tokens", "connections")
_NOTES = (
    "it keeps when a request was sent to the second, and rates are no better than that",
    "instants are the program's",
)


class _Response(msgspec.Struct):
    """One line of `responses.jsonl`."""

    response_text: str | None
    time_to_first_token: Seconds | None = None
    time_to_last_token: Seconds | None = None
    num_tokens_input: Count | None = None
    num_tokens_output: Count | None = None
    num_tokens_input_cached: Count | None = None
    error: str | None = None
    request_time: datetime | None = None


class _Summary(msgspec.Struct):
    """What is used of `summary.json`."""

    clients: Count
    total_test_time: Seconds | None = None
    model_id: str | None = None
    endpoint_name: str | None = None
    start_time: str | None = None


def read(path: Path) -> Sequence[Run]:
    """Read the folder of a run, or the `responses.jsonl` in it; `summary.json` lies beside it.

    Raises:
        ImportFileError: it is not llmeter's.
    """
    folder = path if path.is_dir() else path.parent
    beside = folder / "summary.json"
    summary = decoded(read_bytes(beside, FORMAT), _Summary, beside, FORMAT)
    responses = lines(folder / "responses.jsonl", _Response, FORMAT)
    timelines = _timelines(responses)
    last_ns = max((timeline.ended_at_ns + 1 for timeline in timelines), default=0)
    stage = Imported(
        load=Concurrency(max(summary.clients, 1)),
        duration_ns=max(ns_from_s(summary.total_test_time or 0), last_ns),
        started_at=summary.start_time or "",
        timelines=timelines,
    )
    source = Source(
        format=FORMAT,
        tool="llmeter",
        file="responses.jsonl",
        metrics=("ttft", "tpot", "e2e", "time_per_token"),
        cannot=_CANNOT,
        notes=_NOTES,
    )
    streamed = any(response.time_to_first_token is not None for response in responses)
    about = About(
        target=summary.endpoint_name or summary.model_id or "llmeter",
        source=source,
        endpoint={"model": summary.model_id, "stream": streamed},
    )
    return [run_of([stage], about)]


def _timelines(responses: Sequence[_Response]) -> list[Timeline]:
    known = [r.request_time.timestamp() for r in responses if r.request_time is not None]
    zero = min(known, default=0.0)
    return in_order(_timeline(response, zero) for response in responses)


def _timeline(response: _Response, zero: float) -> Timeline:
    sent_at = response.request_time.timestamp() - zero if response.request_time else 0.0
    sent_at_ns = ns_from_s(sent_at)
    first, last = response.time_to_first_token, response.time_to_last_token
    known = [sent_at_ns + ns_from_s(after) for after in (first, last) if after is not None]
    failed = response.error is not None or last is None
    return Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=sent_at_ns,
        token_at_ns=known if first is not None and not failed else (),
        ended_at_ns=known[-1] if known else sent_at_ns,
        outcome=Failed("error", (response.error or "no answer")[:200]) if failed else Completed(),
        tokens=TokenCount(
            output=response.num_tokens_output or 0,
            input=response.num_tokens_input,
            cached=response.num_tokens_input_cached,
            # The server's usage, or a tokenizer where it gives none: the file does not say which.
            counted_by="tokenizer",
        ),
    )
