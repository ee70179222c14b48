"""Run the published study's 15 deployments on a fake SageMaker, from the plan to the picks.

    python examples/published_study/run.py             15 × 4 cells, under 30 minutes
    python examples/published_study/run.py --quick     15 × 1, under 3

`sagemaker.toml` is run as it would be against AWS. What answers is the simulator, calibrated to the
study: no model, no AWS, no cost. The fake's meter bills what a real account would have been billed
for these minutes.
"""

import argparse
import os
import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
from attrs import evolve

import llmperf_core as lp
from llmperf_core.judge import TIME_PER_TOKEN, all_values
from llmperf_core.target import Endpoint
from llmperf_core.units import ms_from_ns, ns_from_s, s_from_ns
from llmperf_local.sim import Preset, Scheduler, presets
from llmperf_local.sim.published import OPTIONS, asks
from llmperf_local.sim.virtual import VirtualStage, run_virtually
from llmperf_sagemaker.testing import Account, Deployed, FakeSageMaker, SeparateFake, Timing

HERE = Path(__file__).parent
PRICES = {
    "ml.g5.2xlarge": 1.515,
    "ml.g5.12xlarge": 7.09,
    "ml.g5.48xlarge": 20.36,
    "ml.p4d.24xlarge": 37.688,
}
ROLE = "arn:aws:iam::123456789012:role/llmperf"
BY_DEPLOYMENT = {(p.model_id, p.instance): p for p in presets().values()}
OVERHEAD_NS = max(p.overhead_ns for p in presets().values())
"""What the study's client, gateway and network added to each request: the presets are fitted with
it, and in a closed loop a request that is still on its way is no load."""
WINDOW_S = 60
"""In place of the study's 90 s."""
SETTLED_S = 15
"""After which TGI 1.0.3 has tuned its kernels, and a load finds its rhythm."""
AT_LOAD = {"cost": 5, "throughput": 20, "latency": 1}
"""Requests in flight, at which the study looked for each of its picks."""

PUBLISHED = {
    ("7b", "cost"): "TheBloke/Llama-2-7B-GPTQ@ml.g5.2xlarge",
    ("7b", "throughput"): "meta-llama/Llama-2-7b-hf@ml.g5.12xlarge",
    ("7b", "latency"): "meta-llama/Llama-2-7b-hf@ml.g5.12xlarge",
    ("13b", "cost"): "TheBloke/Llama-2-13B-GPTQ@ml.g5.2xlarge",
    ("13b", "throughput"): "meta-llama/Llama-2-13b-hf@ml.g5.12xlarge",
    ("13b", "latency"): "meta-llama/Llama-2-13b-hf@ml.g5.12xlarge",
    ("70b", "cost"): "TheBloke/Llama-2-70B-GPTQ@ml.g5.12xlarge",
    ("70b", "throughput"): "meta-llama/Llama-2-70b-hf@ml.p4d.24xlarge",
    ("70b", "latency"): "meta-llama/Llama-2-70b-hf@ml.p4d.24xlarge",
}
"""What the study picked for each size of the model. See `published_tables.csv`."""


def preset_of(deployed: Deployed) -> Preset:
    """Return the preset that stands for a deployment."""
    return BY_DEPLOYMENT[deployed.environment["HF_MODEL_ID"], deployed.instance_type]


def simulated(deployed: Deployed) -> AbstractAsyncContextManager[Endpoint]:
    """Serve what is deployed by a simulator that is calibrated to it."""
    return lp.target_of(f"sim:{preset_of(deployed).name}").open()


def study(*, quick: bool) -> lp.Study:
    """Return the study, in shorter windows than the 90 s of the published one."""
    whole = lp.read_study(HERE / "sagemaker.toml")
    if not quick:
        return evolve(whole, settings=evolve(whole.settings, duration_s=WINDOW_S))
    # With quantized weights, TGI 1.0.3 tunes its kernels for the first requests of each length.
    settings = evolve(whole.settings, warmup_s=SETTLED_S, duration_s=20, drain_s=15)
    return evolve(whole, loads=[lp.Concurrency(5)], settings=settings)


def main() -> int:
    """Plan, run, recommend, and say what became of the money."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one load, in under 3 minutes")
    parser.add_argument("--out", metavar="DIR", help="keep the study in this folder")
    parser.add_argument("--parallel", metavar="N", type=int, default=5)
    given = parser.parse_args()
    # Of its own process: what waits there for this one would be measured.
    separate = SeparateFake(
        FakeSageMaker(
            serve=simulated,
            speed=1.0,  # its bill is in the time that passes here
            account=Account(prices=PRICES),
            timing=Timing(creating_s=3, deleting_s=1, overhead_s=s_from_ns(OVERHEAD_NS)),
        )
    )
    with separate as fake, tempfile.TemporaryDirectory() as scratch:
        os.environ.update(fake.environment(), LLMPERF_SAGEMAKER_ROLE=ROLE, XDG_STATE_HOME=scratch)
        published = study(quick=given.quick)
        plan = published.plan(parallel=given.parallel)
        print(plan)
        done = published.run(
            given.out or Path(scratch) / "study",
            budget_usd=plan.worst_usd,
            parallel=given.parallel,
        )
        print(done)
        return report(done, fake, quick=given.quick)


def report(done: lp.StudyRun, fake: SeparateFake, *, quick: bool) -> int:
    """Print what was measured beside the calibration, the bill, and the picks."""
    off = compare(done)
    worst, near = max(off, default=float("nan")), sum(one <= 0.1 for one in off)
    created = [call.operation for call in fake.calls].count("CreateEndpoint")
    left = fake.holds()
    print(f"\n{created} endpoints were created, {sum(map(len, left.values()))} are left")
    print(f"the fake's bill: {fake.usd:.2f} USD; the study's books: {done.spent_usd:.2f} USD")
    print(f"{near} of {len(off)} medians are within 10 % of their calibration")
    print(f"the one most off: {worst:.1%}\n")
    if quick:
        print(done.recommend())
    else:
        survivors(done)
        print(done.recommend(lp.Needs(at_load=AT_LOAD)))
    return int(bool(done.missing or left or created != len(done.targets)))


def survivors(done: lp.StudyRun) -> None:
    """Print which of the study's nine picks are those of its rules on these servers."""
    for size in ("7b", "13b", "70b"):
        runs = [run for run in done.runs if f"-{size}-" in run.spec.target.lower()]
        known = {run.spec.target for run in runs}
        prices = {name: price for name, price in done.prices.items() if name in known}
        for pick in lp.recommend(runs, lp.Needs(at_load=AT_LOAD), prices=prices).picks:
            published = PUBLISHED[size, pick.rule.name]
            if pick.winner == published:
                says = "survives"
            elif published in pick.targets:
                says = f"may be right: {len(pick.targets)} cannot be told apart"
            else:
                says = f"does not survive: {' or '.join(pick.targets)}"
            print(f"{size}, {pick.rule.name}: the study's {published} {says}")
    print()


def calibrated_ms(preset: Preset, slots: int) -> float:
    """Return the median ms/token of a preset as its client sees it.

    It is calibrated to what TGI reported, which leaves out the queue and the way to it; a client of
    SageMaker's stream is told no times. So both are of the same run, in virtual time.
    """
    timelines, observation = run_virtually(
        Scheduler(preset.hardware, OPTIONS),
        asks(),
        load=lp.Concurrency(slots),
        stage=VirtualStage(
            warm_up_ns=ns_from_s(SETTLED_S),
            duration_ns=ns_from_s(WINDOW_S),
            overhead_ns=preset.overhead_ns,
        ),
    )
    seen = [
        evolve(timeline, server_ns={})
        for timeline in timelines
        if timeline.completed and timeline.sent_at_ns is not None
        if timeline.sent_at_ns in observation.window
    ]
    return ms_from_ns(float(np.median(all_values(TIME_PER_TOKEN, seen))))


def compare(done: lp.StudyRun) -> list[float]:
    """Print each median beside what it was calibrated to; return how far off each is."""
    off = []
    for target in done.targets:
        preset = BY_DEPLOYMENT[target.labels["model"], target.labels["instance"]]
        for stage in target.stages:
            median = stage["time_per_token"].p50
            if median is None:
                print(f"{preset.name} at {stage.load.value:g}: too few requests for a median")
                continue
            expected = calibrated_ms(preset, int(stage.load.value))
            off.append(abs(median.value / expected - 1))
            print(
                f"{preset.name} at {stage.load.value:g}: {median.value:.1f} ms/token, calibrated "
                f"{expected:.1f} ({median.value / expected - 1:+.1%})"
            )
    return off


if __name__ == "__main__":
    sys.exit(main())
