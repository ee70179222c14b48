"""Does a search find the load that a server can bear, and does its interval hold it?

Simulated servers (presets of the published Llama 2 study) are searched in virtual time. The truth
is found by halving between loads that are each asked for hours.

    python benchmarks/search.py              # three presets, 20 seeds each
    python benchmarks/search.py --check      # exit status 1 if 5 % or 19 of 20 is missed
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence

from attrs import frozen

from llmperf_core.decide import Capacity, PercentileLimit, Search, Step
from llmperf_core.judge import Summary, Verdict, judge, summarize
from llmperf_core.load import Poisson
from llmperf_core.timeline import Timeline
from llmperf_core.units import NS_PER_S, ns_from_s
from llmperf_local.sim.presets import preset
from llmperf_local.sim.published import asks
from llmperf_local.sim.scheduler import Scheduler
from llmperf_local.sim.virtual import VirtualStage, run_virtually

CASES = {
    "llama-2-7b@ml.g5.12xlarge": ("ttft.p90=1000", "tpot.p50=45"),
    "llama-2-13b@ml.p4d.24xlarge": ("e2e.p95=2500",),
    "llama-2-70b@ml.p4d.24xlarge": ("ttft.p95=2500", "tpot.p95=60"),
}
"""Limits of each preset, as a user would write them."""
SEEDS = 20
_TRUTH_S = 20_000
_WARM_UP_S = 60


@frozen
class Stage:
    """A stage in virtual time."""

    timelines: Sequence[Timeline]
    summary: Summary
    verdict: Verdict


def measure(name: str, step: Step, *, seed: int) -> Stage:
    """Return what a preset does under a load, in virtual time."""
    of = preset(name)
    stage = VirtualStage(
        duration_ns=ns_from_s(step.duration_s or 0),
        warm_up_ns=_WARM_UP_S * NS_PER_S,
        drain_ns=120 * NS_PER_S,
        overhead_ns=of.overhead_ns,
        seed=seed,
    )
    scheduler = Scheduler(of.hardware, of.options, seed=seed)
    timelines, observation = run_virtually(scheduler, asks(), load=step.load, stage=stage)
    summary = summarize(timelines, observation, load=step.load)
    return Stage(timelines, summary, judge(summary, observation))


def search(name: str, how: Search, *, seed: int) -> Capacity:
    """Search a preset; each stage draws from a seed of its own."""
    plan = how.plan()
    step = next(plan)
    stages = 0
    while True:
        stages += 1
        try:
            step = plan.send(measure(name, step, seed=1000 * seed + stages))
        except StopIteration as end:
            found: Capacity = end.value
            return found


def truth(name: str, limits: Sequence[PercentileLimit], *, near: float) -> float:
    """Return the highest rate at which a long run keeps all limits, to 1 %."""
    low, high = near / 1.15, near * 1.15
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        stage = measure(name, Step(Poisson(middle), _TRUTH_S), seed=0)
        kept = all(
            limit.exceeding(stage.timelines).share <= limit.allowed_share for limit in limits
        )
        low, high = (middle, high) if kept else (low, middle)
    return math.sqrt(low * high)


def check(name: str, written: Sequence[str]) -> bool:
    """Print what searches of a preset found; return whether they keep the promise."""
    how = Search(limits=[PercentileLimit.parse(text) for text in written])
    found = [search(name, how, seed=seed) for seed in range(1, SEEDS + 1)]
    values = [capacity.value or 0.0 for capacity in found]
    began_s = time.monotonic()
    true = truth(name, how.limits, near=sorted(values)[SEEDS // 2])
    errors = [value / true - 1 for value in values]
    held = sum((c.holds_at or 0) <= true <= (c.broken_at or 0) for c in found)
    within = sum(abs(error) <= 0.05 for error in errors)
    spent_s = sum(p.duration_s for c in found for p in c.probes) / len(found)
    width = sum((c.broken_at or 0) / (c.holds_at or 1) - 1 for c in found) / len(found)
    print(
        f"| {name} | {', '.join(written)} | {true:.3f} | {within} | {max(map(abs, errors)):.1%} "
        f"| {held} | {width:.1%} | {spent_s / 60:.0f} |",
        flush=True,
    )
    print(f"  truth took {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    return within >= 19 and held >= 19


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--presets", nargs="+", default=list(CASES), choices=list(CASES))
    given = parser.parse_args()
    print(
        "| preset (simulated) | limits | truth req/s | within 5 % of 20 | largest error "
        "| interval holds it | its width | minutes measured |\n|---|---|---|---|---|---|---|---|"
    )
    kept = [check(name, CASES[name]) for name in given.presets]
    return 0 if all(kept) or not given.check else 1


if __name__ == "__main__":
    sys.exit(main())
