"""Loads as stored runs hold them."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec
import numpy as np
from attrs import Factory, field, frozen
from attrs.validators import instance_of

from llmperf_core.errors import UsageError
from llmperf_core.load.changing import Ramp, Steps
from llmperf_core.load.closed import Concurrency
from llmperf_core.load.open import ConstantRate, Gamma, Poisson
from llmperf_core.load.protocol import ClosedLoop, Labelled, LoadProfile
from llmperf_core.load.replay import Replay

# Only these are made again. A stored run never names a class to import: a file is no program.
LOADS: Mapping[str, type[Any]] = {
    "concurrency": Concurrency,
    "constant": ConstantRate,
    "poisson": Poisson,
    "gamma": Gamma,
    "ramp": Ramp,
    "steps": Steps,
    "replay": Replay,
}
"""Our loads, by their kinds."""


@frozen(kw_only=True)
class StoredClosedLoop:
    """A closed loop of a kind that is not ours, as a stored run tells of it: enough to judge."""

    kind: str
    value: float = field(validator=instance_of((int, float)))
    label: str
    slots: int = field(validator=instance_of(int))
    fields: Mapping[str, Any] = Factory(dict)


@frozen(kw_only=True)
class StoredOpenLoop:
    """An open loop of a kind that is not ours, as a stored run tells of it: enough to judge."""

    kind: str
    value: float = field(validator=instance_of((int, float)))
    label: str
    fields: Mapping[str, Any] = Factory(dict)

    def instants(self, rng: np.random.Generator) -> Iterator[int]:
        """Refuse: how it plans was not stored.

        Raises:
            UsageError: always.
        """
        del rng
        raise UsageError(
            f"the load {self.label!r} was read from a stored run and can be judged, not run; "
            "make it again with its own class"
        )


def record_of(load: LoadProfile) -> dict[str, Any]:
    """Return what a stored run says of a load: JSON types only."""
    record: dict[str, Any] = {"kind": load.kind, "value": load.value, "label": load_label(load)}
    if isinstance(load, ClosedLoop):
        record["slots"] = load.slots
    return {**record, "fields": msgspec.to_builtins(_fields(load), enc_hook=repr)}


def _fields(load: LoadProfile) -> Mapping[str, Any]:
    if isinstance(load, StoredClosedLoop | StoredOpenLoop):
        return load.fields
    kind: type = type(load)
    known = attrs.fields(kind) if attrs.has(kind) else ()
    return {f.name: getattr(load, f.name) for f in known if f.init}


def load_of(record: Mapping[str, Any]) -> LoadProfile:
    """Return the load that a stored run tells of.

    One that is not ours comes back as what was stored of it. The runs of the first versions hold
    a value and no fields.

    Raises:
        KeyError: a field is missing.
        TypeError: a field is unknown, or of another type.
        ValueError: a field is out of its range.
    """
    kind, value = record["kind"], record["value"]
    if kind in LOADS:
        ours = LOADS[kind]
        load: LoadProfile = ours(**record["fields"]) if "fields" in record else ours(value)
        return load
    label, fields = record["label"], record["fields"]
    if "slots" in record:
        return StoredClosedLoop(
            kind=kind, value=value, label=label, slots=record["slots"], fields=fields
        )
    return StoredOpenLoop(kind=kind, value=value, label=label, fields=fields)


def load_label(load: LoadProfile) -> str:
    """Return the load in words: `concurrency 20`, `poisson 8/s`."""
    if isinstance(load, Labelled):
        return load.label
    unit = "" if isinstance(load, ClosedLoop) else "/s"
    return f"{load.kind} {load.value:g}{unit}"
