"""A run in which all that others said tries to become a part of the page."""

from attrs import evolve

from llmperf_core import Run, Slo, StageResult
from llmperf_core.load import Concurrency
from llmperf_core.timeline import Completed, Failed, Outcome
from tests.test_compare import SPEC, stage

SCRIPT = "<script>document.title='broken in'; console.error('broken in')</script>"
EVIL = f"{SCRIPT}<img src=x onerror=\"document.title='broken in'\">'\"]]>--></style>${{7*7}}"
SPEC_OF_EVIL = evolve(
    SPEC,
    target=EVIL,
    simulated=True,
    endpoint={"model": EVIL, "server": {"version": EVIL, EVIL: EVIL}},
    workload={"kind": "fixed", "text": EVIL, "max_new_tokens": 5},
    slo=Slo(ttft_ms=500),
    environment={"processor": EVIL},
)


def evil_run() -> Run:
    """Return a run of two stages, whose target, model, prompt and errors hold a script."""
    found = [stage(spec=SPEC_OF_EVIL, load=Concurrency(n)) for n in (4, 8)]
    ends: list[Outcome] = [Failed(EVIL, EVIL), Completed(EVIL)]
    stages = [
        StageResult.of(
            [
                evolve(timeline, outcome=ends[k % 2]) if k < 2 else timeline
                for k, timeline in enumerate(one.timelines)
            ],
            one.observation,
            load=one.load,
            spec=SPEC_OF_EVIL,
        )
        for one in found
    ]
    return Run(spec=SPEC_OF_EVIL, stages=tuple(stages))
