"""Put together what was read: timelines on one clock, stages, a run."""

from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve, field, frozen

from llmperf_core.judge import Aggregate, Source
from llmperf_core.load import LoadProfile
from llmperf_core.results import Run, StageResult
from llmperf_core.run import Settings
from llmperf_core.run.folder import RunSpec
from llmperf_core.target import Json
from llmperf_core.timeline import Observation, Timeline, Window
from llmperf_core.units import s_from_ns

NO_WIRE = ("kernel stamps", "read lag", "coalescing", "clock steps", "the client's CPU")
"""What no other tool records."""
NO_DUE = "when requests were due"


@frozen(kw_only=True)
class Imported:
    """One stage as another tool left it: its requests, or figures alone."""

    load: LoadProfile
    duration_ns: int
    """The length of its window, as the tool says it."""
    started_at: str = ""
    """ISO 8601, as far as the tool says it."""
    timelines: Sequence[Timeline] = ()
    """Instants from the first request on."""
    aggregate: Aggregate | None = None

    @property
    def observation(self) -> Observation:
        """What is known of the harness: next to nothing."""
        last_ns = max((timeline.ended_at_ns + 1 for timeline in self.timelines), default=0)
        return Observation(
            window=Window(open_at_ns=0, close_at_ns=self.duration_ns),
            ended_at_ns=max(last_ns, self.duration_ns),
            started_at=self.started_at,
            client_cpu_ns=0,
        )


@frozen(kw_only=True)
class About:
    """What a tool says of the run as a whole."""

    target: str
    source: Source
    endpoint: Mapping[str, Json] = field(factory=dict)
    workload: Mapping[str, Json] = field(factory=dict)


def run_of(stages: Sequence[Imported], about: About) -> Run:
    """Return the stages judged as ours are, as far as that can be done."""
    longest_ns = max((stage.duration_ns for stage in stages), default=0)
    spec = RunSpec(
        target=about.target,
        endpoint=about.endpoint,
        workload=about.workload,
        settings=Settings(duration_s=s_from_ns(max(longest_ns, 1)), warmup_s=0, drain_s=0),
        environment={"imported_from": about.source.tool},
        source=about.source,
    )
    return Run(spec=spec, stages=tuple(_stage(stage, spec) for stage in stages))


def _stage(stage: Imported, spec: RunSpec) -> StageResult:
    if stage.aggregate is not None:
        return StageResult.of_aggregate(
            stage.aggregate, stage.observation, load=stage.load, spec=spec
        )
    return StageResult.of(stage.timelines, stage.observation, load=stage.load, spec=spec)


def in_order(timelines: Iterable[Timeline]) -> list[Timeline]:
    """Return the timelines in the order of starting, numbered by it.

    Raises:
        ValueError: the instants of one are not in order.
    """
    started = sorted(timelines, key=lambda timeline: timeline.sent_at_ns or 0)
    for number, timeline in enumerate(started):
        known = [timeline.sent_at_ns or 0, *timeline.token_at_ns.tolist(), timeline.ended_at_ns]
        if known != sorted(known):
            raise ValueError(f"the instants of request {number} are not in order")
    return [evolve(timeline, index=number) for number, timeline in enumerate(started)]
