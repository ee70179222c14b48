"""A run as a folder of files, readable after a crash at any instant.

    run.json                          what was run, and with what
    stages/01-concurrency-5/
        stage.json                    the load, and what the harness saw of itself
        timelines.jsonl               one line a request, written as each ends
        summary.json                  what the lines come to, and what that is worth
        histograms.hlog               every metric as an HdrHistogram, for any tool that reads them
        aggregate.json                instead of requests, where only figures were imported
        telemetry.jsonl               what was read of the server and its machine, if anything was

`stage.json`, `timelines.jsonl` and `telemetry.jsonl` are the measurement; the other two can be made
of them again.
Every file but the journal is written whole or not at all.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from attrs import asdict, evolve, field, frozen

from llmperf_core.errors import StoredRunError
from llmperf_core.judge import Aggregate, Slo, Source
from llmperf_core.load import LoadProfile, load_of, record_of
from llmperf_core.run.journal import Journal, StoredTimelines, read_journal
from llmperf_core.run.readings import FILE, read_telemetry, telemetry_file
from llmperf_core.run.settings import Settings
from llmperf_core.target import Json
from llmperf_core.telemetry import Telemetry
from llmperf_core.timeline import Observation, Timeline, Window
from llmperf_core.units import ns_from_s

SCHEMA = "llmperf.run/1"
_IN_MEMORY_BYTES = 1 << 27
"""Of a journal; as timelines, its requests take about twice as much memory."""
_MEASUREMENT = ("stage.json", "timelines.jsonl")


@frozen(kw_only=True)
class RunSpec:
    """What was run, and with what: enough to do it again."""

    target: str
    simulated: bool = False
    endpoint: Mapping[str, Json] = field(factory=dict)
    """The protocol, the model, and what the server said of itself."""
    workload: Mapping[str, Json] = field(factory=dict)
    settings: Settings = field(factory=Settings)
    seed: int = 0
    slo: Slo | None = None
    environment: Mapping[str, Json] = field(factory=dict)
    source: Source | None = None
    """Which other tool measured it; None if llmperf did."""


class _StoredRun(msgspec.Struct):
    """`run.json`, whose fields are those of `RunSpec`; more may come under the same schema."""

    target: str
    settings: Settings
    simulated: bool = False
    endpoint: dict[str, Any] = {}
    workload: dict[str, Any] = {}
    seed: int = 0
    slo: Slo | None = None
    environment: dict[str, Any] = {}
    source: Source | None = None


@frozen(kw_only=True)
class StoredStage:
    """A stage as it lies in a folder."""

    load: LoadProfile
    timelines: Sequence[Timeline]
    """Of a long journal, each is read when it is wanted."""
    observation: Observation
    aggregate: Aggregate | None = None
    """What is known of it where no request is."""
    telemetry: Telemetry | None = None
    cell: str | None = None
    """The address of the cell of a study that it is; None if it is none's."""


class RunFolder:
    """A run's folder. Nobody but its owner may look into it: it can hold what a server said.

    Args:
        path: created if it does not exist.
        spec: is written at once.

    Raises:
        StoredRunError: there is a run in it already, or it cannot be written.
    """

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path = path
        if (path / "run.json").exists():
            raise StoredRunError(path, "there is a run in it already; name another folder")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoredRunError(path, f"cannot be made: {error.strerror}") from error
        stored = asdict(evolve(spec, settings=evolve(spec.settings, folder=None)))
        write_file(path / "run.json", json_file({"schema": SCHEMA, **stored}))
        self._stages = 0

    def new_stage(self, load: LoadProfile, *, cell: str | None = None) -> "StageFolder":
        """Make the folder of the next stage.

        Args:
            load: that it is measured under.
            cell: the address of the cell of a study that it is.
        """
        self._stages += 1
        name = f"{self._stages:02d}-{load.kind}-{load.value:g}"
        return StageFolder(self.path / "stages" / name, load, cell)


class StageFolder:
    """A stage's folder.

    Raises:
        StoredRunError: it cannot be written.
    """

    def __init__(self, path: Path, load: LoadProfile, cell: str | None = None) -> None:
        self.path: Path = path
        self.cell: str | None = cell
        try:
            path.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise StoredRunError(path, f"cannot be made: {error.strerror}") from error
        self._what = {"load": record_of(load), **({} if cell is None else {"cell": cell})}
        write_file(path / "stage.json", json_file({**self._what, "observation": None}))

    def journal(self) -> Journal:
        """Open the journal, to be written while the stage goes on."""
        return Journal(self.path / "timelines.jsonl")

    def finish(self, observation: Observation, telemetry: Telemetry | None = None) -> None:
        """Write the rest of the measurement when the stage has ended.

        Args:
            observation: what the harness saw of itself. Once it is written, the stage is complete.
            telemetry: what was read meanwhile.
        """
        if telemetry is not None:
            write_file(self.path / FILE, telemetry_file(telemetry))
        stage = {**self._what, "observation": asdict(observation)}
        write_file(self.path / "stage.json", json_file(stage))

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Write what was made of the measurement, by file name."""
        for name, content in files.items():
            write_file(self.path / name, content)


def read_run(path: Path) -> tuple[RunSpec, list[StoredStage]]:
    """Read a folder back. A stage that a crash cut off comes out as an interrupted one.

    Raises:
        StoredRunError: it is no run's folder, of an unknown version, or damaged.
    """
    stored = _read(path / "run.json")
    if stored.get("schema") != SCHEMA:
        raise StoredRunError(
            path, f"its schema is {stored.get('schema')!r}, this version reads {SCHEMA!r}"
        )
    try:
        spec = RunSpec(**msgspec.structs.asdict(msgspec.convert(stored, _StoredRun)))
    except msgspec.ValidationError as error:
        raise StoredRunError(path / "run.json", f"is damaged: {error}") from error
    return spec, [_read_stage(stage, spec) for stage in stage_folders(path)]


def stage_folders(path: Path) -> list[Path]:
    """Return a run's folders of stages, those too that a crash cut off, in the order of running."""
    begun = [stage for name in _MEASUREMENT for stage in path.glob(f"stages/*/{name}")]
    # By length first: the hundredth comes after the eleventh.
    return sorted(
        {file.parent for file in begun},
        key=lambda stage: (len(stage.name.partition("-")[0]), stage.name),
    )


def _read_stage(path: Path, spec: RunSpec) -> StoredStage:
    stored = _read(path / "stage.json")
    try:
        load = load_of(stored["load"])
        seen = stored["observation"]
        observation = None if seen is None else msgspec.convert(seen, Observation)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise StoredRunError(path / "stage.json", f"is damaged: {error!r}") from error
    journal = path / "timelines.jsonl"
    timelines = _timelines(journal) if journal.exists() else []
    return StoredStage(
        load=load,
        timelines=timelines,
        aggregate=_read_aggregate(path / "aggregate.json"),
        observation=observation or _observation_after_crash(timelines, spec.settings),
        telemetry=read_telemetry(path),
        cell=stored.get("cell"),
    )


def _read_aggregate(path: Path) -> Aggregate | None:
    if not path.exists():
        return None
    try:
        return msgspec.convert(_read(path), Aggregate)
    except msgspec.ValidationError as error:
        raise StoredRunError(path, f"is damaged: {error}") from error


def _timelines(journal: Path) -> Sequence[Timeline]:
    if journal.stat().st_size > _IN_MEMORY_BYTES:
        return StoredTimelines(journal)
    return list(read_journal(journal))


def _observation_after_crash(timelines: Sequence[Timeline], settings: Settings) -> Observation:
    """Return what can be said of a stage whose process died: its window ends with its journal."""
    last_ns = max((timeline.ended_at_ns + 1 for timeline in timelines), default=0)
    open_at_ns = ns_from_s(settings.warmup_s)
    planned_ns = open_at_ns + ns_from_s(settings.duration_s or 0)
    close_at_ns = min(last_ns, planned_ns) if settings.duration_s is not None else last_ns
    return Observation(
        window=Window(open_at_ns=min(open_at_ns, close_at_ns), close_at_ns=close_at_ns),
        ended_at_ns=last_ns,
        started_at="",
        client_cpu_ns=0,
        interrupted=True,
    )


def json_file(value: object) -> bytes:
    """Return the content of a JSON file, for people to read too."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError as error:
        raise StoredRunError(path.parent, f"holds no {path.name}; is it a run's folder?") from error
    except OSError as error:
        raise StoredRunError(path, f"cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise StoredRunError(path, f"is damaged: {error}") from error
    return stored


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoredRunError(path, f"cannot be written: {error.strerror}") from error
