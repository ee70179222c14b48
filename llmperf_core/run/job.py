"""What the measuring process is told, and what it tells while it works."""

from collections.abc import Callable
from typing import Protocol

import anyio
from attrs import frozen

from llmperf_core.load import LoadProfile
from llmperf_core.run.settings import Settings
from llmperf_core.target import Endpoint
from llmperf_core.timeline import Observation, Progress, Timeline
from llmperf_core.workload import Workload


@frozen(kw_only=True)
class Job:
    """One stage as the measuring process gets it: all that it needs, and picklable."""

    endpoint: Endpoint
    load: LoadProfile
    workload: Workload
    settings: Settings
    seed: int


@frozen(kw_only=True)
class Listener:
    """Who is told while a stage is measured. Both run on the event loop, and must be quick."""

    note: Callable[[Timeline], None]
    """Takes the timeline of each request as soon as it has ended."""
    report: Callable[[Progress], None] = lambda _: None
    """Takes the state of the stage, a few times a second."""


class Executor(Protocol):
    """Where a stage is measured: in this process, or in one of its own."""

    async def __call__(self, job: Job, listener: Listener, stop: anyio.Event) -> Observation:
        """Measure a stage to its end, or until `stop` is set.

        Raises:
            MeasuringProcessError: the process that measured died.
        """
        ...
