"""Recorded arrivals, read from a file: public traces of real services, and our own journals."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO, TypeAlias, TypeVar

import msgspec
from attrs import frozen

from llmperf_core.errors import UsageError
from llmperf_core.load import Replay
from llmperf_core.run.journal import read_journal
from llmperf_core.units import NS_PER_S, NS_PER_US, ns_from_ms, ns_from_s

T = TypeVar("T")
_JOURNAL = "timelines.jsonl"


@frozen
class _Arrival:
    at_ns: int
    input_tokens: int | None
    output_tokens: int | None


class _MooncakeLine(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int


_Row: TypeAlias = Mapping[str, str]


def read_trace(path: Path | str, *, speed: float = 1.0, limit: int | None = None) -> Replay:
    """Return the arrivals that a file holds, the first at 0. The format is found by looking.

    - Azure LLM inference traces, CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`.
    - Mooncake, JSON lines: `timestamp` in milliseconds, `input_length`, `output_length`.
    - BurstGPT, CSV: `Timestamp` in seconds, `Request tokens`, `Response tokens`.
    - Our own journals: `timelines.jsonl`, from due, or from sent where nothing was due.

    Arrivals are put in order of time. A length of 0, as of a request that failed, becomes 1: a
    request can ask for no less. Lengths that are not known of each request are left out.

    Source: https://github.com/Azure/AzurePublicDataset, https://github.com/kvcache-ai/Mooncake
    (FAST25-release/traces), https://github.com/HPMLL/BurstGPT.

    Args:
        path: the file.
        speed: 2 replays it in half the time.
        limit: take only so many of the first arrivals.

    Raises:
        UsageError: the file cannot be read, is in none of the formats, or holds no arrival.
        StoredRunError: a journal is damaged.
        ValueError: `speed` or `limit` is not positive.
    """
    if speed <= 0 or (limit is not None and limit < 1):
        raise ValueError(f"'speed' and 'limit' must be > 0: {speed}, {limit}")
    path = Path(path)
    arrivals = sorted(_arrivals(path), key=_when)[:limit]
    if not arrivals:
        raise UsageError(f"trace {str(path)!r} holds no arrival")
    zero_ns = arrivals[0].at_ns
    return Replay(
        tuple(round((arrival.at_ns - zero_ns) / speed) for arrival in arrivals),
        input_tokens=_lengths([arrival.input_tokens for arrival in arrivals]),
        output_tokens=_lengths([arrival.output_tokens for arrival in arrivals]),
    )


def _when(arrival: _Arrival) -> int:
    return arrival.at_ns


def _lengths(lengths: Sequence[int | None]) -> tuple[int, ...] | None:
    known = [max(1, length) for length in lengths if length is not None]
    return tuple(known) if len(known) == len(lengths) else None


def _arrivals(path: Path) -> Iterator[_Arrival]:
    if path.name == _JOURNAL:
        yield from _from_journal(path)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _from_file(path, file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"trace {str(path)!r} cannot be read: {error}") from error


def _from_file(path: Path, file: TextIO) -> Iterator[_Arrival]:
    head = file.readline()
    file.seek(0)
    if head.startswith("{"):
        yield from _understood(path, filter(str.strip, file), _from_mooncake)
        return
    columns = {name.strip() for name in head.split(",")}
    for needed, of in _TABLES:
        if needed <= columns:
            yield from _understood(path, csv.DictReader(file, skipinitialspace=True), of)
            return
    raise UsageError(
        f"trace {str(path)!r} is of no known format; its first line is {head.strip()[:80]!r}, but "
        "a trace of Azure, Mooncake or BurstGPT is needed, or the timelines.jsonl of a run"
    )


def _understood(path: Path, rows: Iterable[T], read: Callable[[T], _Arrival]) -> Iterator[_Arrival]:
    for number, row in enumerate(rows, start=1):
        try:
            yield read(row)
        except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as error:
            raise UsageError(f"trace {str(path)!r}, entry {number}: {error}") from error


def _from_azure(row: _Row) -> _Arrival:
    # Without a zone they are all in the same one: only differences count. Digits beyond the
    # microsecond are left out.
    stamp = datetime.fromisoformat(row["TIMESTAMP"])
    since = stamp - datetime(1970, 1, 1, tzinfo=stamp.tzinfo)
    return _Arrival(
        (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * NS_PER_US,
        int(row["ContextTokens"]),
        int(row["GeneratedTokens"]),
    )


def _from_burstgpt(row: _Row) -> _Arrival:
    at_ns = ns_from_s(float(row["Timestamp"]))
    return _Arrival(at_ns, int(row["Request tokens"]), int(row["Response tokens"]))


def _from_mooncake(line: str) -> _Arrival:
    stored = msgspec.json.decode(line, type=_MooncakeLine)
    return _Arrival(ns_from_ms(stored.timestamp), stored.input_length, stored.output_length)


def _from_journal(path: Path) -> Iterator[_Arrival]:
    for timeline in read_journal(path):
        if timeline.start_at_ns is not None:
            tokens = timeline.tokens
            yield _Arrival(timeline.start_at_ns, tokens.input, tokens.output)


_TABLES: tuple[tuple[set[str], Callable[[_Row], _Arrival]], ...] = (
    ({"TIMESTAMP", "ContextTokens", "GeneratedTokens"}, _from_azure),
    ({"Timestamp", "Request tokens", "Response tokens"}, _from_burstgpt),
)
