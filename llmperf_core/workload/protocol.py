"""What a workload owes."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from llmperf_core.target import Json, Prompt


class Workload(Protocol):
    """What is asked: a seeded, endless stream of prompts."""

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield prompts without end. The same seed yields the same prompts."""
        ...

    def describe(self) -> Mapping[str, Json]:
        """Return what a stored run must say of it for the workload to be made again."""
        ...
