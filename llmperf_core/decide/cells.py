"""The cells of a study: one target under one load, once. Each has an address made of what it is.

Two cells of the same address are the same measurement, on whatever machine and in whatever study,
so that what is there need not be measured and paid for again.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice

import msgspec
from attrs import field, fields, frozen
from attrs.validators import ge

from llmperf_core.load import LoadProfile, load_label, record_of
from llmperf_core.run import Settings
from llmperf_core.target import Json, Prompt
from llmperf_core.workload import Workload

_PROMPTS_LOOKED_AT = 32
_HEX_DIGITS = 16
_NOT_MEASURED_BY = ("folder", "calibration", "telemetry", "quiet")
"""Settings that change nothing about what is measured."""


@frozen(kw_only=True)
class Cell:
    """One target under one load, once."""

    target: str
    """The target's name."""
    load: LoadProfile
    repeat: int = field(default=1, validator=ge(1))
    """Which of the repeats it is, from 1 on."""
    id: str
    """Its address."""
    seed: int
    """Of its prompts and arrivals: the same for all targets, so that each is asked the same; and
    another one for each load and repeat, so that no cache knows what comes."""

    @property
    def label(self) -> str:
        """Its load and its repeat in words: `concurrency 5, #2`."""
        return load_label(self.load) + (f", #{self.repeat}" if self.repeat > 1 else "")


@frozen(kw_only=True)
class Question:
    """What is asked of every target, and how it is measured."""

    loads: Sequence[LoadProfile]
    workload: Workload
    settings: Settings
    repeats: int

    def cells(self, target: str, described: Mapping[str, Json]) -> tuple[Cell, ...]:
        """Return the cells of one target: all loads, then all of them again for each repeat.

        So what drifts from hour to hour spreads over all loads.

        Args:
            target: its name.
            described: what the target is, as far as that changes what is measured.
        """
        return tuple(_cell(target, described, what, self._shared) for what in self._each())

    def _each(self) -> Iterator[tuple[LoadProfile, int]]:
        for repeat in range(1, self.repeats + 1):
            for load in self.loads:
                yield load, repeat

    @cached_property
    def _shared(self) -> Mapping[str, Json]:
        """What all cells of all targets share: its prompts may take long to make."""
        return {
            "workload": self.workload.describe(),
            "prompts": _digest(islice(self.workload.prompts(0), _PROMPTS_LOOKED_AT)),
            "tokenizer": str(getattr(self.workload, "tokenizer", None)),
            "settings": settings_record(self.settings),
        }


def settings_record(settings: Settings) -> Mapping[str, Json]:
    """Return the settings that change what is measured, in JSON types."""
    record: dict[str, Json] = {
        attribute.name: msgspec.to_builtins(getattr(settings, attribute.name))
        for attribute in fields(Settings)
        if attribute.name not in _NOT_MEASURED_BY
    }
    return record


def _cell(
    target: str,
    described: Mapping[str, Json],
    what: tuple[LoadProfile, int],
    shared: Mapping[str, Json],
) -> Cell:
    load, repeat = what
    asked = {"load": record_of(load), "repeat": repeat, **shared}
    return Cell(
        target=target,
        load=load,
        repeat=repeat,
        id=_address({"target": described, **asked}),
        seed=int(_address(asked)[:8], 16),
    )


def _address(what: Mapping[str, Json]) -> str:
    """Return the address of JSON: whatever order its keys have, and 30 as well as 30.0."""
    content = msgspec.json.encode(_plain(what), order="deterministic")
    return hashlib.sha256(content).hexdigest()[:_HEX_DIGITS]


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digest(prompts: Iterator[Prompt]) -> str:
    """Return a digest of the first prompts: a description may leave out what they are made of."""
    digest = hashlib.sha256()
    for prompt in prompts:
        asked = (prompt.text, prompt.max_new_tokens, dict(prompt.parameters), prompt.history)
        digest.update(msgspec.json.encode(asked, order="deterministic"))
    return digest.hexdigest()
