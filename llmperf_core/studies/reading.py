"""Studies as files: TOML, or YAML. They say what the Python API says, by the same names.

A file is read and never run: it names kinds that are listed here, and files with data.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec
from attrs import evolve, fields

from llmperf_core.bringup import Price
from llmperf_core.errors import MissingExtraError, StudyFileError
from llmperf_core.judge import Precision, Slo
from llmperf_core.load import LoadProfile
from llmperf_core.load.stored import LOADS
from llmperf_core.run import Deadlines, Settings
from llmperf_core.studies.entry import StudyTarget
from llmperf_core.studies.matrix import Combination, Matrix, filled, fits
from llmperf_core.studies.parts import Place, Reader, made
from llmperf_core.studies.study import Study
from llmperf_core.target import Json, Options
from llmperf_core.traces import read_trace
from llmperf_core.workload import (
    Cancelling,
    Conversations,
    Empirical,
    Fixed,
    InOrder,
    Length,
    LogNormal,
    Normal,
    Synthetic,
    Uniform,
    Workload,
    length_of,
    read_dataset,
    workload_of,
)

_LARGEST_BYTES = 1 << 24
_KEYS = ("targets", "matrix", "loads", "workload", "repeats", "slo", "settings")
_OPTIONS = tuple(field.name for field in fields(Options))
_PRICE = ("price_usd_per_h", "price_as_of", "price_source")
_TARGET = ("url", "called", *_OPTIONS, *_PRICE, "labels")
_NOT_IN_A_FILE = ("folder", "calibration")

_LENGTHS: Mapping[str, type] = {
    "uniform": Uniform,
    "normal": Normal,
    "lognormal": LogNormal,
    "empirical": Empirical,
    "in_order": InOrder,
}
_WORKLOADS: Mapping[str, type] = {
    "fixed": Fixed,
    "synthetic": Synthetic,
    "conversations": Conversations,
    "cancelling": Cancelling,
}


def read_study(path: Path | str) -> Study:
    """Return the study that a file says, as `docs/studies.md` has it.

    Args:
        path: `.toml`, `.yaml` or `.yml`. Files that it names are looked for beside it.

    Raises:
        StudyFileError: it cannot be read, or does not say a study; the message says where.
        MissingExtraError: it is YAML, and the extra `yaml` is not installed.
    """
    path = Path(path)
    place = Place(path, "", _content(path))
    found = place.table(_KEYS)
    targets = [_target(at) for at in _listed(found, "targets")]
    for at in _listed(found, "matrix"):
        targets += _of_matrix(at)
    if not targets:
        raise place.wrong("there is no target; say [[targets]] or [matrix]")
    if "loads" not in found:
        raise place.wrong("there is no load; say [[loads]]")
    others: dict[str, Any] = {}
    readers: Mapping[str, Reader] = {
        "workload": _workload,
        "repeats": lambda at: at.as_a(int),
        "slo": lambda at: made(Slo, at),
        "settings": _settings,
    }
    for name, reader in readers.items():
        if name in found:
            others[name] = reader(found[name])
    loads = [load for at in found["loads"].items() for load in _loads(at)]
    return place.checked(lambda: Study(targets=targets, loads=loads, **others))


def _content(path: Path) -> Mapping[str, object]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise StudyFileError(path, "", "it is larger than 16 MiB, which no study is")
        text = path.read_bytes().decode()
    except OSError as error:
        raise StudyFileError(path, "", f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StudyFileError(path, "", f"it is not UTF-8: {error.reason}") from error
    if path.suffix in {".yaml", ".yml"}:
        return _yaml(path, text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyFileError(path, "", f"it is no TOML: {error}") from error


def _yaml(path: Path, text: str) -> Mapping[str, object]:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("yaml", "yaml") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyFileError(path, "", f"it is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StudyFileError(path, "", "it is no table of keys")
    return content


def _listed(found: Mapping[str, Place], key: str) -> Sequence[Place]:
    """Return the tables under a key: a list of them, or the only one."""
    if key not in found:
        return []
    at = found[key]
    return [at] if isinstance(at.value, Mapping | str) else at.items()


def _target(place: Place, labels: Combination | None = None) -> StudyTarget:
    """Return a target: a URL, or a table of it with its options, price and labels."""
    if isinstance(place.value, str):
        place = evolve(place, value={"url": place.value})
    found = place.table(_TARGET)
    if "url" not in found:
        raise place.wrong("there is no 'url'")
    options = {name: found[name].value for name in _OPTIONS if name in found}
    own_labels = found["labels"].as_a(dict[str, str]) if "labels" in found else {}
    url, price = found["url"].as_a(str), _price(place, found)
    called = found["called"].as_a(str) if "called" in found else None
    said = made(Options, evolve(place, value=options), {"body": _json})
    return place.checked(
        lambda: StudyTarget(
            url, said, price=price, labels={**(labels or {}), **own_labels}, called=called
        )
    )


def _price(place: Place, found: Mapping[str, Place]) -> Price | None:
    given = [name for name in _PRICE if name in found]
    if not given:
        return None
    if missing := [name for name in _PRICE if name not in found]:
        raise place.wrong(f"a price needs {', '.join(_PRICE)}; there is no {missing[0]!r}")
    as_of = found["price_as_of"].value
    return place.checked(
        lambda: Price(
            usd_per_h=found["price_usd_per_h"].as_a(float),
            as_of=as_of.isoformat() if isinstance(as_of, date) else found["price_as_of"].as_a(str),
            source=found["price_source"].as_a(str),
        )
    )


def _of_matrix(place: Place) -> Iterator[StudyTarget]:
    """Yield the targets of a matrix, each labelled with its values."""
    found = place.table(("target", "axes", "exclude", "include", "set"))
    for needed in ("target", "axes"):
        if needed not in found:
            raise place.wrong(f"there is no {needed!r}")
    exceptions = {
        name: found[name].as_a(list[dict[str, str]])
        for name in ("exclude", "include")
        if name in found
    }
    axes = found["axes"].as_a(dict[str, list[str]])
    matrix = place.checked(lambda: Matrix(axes=axes, **exceptions))
    template = found["target"]
    template.table(_TARGET)
    changes = [_change(at, matrix) for at in _listed(found, "set")]
    for combination in matrix.combinations():
        table = dict(template.as_a(dict[str, Any]))
        for when, change in changes:
            table.update(change if fits(combination, when) else {})
        content = template.checked(lambda: filled(table, combination))  # noqa: B023 -- called at once
        yield _target(evolve(template, value=content), labels=combination)


def _change(place: Place, matrix: Matrix) -> tuple[Combination, Mapping[str, Any]]:
    """Return what a table of `set` changes in the targets of which combinations."""
    found = place.table(("when", *_TARGET))
    if "when" not in found:
        raise place.wrong("there is no 'when': the values for which it is set")
    when: Combination = found["when"].as_a(dict[str, str])
    found["when"].checked(lambda: matrix.check_axes(when))
    return when, {name: at.value for name, at in found.items() if name != "when"}


def _kind(place: Place, key: str, kinds: Mapping[str, type]) -> tuple[str, Place]:
    """Return which kind a table says, and the rest of the table."""
    if not isinstance(place.value, Mapping):
        raise place.wrong("a table is expected")
    if key not in place.value:
        raise place.wrong(f"there is no {key!r}; it is one of {', '.join(kinds)}")
    name = place.at(key).as_a(str)
    if name not in kinds:
        raise place.at(key).wrong(f"there is no {name!r}; it is one of {', '.join(kinds)}")
    rest = {field: value for field, value in place.value.items() if field != key}
    return name, evolve(place, value=rest)


def _loads(place: Place) -> Iterator[LoadProfile]:
    """Yield the loads of a table: a list for `slots` or `rate_rps` says several."""
    kind, rest = _kind(place, "kind", LOADS)
    table = rest.as_a(dict[str, Any])
    if kind == "replay" and "file" in table:
        yield _trace(rest)
        return
    for name in ("slots", "rate_rps"):
        if isinstance(table.get(name), list):
            for at in rest.at(name).items():
                yield _load(kind, evolve(rest, value={**table, name: at.value}))
            return
    yield _load(kind, rest)


def _load(kind: str, place: Place) -> LoadProfile:
    load: LoadProfile = made(LOADS[kind], place)
    return load


def _trace(place: Place) -> LoadProfile:
    found = place.table(("file", "speed", "limit"))
    file = place.path.parent / found["file"].as_a(str)
    more: dict[str, Any] = {}
    if "speed" in found:
        more["speed"] = found["speed"].as_a(float)
    if "limit" in found:
        more["limit"] = found["limit"].as_a(int)
    return place.checked(lambda: read_trace(file, **more))


def _length(place: Place) -> Length:
    """Return a length: a number, a text as the command line takes it, or a table."""
    if isinstance(place.value, str):
        return place.checked(lambda: length_of(place.as_a(str)))
    if isinstance(place.value, Mapping):
        kind, rest = _kind(place, "distribution", _LENGTHS)
        length: Length = made(_LENGTHS[kind], rest)
        return length
    return int(place.as_a(int))


def _workload(place: Place) -> Workload:
    """Return what is asked: a text as the command line takes it, or a table."""
    if isinstance(place.value, str):
        return place.checked(lambda: workload_of(_beside(place.as_a(str), place.path)))
    kind, rest = _kind(place, "kind", {**_WORKLOADS, "dataset": dict})
    if kind == "dataset":
        return _dataset(rest)
    workload: Workload = made(_WORKLOADS[kind], rest, _WORKLOAD_READERS)
    return workload


def _beside(spec: str, path: Path) -> str:
    """Return a text whose file, if it names one, is looked for beside the study's."""
    kind, _, name = spec.partition(":")
    return f"{kind}:{path.parent / name}" if kind in ("dataset", "sharegpt") else spec


def _dataset(place: Place) -> Workload:
    found = place.table(("file", "output_tokens", "unique"))
    if "file" not in found:
        raise place.wrong("there is no 'file'")
    more: dict[str, Any] = {}
    if "output_tokens" in found:
        more["output_tokens"] = found["output_tokens"].as_a(int)
    if "unique" in found:
        more["unique"] = found["unique"].as_a(bool)
    file = place.path.parent / found["file"].as_a(str)
    return place.checked(lambda: read_dataset(file, **more))


def _tokenizer(place: Place) -> Path | Literal["server"]:
    named = place.as_a(str)
    return "server" if named == "server" else place.path.parent / named


def _json(place: Place) -> Mapping[str, Json]:
    """Return what a request's body takes: a date of TOML is a text in JSON."""
    found: Mapping[str, Json] = msgspec.to_builtins(place.as_a(dict[str, Any]))
    return found


_WORKLOAD_READERS: Mapping[str, Reader] = {
    "parameters": _json,
    "input_tokens": _length,
    "output_tokens": _length,
    "turns": _length,
    "questions": _workload,
    "workload": _workload,
    "tokenizer": _tokenizer,
}


def _settings(place: Place) -> Settings:
    for name in _NOT_IN_A_FILE:
        if isinstance(place.value, Mapping) and name in place.value:
            raise place.at(name).wrong("this is said when the study is run, not in its file")
    readers: Mapping[str, Callable[[Place], object]] = {
        "deadlines": lambda at: made(Deadlines, at),
        "precision": lambda at: made(Precision, at),
    }
    return made(Settings, place, readers)
