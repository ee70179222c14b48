"""A study as a folder, from which any machine can go on.

    study.json                what is studied: the targets with their cells and prices
    journal.jsonl             what happened, a line an event, each on the disk before it goes on
    runs/NAME.1/              each bring-up of a target: an ordinary run's folder, whose stages
                              say which cells they are

That a cell is measured is said by its stage alone, so that no crash can come between the two. The
journal says what was spent, what failed, and who is at work.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
from attrs import Factory, field, frozen

from llmperf_core.bringup import Price
from llmperf_core.errors import StoredRunError
from llmperf_core.run.folder import json_file, write_file
from llmperf_core.target import Json

SCHEMA = "llmperf.study/1"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.@_-]+")
_LONGEST_NAME = 80


@frozen(kw_only=True)
class StoredCell:
    """A cell as a study's folder names it."""

    id: str
    load: Mapping[str, Any]
    repeat: int = 1


@frozen(kw_only=True)
class StoredTarget:
    """A target as a study's folder names it."""

    name: str
    labels: Mapping[str, str] = Factory(dict)
    price: Price | None = None
    cells: Sequence[StoredCell] = ()


@frozen(kw_only=True)
class StoredStudy:
    """What is studied."""

    targets: Sequence[StoredTarget]
    workload: Mapping[str, Any] = field(factory=dict)
    settings: Mapping[str, Any] = field(factory=dict)
    slo: Mapping[str, Any] | None = None


class _Event(msgspec.Struct):
    """A line of the journal; more fields may come."""

    event: str
    run: str = ""
    target: str = ""
    usd: float = 0.0
    detail: str = ""


class StudyFolder:
    """A study's folder, held by who runs the study. Nobody but its owner may look into it.

    Args:
        path: created if it does not exist.
        resume: go on with a study that is there already.

    Raises:
        StoredRunError: there is a study in it already and `resume` is not said, somebody is at
            work on it, or it cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        if (path / "study.json").exists() and not resume:
            raise StoredRunError(path, "there is a study in it already; resume it: --resume")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._journal = os.open(path / "journal.jsonl", flags, mode=0o600)
        except OSError as error:
            raise StoredRunError(path, f"cannot be written: {error.strerror}") from error
        try:
            self._hold()
            self._end_last_line()
        except BaseException:
            os.close(self._journal)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._journal)

    def begin(self, study: StoredStudy) -> None:
        """Write what is studied from now on; what is measured stays.

        Raises:
            StoredRunError: it cannot be written.
        """
        write_file(self.path / "study.json", study_file(study))

    def append(self, event: str, **fields: Json) -> None:
        """Write an event into the journal; it is on the disk when this returns.

        Raises:
            StoredRunError: it cannot be written.
        """
        line = {"event": event, "at": datetime.now(UTC).isoformat(timespec="seconds"), **fields}
        try:
            os.write(self._journal, msgspec.json.encode(line) + b"\n")
            os.fsync(self._journal)
        except OSError as error:
            path = self.path / "journal.jsonl"
            raise StoredRunError(path, f"cannot be written: {error.strerror}") from error

    def next_run(self, target: str) -> str:
        """Return the name of the folder for the next bring-up of a target, under `runs`."""
        name = _NOT_IN_A_NAME.sub("-", target).strip("-.")[:_LONGEST_NAME]
        taken = {run.name for run in (self.path / "runs").glob(f"{name}.*")}
        taken |= {event.run for event in read_journal(self.path)}
        number = 1
        while f"{name}.{number}" in taken:
            number += 1
        return f"{name}.{number}"

    def _hold(self) -> None:
        """Keep others out until the process ends, however it ends."""
        try:
            import fcntl
        except ImportError:  # Windows has none
            return
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoredRunError(self.path, "another process is running this study") from error
        except OSError:  # a file system that knows no locks
            return

    def _end_last_line(self) -> None:
        """End a line that a crash cut off, so that the next one is a line of its own."""
        with (self.path / "journal.jsonl").open("rb") as journal:
            if journal.seek(0, os.SEEK_END):
                journal.seek(-1, os.SEEK_END)
                if journal.read() != b"\n":
                    os.write(self._journal, b"\n")


def study_file(study: StoredStudy) -> bytes:
    """Return the content of `study.json`."""
    stored: Mapping[str, Any] = msgspec.to_builtins(study)
    return json_file({"schema": SCHEMA, **stored})


def is_study(path: Path | str) -> bool:
    """Return whether a folder is a study's."""
    return (Path(path) / "study.json").exists()


def stored_study(path: Path) -> StoredStudy:
    """Return what is studied in a folder.

    Raises:
        StoredRunError: it is no study's folder, of an unknown version, or damaged.
    """
    try:
        content = (path / "study.json").read_bytes()
        schema = msgspec.json.decode(content, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            reason = f"its schema is {schema!r}, this version reads {SCHEMA!r}"
            raise StoredRunError(path, reason)
        return msgspec.json.decode(content, type=StoredStudy)
    except FileNotFoundError as error:
        raise StoredRunError(path, "holds no study.json; is it a study's folder?") from error
    except OSError as error:
        raise StoredRunError(path, f"cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise StoredRunError(path / "study.json", f"is damaged: {error}") from error


def run_folders(path: Path) -> Sequence[Path]:
    """Return the folders of all bring-ups that were measured."""
    return sorted(run for run in (path / "runs").glob("*") if (run / "run.json").exists())


def done_cells(path: Path) -> set[str]:
    """Return the addresses of the cells that are measured to their end."""
    return {cell for run in run_folders(path) for cell in _done_in(run)}


def _done_in(run: Path) -> Iterator[str]:
    for file in run.glob("stages/*/stage.json"):
        with suppress(OSError, msgspec.MsgspecError):  # what is damaged is not done
            stage = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
            observation = stage.get("observation")
            if observation and not observation["interrupted"] and stage.get("cell"):
                yield stage["cell"]


def read_journal(path: Path) -> Sequence[_Event]:
    """Return the events of a study's journal, in order. A line that a crash cut off is left out."""
    events = []
    with suppress(FileNotFoundError):
        for line in (path / "journal.jsonl").read_bytes().splitlines():
            with suppress(msgspec.MsgspecError):
                events.append(msgspec.json.decode(line, type=_Event))
    return events


def spent_usd(path: Path) -> float:
    """Return what a study has cost. A bring-up of which no end is known cost its worst case."""
    costs: dict[str, float] = {}
    for event in read_journal(path):
        if event.event in ("begun", "gone"):
            costs[event.run] = event.usd
    return sum(costs.values())


def findings(path: Path) -> Mapping[str, str]:
    """Return what went wrong when targets were last brought up, by their names."""
    found: dict[str, str] = {}
    for event in read_journal(path):
        if event.event == "failed":
            found[event.target] = event.detail
        elif event.event == "begun":
            found.pop(event.target, None)
    return found
