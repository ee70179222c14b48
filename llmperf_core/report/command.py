"""The command line that measures the same again, as far as a command line can say it."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import asdict

from llmperf_core.load import Concurrency, ConstantRate, LoadProfile, Poisson
from llmperf_core.results import Run
from llmperf_core.run import Settings


def command_of(run: Run) -> str | None:
    """Return the command; None where another tool measured, or the loads are of another kind.

    What it cannot say of the workload, it leaves out: `run.json` has it.
    """
    loads = [stage.load for stage in run.stages]
    said = None if run.spec.source is not None else _loads(loads)
    if said is None:
        return None
    workload = list(_workload(dict(run.spec.workload)))
    settings = list(_settings(run.spec.settings, run.spec.seed))
    limits = {} if run.spec.slo is None else asdict(run.spec.slo)
    kept = ",".join(
        f"{name.removesuffix('_ms')}={limit:g}" for name, limit in limits.items() if limit
    )
    slo = ["--slo", kept] if kept else []
    return shlex.join(["llmperf", "bench", run.spec.target, *said, *workload, *settings, *slo])


def _loads(loads: Sequence[LoadProfile]) -> list[str] | None:
    values = ",".join(f"{load.value:g}" for load in loads)
    for kind, words in (
        (Concurrency, ["--concurrency", values]),
        (Poisson, ["--rate", values]),
        (ConstantRate, ["--rate", values, "--arrival", "constant"]),
    ):
        if loads and all(isinstance(load, kind) for load in loads):
            return words
    return None


def _workload(workload: dict[str, Any]) -> Iterator[str]:
    match workload:
        case {"kind": "fixed", "text": str(text), "max_new_tokens": int(limit)}:
            yield from ("--workload", f"fixed:{text}", "--output-tokens", f"{limit}")
            if not workload.get("unique", True):
                yield "--repeat-prompts"
        case {"kind": "synthetic", "input_tokens": int(length), "output_tokens": int(limit)}:
            yield from ("--workload", f"synthetic:{length}", "--output-tokens", f"{limit}")


def _settings(settings: Settings, seed: int) -> Iterator[str]:
    if settings.duration_s is not None:
        yield from ("--duration", f"{settings.duration_s:g}")
    if settings.requests is not None:
        yield from ("--requests", f"{settings.requests}")
    if settings.max_in_flight is not None:
        yield from ("--max-in-flight", f"{settings.max_in_flight}")
    yield from ("--warmup", f"{settings.warmup_s:g}", "--seed", f"{seed}")
