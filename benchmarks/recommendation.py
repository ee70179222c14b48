"""How often a recommendation is right: synthetic studies whose best target is known.

Within a run, figures stray as those of simulated servers do: stages of a minute in virtual time,
with their own spreads. From run to run each target strays by a share of its own, with all its loads
together. The best target of a study is ahead of the next by a given multiple of that noise, or by
nothing. Nothing here is a measurement.

    python benchmarks/recommendation.py [STUDIES]
"""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

import numpy as np
from attrs import evolve, frozen

from llmperf_core import Concurrency, Needs, Price
from llmperf_core.decide import Candidate, recommend
from llmperf_core.judge import Estimate, Figure, estimate
from llmperf_core.units import NS_PER_S
from llmperf_local.sim import Ask, Scheduler
from llmperf_local.sim.presets import preset
from llmperf_local.sim.virtual import VirtualStage, run_virtually

PRESETS = (
    ("llama-2-7b@ml.g5.12xlarge", 5),
    ("llama-2-13b@ml.p4d.24xlarge", 10),
    ("llama-2-7b@ml.g5.2xlarge", 20),
)
"""Whose stages lend their noise, each with its concurrency."""
JITTER = 0.05
"""Of the time of a step."""
SHAPE = {1: (1.0, 1.0), 5: (4.0, 1.25), 10: (7.0, 1.4), 20: (7.2, 2.5)}
"""What a load makes of a target's rate and of its time per token: two loads are nearly as good."""
RULES = ("cost", "throughput", "latency")
TARGETS = (2, 4, 8, 15)
RUNS = (1, 2, 3, 5)
BETWEEN = (0.01, 0.03, 0.05)
"""Standard deviations from run to run. That of a target is this × 0.5 to 2."""
GAPS = (0.0, 0.5, 2.0, 6.0, 20.0)
"""How far the best is ahead of the next, in standard errors of their difference."""
BEST, SECOND = "best", "second"
WILD = 0.1
"""From run to run, twice what is assumed of targets that were measured once."""
FIGURES = ("output_tokens_per_s", "time_per_token.p50")


@frozen
class Stray:
    """How far one stage's figure is from the truth, and what the stage says of it."""

    logarithm: float
    spread: float
    freedom: int


Noise = Sequence[dict[Figure, Stray]]


@frozen
class Study:
    """What was drawn of one study, and what came of it."""

    rule: str
    runs: int
    gap: float
    first: str
    """The target of the best value, certain or not."""
    winner: str | None

    @property
    def outcome(self) -> str:
        """`right`, `abstained`, or `wrong`."""
        return "abstained" if self.winner is None else self._named(self.winner)

    @property
    def by_value(self) -> str:
        """What it had been if the best value were always named."""
        return self._named(self.first)

    def _named(self, target: str) -> str:
        """Return whether a target is right to name; of two that are equally good, either is."""
        return "right" if target == BEST or (not self.gap and target == SECOND) else "wrong"


def noise_of_servers(stages: int) -> Noise:
    """Return how the figures of simulated stages stray, of each preset so many."""
    found: list[dict[Figure, Stray]] = []
    for name, slots in PRESETS:
        here = [_figures(name, slots, seed) for seed in range(stages)]
        means = {f: float(np.mean([math.log(one[f].value) for one in here])) for f in here[0]}
        found += [
            {
                f: Stray(math.log(e.value) - means[f], e.spread or 0.0, e.freedom)
                for f, e in one.items()
            }
            for one in here
        ]
    return found


def _figures(name: str, slots: int, seed: int) -> dict[Figure, Estimate]:
    server = preset(name)
    timelines, observation = run_virtually(
        Scheduler(evolve(server.hardware, jitter=JITTER), server.options, seed=seed),
        _asks(seed),
        load=Concurrency(slots),
        stage=VirtualStage(
            duration_ns=60 * NS_PER_S, warm_up_ns=10 * NS_PER_S, overhead_ns=server.overhead_ns
        ),
    )
    known = estimate(timelines, observation.window)
    return {figure: one for figure, one in known.items() if figure.name in FIGURES}


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


def study(seed: int, noise: Noise, *, between: float | None = None) -> Study:
    """Draw a study, ask for a recommendation, and return what came of it.

    Args:
        seed: of all that is drawn.
        noise: how the figures of a stage stray.
        between: the standard deviation from run to run; None draws one of `BETWEEN`.
    """
    rng = np.random.default_rng(seed)
    rule, runs = RULES[seed % len(RULES)], int(rng.choice(RUNS))
    drawn, gap = float(rng.choice(BETWEEN)), float(rng.choice(GAPS))
    between = drawn if between is None else between
    within = float(np.median([stray.spread for one in noise for stray in one.values()]))
    standard_error = math.sqrt(2 * (between**2 + within**2) / runs)
    truths = _truths(rng, rule, math.exp(gap * standard_error))
    candidates = [
        one
        for name, truth in truths.items()
        for one in _measured(name, truth, _Draw(rng, noise, runs, between))
    ]
    at_load = None if rng.random() < 0.5 else 20
    found = recommend(candidates, Needs(at_load=at_load))[rule]
    first = found.ranking[0].candidate.target
    return Study(rule=rule, runs=runs, gap=gap, first=first, winner=found.winner)


@frozen
class _Truth:
    rate: float
    ms: float
    usd_per_h: float

    def loss(self, rule: str) -> float:
        """Return what the rule ranks by, the less the better."""
        losses = {
            "cost": self.usd_per_h / self.rate,
            "throughput": 1 / self.rate,
            "latency": self.ms,
        }
        return losses[rule]


def _truths(rng: np.random.Generator, rule: str, ahead: float) -> dict[str, _Truth]:
    """Return targets of which the first is ahead of the second by a factor, and of the others."""
    count = int(rng.choice(TARGETS))
    drawn = [
        _Truth(rate=a, ms=b, usd_per_h=c)
        for a, b, c in zip(
            rng.lognormal(4, 0.5, count),
            rng.lognormal(3, 0.3, count),
            rng.lognormal(2, 0.5, count),
            strict=True,
        )
    ]
    first, second, *others = sorted(drawn, key=lambda truth: truth.loss(rule))
    factor = second.loss(rule) / ahead / first.loss(rule)
    moved = {
        "cost": evolve(first, usd_per_h=first.usd_per_h * factor),
        "throughput": evolve(first, rate=first.rate / factor),
        "latency": evolve(first, ms=first.ms * factor),
    }[rule]
    return {BEST: moved, SECOND: second} | {f"other-{k}": t for k, t in enumerate(others)}


@frozen
class _Draw:
    rng: np.random.Generator
    noise: Noise
    runs: int
    between: float


def _measured(name: str, truth: _Truth, draw: _Draw) -> Iterator[Candidate]:
    """Yield the target under each load, as measured: all loads of a run stray together."""
    rng = draw.rng
    share = draw.between * math.exp(rng.uniform(-math.log(2), math.log(2)))
    starts = rng.normal(0, share, draw.runs)
    for load, (rate, ms) in SHAPE.items():
        true = {"output_tokens_per_s": truth.rate * rate, "time_per_token.p50": truth.ms * ms}
        yield Candidate(
            target=name,
            load=Concurrency(load),
            repeats=[_run(true, start, draw) for start in starts],
            price=Price(usd_per_h=truth.usd_per_h, as_of="2026-11-25", source="drawn"),
        )


def _run(true: dict[str, float], start: float, draw: _Draw) -> dict[Figure, Estimate]:
    stage = draw.noise[int(draw.rng.integers(len(draw.noise)))]
    found = {}
    for figure, stray in stage.items():
        # A slow start is slow in both: fewer tokens a second, more time a token.
        sign = 1 if figure.direction == "higher" else -1
        value = true[figure.name] * math.exp(sign * start + stray.logarithm)
        found[figure] = Estimate(value, stray.spread, stray.freedom)
    return found


def upper_bound(wrong: int, of: int) -> float:
    """Return the share of wrong ones that is exceeded with a chance of 2.5 %.

    Source: Clopper, Pearson, "The use of confidence or fiducial limits" (1934).
    """
    low, high = wrong / of, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        ways = [
            math.exp(
                math.lgamma(of + 1)
                - math.lgamma(k + 1)
                - math.lgamma(of - k + 1)
                + k * math.log(middle)
                + (of - k) * math.log1p(-middle)
            )
            for k in range(wrong + 1)
        ]
        low, high = (middle, high) if sum(ways) > 0.025 else (low, middle)
    return low


def main() -> None:
    """Print a row for each number of runs and each gap, and the whole."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    noise = noise_of_servers(40)
    studies = [study(seed, noise) for seed in range(count)]
    print(f"SIMULATED, {count} studies of 2 to 15 targets under 4 loads\n")
    print("| the best is ahead by | runs of each | studies | right | abstained | wrong |", end="")
    print(" wrong if the best value were named |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for gap in GAPS:
        for runs in RUNS:
            _row(f"{gap:g} σ", runs, [s for s in studies if (s.gap, s.runs) == (gap, runs)])
    _row("any", "any", studies)
    wild = [study(seed, noise, between=WILD) for seed in range(count)]
    for runs in RUNS:
        _row(f"any, {WILD:.0%} from run to run", runs, [s for s in wild if s.runs == runs])
    wrong = sum(one.outcome == "wrong" for one in studies)
    print(f"\nwrong: {wrong} of {count}, below {upper_bound(wrong, count):.1%} with 97.5 %")


def _row(gap: str, runs: int | str, studies: Sequence[Study]) -> None:
    counts = Counter(one.outcome for one in studies)
    said = " | ".join(str(counts[name]) for name in ("right", "abstained", "wrong"))
    by_value = sum(one.by_value == "wrong" for one in studies)
    print(f"| {gap} | {runs} | {len(studies)} | {said} | {by_value} |", flush=True)


if __name__ == "__main__":
    main()
