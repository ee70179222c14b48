"""Parts of this machine that can be described and read: entry points of `llmperf.hardware`."""

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from attrs import frozen

from llmperf_core.target import Json, MachinePart, Meter

GROUP = "llmperf.hardware"


@frozen
class _Broken:
    """A kind of part whose code cannot be loaded: a run goes on without it, and says so."""

    reason: str

    def describe(self) -> Json:
        return {"none_because": self.reason}

    def meters(self) -> Sequence[Meter]:
        return ()


def hardware() -> Mapping[str, MachinePart]:
    """Return the kinds of parts that are known, by their entry points' names."""
    return {entry.name: _load(entry) for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> MachinePart:
    try:
        loaded: MachinePart = entry.load()
    except Exception as error:  # noqa: BLE001 -- the import of another's module may raise anything
        return _Broken(f"it cannot be loaded: {type(error).__name__}: {error}")
    return loaded
