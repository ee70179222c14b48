"""Timelines as lines of JSON: the append-only journal of a stage, and what workers send home.

One line a request. A process that dies leaves whole lines and at most one half, which reading
leaves out.
"""

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias, overload

import msgspec
from attrs import asdict

from llmperf_core.errors import StoredRunError
from llmperf_core.timeline import (
    Cancelled,
    CancelledAfter,
    Censored,
    Completed,
    Connection,
    CountedBy,
    Failed,
    Outcome,
    Stamps,
    Timeline,
    TokenCount,
)

# What an array of instants holds.
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


_Status: TypeAlias = Literal["completed", "failed", "censored", "cancelled"]


class _Tokens(msgspec.Struct):
    output: _Int64
    input: _Int64 | None
    cached: _Int64 | None
    counted_by: CountedBy


class _Connection(msgspec.Struct):
    fresh: bool
    connect_ns: _Int64
    tls_ns: _Int64
    reopened: int


class _Line(msgspec.Struct):
    """A timeline as it is stored; the names are those of `Timeline`."""

    index: int
    status: _Status
    due_at_ns: _Int64 | None
    sent_at_ns: _Int64 | None
    ended_at_ns: _Int64
    tokens: _Tokens
    asked_tokens: _Int64 | None
    connection: _Connection
    stamps: Stamps
    finish_reason: str | None = None
    error: str = ""
    detail: str = ""
    cancelled_after: CancelledAfter = "time"
    server_ns: Mapping[str, _Int64] = {}
    token_at_ns: list[_Int64] = []
    read_lag_ns: list[_Int64] = []


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(_Line)


def line_of(timeline: Timeline) -> bytes:
    """Return the timeline as one line of JSON, its end included."""
    outcome = timeline.outcome
    line = _Line(
        index=timeline.index,
        status=_status(outcome),
        finish_reason=outcome.finish_reason if isinstance(outcome, Completed) else None,
        error=outcome.error if isinstance(outcome, Failed) else "",
        detail=outcome.detail if isinstance(outcome, Failed) else "",
        cancelled_after=outcome.after if isinstance(outcome, Cancelled) else "time",
        due_at_ns=timeline.due_at_ns,
        sent_at_ns=timeline.sent_at_ns,
        ended_at_ns=timeline.ended_at_ns,
        tokens=_Tokens(**asdict(timeline.tokens)),
        asked_tokens=timeline.asked_tokens,
        connection=_Connection(**asdict(timeline.connection)),
        stamps=timeline.stamps,
        server_ns=timeline.server_ns,
        token_at_ns=timeline.token_at_ns.tolist(),
        read_lag_ns=timeline.read_lag_ns.tolist(),
    )
    return _ENCODER.encode(line) + b"\n"


def timeline_of(line: bytes) -> Timeline:
    """Return the timeline that a line holds.

    Raises:
        msgspec.DecodeError: it holds none.
        UnicodeDecodeError: it is not even text.
    """
    stored = _DECODER.decode(line)
    return Timeline(
        index=stored.index,
        due_at_ns=stored.due_at_ns,
        sent_at_ns=stored.sent_at_ns,
        token_at_ns=stored.token_at_ns,
        read_lag_ns=stored.read_lag_ns,
        ended_at_ns=stored.ended_at_ns,
        outcome=_outcome(stored),
        tokens=TokenCount(**msgspec.structs.asdict(stored.tokens)),
        asked_tokens=stored.asked_tokens,
        connection=Connection(**msgspec.structs.asdict(stored.connection)),
        server_ns=stored.server_ns,
        stamps=stored.stamps,
    )


def _status(outcome: Outcome) -> _Status:
    match outcome:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case Censored():
            return "censored"
        case Cancelled():
            return "cancelled"


def _outcome(stored: _Line) -> Outcome:
    match stored.status:
        case "completed":
            return Completed(stored.finish_reason)
        case "failed":
            return Failed(stored.error, stored.detail)
        case "censored":
            return Censored()
        case "cancelled":
            return Cancelled(stored.cancelled_after)


class Journal:
    """The append-only file of a stage's timelines.

    Raises:
        StoredRunError: the file cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # For the owner alone, whatever folder it is in: servers quote what they were asked.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode=0o600)
            # Unbuffered: a line is with the kernel before the next request ends.
            self._file = os.fdopen(descriptor, "ab", buffering=0)
        except OSError as error:
            raise StoredRunError(path, f"cannot be written: {error.strerror}") from error

    def append(self, timeline: Timeline) -> None:
        """Write a timeline.

        Raises:
            StoredRunError: the disk took only a part of it.
        """
        line = line_of(timeline)
        try:
            written = self._file.write(line)
        except OSError as error:
            raise StoredRunError(self._path, f"cannot be written: {error.strerror}") from error
        if written != len(line):
            raise StoredRunError(self._path, "the disk is full")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever says after this that the stage is complete relies on its being on the disk.
        with suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()


class StoredTimelines(Sequence[Timeline]):
    """The timelines of a journal, in the order in which they ended, each read when it is wanted.

    Not more than a few of them are in memory at once, so `summarize` takes a journal of any length.

    Raises:
        StoredRunError: the file cannot be read; or, when it is gone through, a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Where each line starts, and where the last whole one ends: 8 bytes a request.
        self._edges = array("q", [0])
        try:
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        self._edges.append(self._edges[-1] + len(line))
        except OSError as error:
            raise StoredRunError(path, f"cannot be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[Timeline]:
        return read_journal(self._path)

    def __len__(self) -> int:
        return len(self._edges) - 1

    @overload
    def __getitem__(self, index: int) -> Timeline: ...
    @overload
    def __getitem__(self, index: slice) -> list[Timeline]: ...
    def __getitem__(self, index: int | slice) -> Timeline | list[Timeline]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        start, stop = self._edges[number : number + 2]
        with self._path.open("rb") as file:
            file.seek(start)
            return timeline_of(file.read(stop - start))


def read_journal(path: Path) -> Iterator[Timeline]:
    """Yield the timelines of a journal in the order in which the requests ended.

    A last line that was cut off by a crash is left out.

    Raises:
        StoredRunError: the file cannot be read, or a line inside it is damaged.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield timeline_of(line)
                except (UnicodeDecodeError, msgspec.DecodeError) as error:
                    raise StoredRunError(path, f"line {number} is damaged: {error}") from error
    except OSError as error:
        raise StoredRunError(path, f"cannot be read: {error.strerror}") from error
