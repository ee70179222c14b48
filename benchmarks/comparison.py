"""How often a comparison is right: pairs of seeded runs of simulated servers, in virtual time.

For each preset, runs of a minute in a closed loop are compared with runs of the same server, which
must not be called different, and with runs of one whose decode takes 5 % longer, which must be
found; and what the baseline alone says to be detectable is printed beside. Nothing here is a
measurement: these are simulators.

    python benchmarks/comparison.py [PAIRS]
"""

import sys
from collections.abc import Iterator
from random import Random
from statistics import median

from attrs import evolve, frozen

from llmperf_core import Concurrency, Run, StageResult, compare, detectable
from llmperf_core.run.folder import RunSpec
from llmperf_core.units import NS_PER_S
from llmperf_local.sim import Ask, Scheduler
from llmperf_local.sim.presets import Preset, preset
from llmperf_local.sim.virtual import VirtualStage, run_virtually

PRESETS = (
    ("llama-2-7b@ml.g5.12xlarge", 5),
    ("llama-2-13b@ml.p4d.24xlarge", 10),
    ("llama-2-7b@ml.g5.2xlarge", 20),
)
"""Each with its concurrency."""
SLOWER = 1.05
JITTER = 0.05
"""Of the time of a step: a server whose steps are exact would be too easy to compare."""


@frozen
class Simulated:
    """A simulated server under a load."""

    preset: Preset
    slots: int
    decode: float = 1.0
    """How much longer a decode step takes than the preset says."""

    def run(self, seed: int) -> Run:
        """Return a minute of it, after a warm-up of ten seconds."""
        name, options = self.preset.name, self.preset.options
        hardware = evolve(self.preset.hardware.scaled(decode=self.decode), jitter=JITTER)
        load = Concurrency(self.slots)
        timelines, observation = run_virtually(
            Scheduler(hardware, options, seed=seed),
            _asks(seed),
            load=load,
            stage=VirtualStage(
                duration_ns=60 * NS_PER_S,
                warm_up_ns=10 * NS_PER_S,
                overhead_ns=self.preset.overhead_ns,
            ),
        )
        spec = RunSpec(target=f"sim:{name}", simulated=True, seed=seed)
        stage = StageResult.of(timelines, observation, load=load, spec=spec)
        return Run(spec=spec, stages=(stage,))


def _asks(seed: int) -> Iterator[Ask]:
    """Yield prompts of 50 to 500 tokens, each with an answer of 20 to 80."""
    rng = Random(seed)  # noqa: S311 -- nothing secret
    while True:
        yield Ask(
            input_tokens=rng.randint(50, 500),
            max_new_tokens=rng.randint(20, 80),
            seed=rng.getrandbits(32),
            ignore_eos=True,
        )


def _least_detectable(baseline: Run) -> float:
    """Return the smallest change that the baseline says could be seen in a gap between tokens."""
    rows = detectable(baseline).rows
    return min(
        row.detectable
        for row in rows
        if row.figure.metric in {"itl", "tpot"} and row.detectable is not None
    )


def study(server: Simulated, pairs: int) -> tuple[int, int, float, float]:
    """Return how often the same was called different, how often 5 % was found, what was said.

    Returns:
        False alarms, findings, and the median and largest of what the baselines say is detectable.
    """
    slower = evolve(server, decode=SLOWER)
    alarms = found = 0
    said = []
    for seed in range(pairs):
        baseline = server.run(seed)
        said.append(_least_detectable(baseline))
        alarms += compare(baseline, server.run(10_000 + seed)).outcome in {"better", "worse"}
        found += compare(baseline, slower.run(20_000 + seed)).outcome == "worse"
    return alarms, found, median(said), max(said)


def main() -> None:
    """Print a row for each preset."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(f"SIMULATED, {pairs} pairs of runs of 60 s each, steps with {JITTER:.0%} of jitter\n")
    print("| preset | concurrency | same called different | 5 % slower decode found |", end="")
    print(" detectable, as said beforehand: median, largest |")
    print("| --- | --- | --- | --- | --- |")
    for name, slots in PRESETS:
        alarms, found, usual, largest = study(Simulated(preset(name), slots), pairs)
        print(
            f"| {name} | {slots} | {alarms} of {pairs} | {found} of {pairs} |"
            f" {usual:.1%}, {largest:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
