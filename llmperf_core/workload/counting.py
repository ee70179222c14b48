"""Workloads that want their tokens counted before the run."""

from typing import Protocol, runtime_checkable

from llmperf_core.workload.protocol import Workload
from llmperf_core.workload.words import Count


@runtime_checkable
class Counted(Protocol):
    """A workload that can be made to the measure of a tokenizer."""

    @property
    def tokenizer(self) -> object:
        """`"server"`, the path of a file, or None for no counting."""
        ...

    def counted(self, count: Count, counted_by: str) -> Workload:
        """Return the workload whose lengths were counted in tokens."""
        ...


def tokenizer_of(workload: Workload) -> object:
    """Return what a workload wants its tokens counted by; None for nothing."""
    return workload.tokenizer if isinstance(workload, Counted) else None


def counted_inside(workload: Workload, count: Count, counted_by: str) -> Workload:
    """Return a workload inside another one with its tokens counted, if it wants that."""
    return workload.counted(count, counted_by) if isinstance(workload, Counted) else workload
