"""Whose a container is, and what a crash may have left: labels on it, and a note on the disk.

A note says at which engine to look; the labels on the container say the rest.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import asdict, frozen

from llmperf_core import lease

NOTES = lease.Notes("containers")
_PREFIX = "llmperf."
LABEL = f"{_PREFIX}run"
"""The label that every container of ours carries; its value is unique."""


@frozen(kw_only=True)
class Lease(lease.Lease):
    """Who may have a container, and until when."""

    engine: str
    """Where its Docker engine listens."""

    @classmethod
    def at(cls, engine: str, lifetime_s: float) -> "Lease":
        """Return a lease of this process at an engine that ends after a lifetime."""
        return cls(engine=engine, **asdict(lease.Lease.new(lifetime_s)))

    @property
    def name(self) -> str:
        """The container's name."""
        return f"llmperf-{self.run}"

    @property
    def labels(self) -> Mapping[str, str]:
        """The container's labels."""
        return {f"{_PREFIX}{name}": word for name, word in self.words.items()}

    @classmethod
    def told(cls, engine: str, labels: Mapping[str, str]) -> "Lease":
        """Return the lease that a container's labels tell."""
        words = {name.removeprefix(_PREFIX): word for name, word in labels.items()}
        return cls(engine=engine, **asdict(lease.Lease.of(words)))


def write(lease: Lease) -> Path:
    """Keep a note of the container that is about to be made."""
    return NOTES.write(lease.run, {"engine": lease.engine, **lease.labels})


def notes() -> Iterator[tuple[Path, Lease]]:
    """Yield the notes that are there; one that says too little made no container."""
    for path, said in NOTES.read():
        try:
            yield path, Lease.told(said["engine"], said)
        except KeyError:
            path.unlink(missing_ok=True)
