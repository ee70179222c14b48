"""Do the 95 % intervals hold the truth in 95 of 100 runs? Simulated queues whose truth is known.

    python benchmarks/coverage.py [--runs 1000] [--seed 1] [--only NAME]

Each run is a stage in virtual time: requests of an open or a closed loop wait in one queue for
several servers. It is judged by `summarize` as a measured one is. The truth comes from runs that
are a hundred times as long in all.
"""

import argparse
import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from llmperf_core.judge import E2E, Summary, summarize
from llmperf_core.judge.intervals import level_interval
from llmperf_core.judge.metrics import all_values, samples
from llmperf_core.judge.precision import LOOKS, Precision, Watch
from llmperf_core.load import Concurrency, LoadProfile, Poisson
from llmperf_core.timeline import Censored, Completed, Observation, Timeline, Window
from llmperf_core.units import NS_PER_S

Times = npt.NDArray[np.float64]
PERCENTILES = (50, 90, 99)
FIGURES = ("p50", "p90", "p99", "req/s")
_TRUTH_RUNS, _TRUTH_S, _SETTLE_S = 400, 2000.0, 200.0


@frozen(kw_only=True)
class Model:
    """A queue. Its mean service time is a second, when it has warmed up."""

    name: str
    servers: int
    slots: int | None = None
    """Requests in flight in a closed loop."""
    rate_rps: float = 0.0
    """Poisson arrivals of an open loop."""
    variation: float = 1.0
    """Standard deviation ÷ mean of the service times, which are log-normal."""
    drift: float = 0.0
    """Size of a slow random change of all service times, on the logarithm."""
    memory_s: float = 3.0
    """How long the change is remembered: the time constant of its autoregression."""
    slow_start: float = 0.0
    """By how much the first request is slower than usual, in parts of its service time."""
    slow_start_s: float = 20.0
    """Its time constant."""

    @property
    def load(self) -> LoadProfile:
        """The load as a stage is asked for it."""
        return Poisson(self.rate_rps) if self.slots is None else Concurrency(self.slots)


MODELS = (
    Model(name="open loop, 8 servers, 60 % busy", servers=8, rate_rps=4.8),
    Model(
        name="open loop, as above, service times vary half as much",
        servers=8,
        rate_rps=4.8,
        variation=0.5,
    ),
    Model(name="closed loop, 20 slots, 8 servers", servers=8, slots=20, variation=0.5),
    Model(
        name="closed loop, 10 slots, a server each, drifting",
        servers=10,
        slots=10,
        variation=0.5,
        drift=0.15,
    ),
)
SHORT = (
    Model(name="open loop, nobody waits", servers=150, rate_rps=60, variation=0.5),
    Model(name="closed loop, 60 slots, a server each", servers=60, slots=60, variation=0.5),
)
SLOW_STARTS = tuple(
    evolve(model, name=f"{model.name}, slow start", slow_start=1.5) for model in MODELS[::2]
)


def simulate(
    model: Model, rng: np.random.Generator, *, runs: int, until_s: float
) -> tuple[Times, Times]:
    """Return when requests start and end: both of shape (runs, n), the starts in order."""
    each = np.arange(runs)
    free, ready = np.zeros((runs, model.servers)), np.zeros((runs, model.slots or 1))
    log_deviation = np.sqrt(np.log1p(model.variation**2))
    level, last = rng.normal(size=runs), np.zeros(runs)
    starts, ends = [], []
    while ready.min() < until_s:
        slot, server = ready.argmin(axis=1), free.argmin(axis=1)
        start = ready[each, slot]
        begin = np.maximum(start, free[each, server])
        memory = np.exp(-(begin - last) / model.memory_s)
        level = memory * level + np.sqrt(1 - memory**2) * rng.normal(size=runs)
        last = begin
        service = rng.lognormal(-(log_deviation**2) / 2, log_deviation, runs)
        service *= 1 + model.slow_start * np.exp(-begin / model.slow_start_s)
        end = begin + service * np.exp(model.drift * level)
        free[each, server] = end
        ready[each, slot] = (
            start + rng.exponential(1 / model.rate_rps, runs) if model.slots is None else end
        )
        starts.append(start)
        ends.append(end)
    return np.array(starts).T, np.array(ends).T


def truth_of(
    model: Model, rng: np.random.Generator, *, runs: int = _TRUTH_RUNS
) -> Mapping[str, float]:
    """Return the figures of the model after its warm-up, in milliseconds and per second.

    Where no request waits they are those of the log-normal distribution itself.
    """
    if model in SHORT:
        deviation = np.sqrt(np.log1p(model.variation**2))
        law = NormalDist(-(deviation**2) / 2, deviation)
        exact = [1000 * math.exp(law.inv_cdf(p / 100)) for p in PERCENTILES]
        return dict(zip(FIGURES, [*exact, model.rate_rps or float(model.servers)], strict=True))
    settled = evolve(model, slow_start=0.0)
    until_s = _SETTLE_S + _TRUTH_S
    starts, ends = simulate(settled, rng, runs=runs, until_s=until_s)
    inside = (starts >= _SETTLE_S) & (starts < until_s)
    found = 1000 * np.percentile((ends - starts)[inside], PERCENTILES)
    ended = np.count_nonzero((ends >= _SETTLE_S) & (ends < until_s))
    rate = ended / runs / _TRUTH_S
    return dict(zip(FIGURES, [*found, model.rate_rps or rate], strict=True))


def timelines_of(starts: Times, ends: Times, *, open_loop: bool) -> list[Timeline]:
    """Return one run's requests as a stage records them."""
    whole = (np.stack((starts, ends)) * NS_PER_S).astype(np.int64)
    return [
        Timeline(
            index=index,
            due_at_ns=start if open_loop else None,
            sent_at_ns=start,
            ended_at_ns=end,
            outcome=Completed(),
        )
        for index, (start, end) in enumerate(whole.T.tolist())
    ]


def stages(
    model: Model, rng: np.random.Generator, *, runs: int, window: Window
) -> Iterator[list[Timeline]]:
    """Yield the requests of so many runs that started before the window's close."""
    until_s = window.close_at_ns / NS_PER_S
    starts, ends = simulate(model, rng, runs=runs, until_s=until_s)
    for start, end in zip(starts, ends, strict=True):
        before = start < until_s
        yield timelines_of(start[before], end[before], open_loop=model.slots is None)


def observation_of(window: Window) -> Observation:
    """Return what a harness without fault saw."""
    return Observation(
        window=window, ended_at_ns=window.close_at_ns, started_at="", client_cpu_ns=0
    )


def cut_off(timelines: list[Timeline], at_ns: int) -> list[Timeline]:
    """Return the requests as a deadline leaves them."""
    return [
        evolve(t, ended_at_ns=at_ns, outcome=Censored()) if t.ended_at_ns > at_ns else t
        for t in timelines
    ]


def judged(
    model: Model, timelines: list[Timeline], window: Window, *, detect_warmup: bool = True
) -> Summary:
    """Return the summary of one run."""
    return summarize(
        timelines,
        observation_of(window),
        load=model.load,
        metrics=[E2E],
        detect_warmup=detect_warmup,
    )


def stopped(precision: Precision, timelines: list[Timeline], window: Window) -> Window:
    """Return the window as it is where a stage may stop early."""
    ended = sorted(timelines, key=lambda t: t.ended_at_ns)
    watch, noted = Watch(precision), 0
    for share in LOOKS:
        look = evolve(window, close_at_ns=window.open_at_ns + round(share * window.duration_ns))
        while noted < len(ended) and ended[noted].ended_at_ns < look.close_at_ns:
            watch.note(ended[noted])
            noted += 1
        if watch.is_enough(look):
            return look
    return window


class Tally:
    """How often the intervals of each figure held the truth, and how far off the values were."""

    def __init__(self, truth: Mapping[str, float]) -> None:
        self._truth = truth
        self._held = dict.fromkeys(truth, 0)
        self._known = dict.fromkeys(truth, 0)
        self._sums = dict.fromkeys(truth, 0.0)
        self.runs = 0
        self.windows_s = 0.0
        self.censored_share = 0.0
        """Of the latest run."""

    def note(self, summary: Summary) -> None:
        """Take in the summary of a run."""
        e2e = summary["e2e"]
        found = dict(zip(FIGURES, [e2e.p50, e2e.p90, e2e.p99, summary.requests_per_s], strict=True))
        self.runs += 1
        self.censored_share = summary.requests.censored_share
        self.windows_s += summary.window.duration_ns / NS_PER_S
        for name, quantity in found.items():
            if name not in self._truth or quantity is None or quantity.ci95 is None:
                continue
            self._known[name] += 1
            self._sums[name] += quantity.value
            self._held[name] += quantity.ci95[0] <= self._truth[name] <= quantity.ci95[1]

    def coverage(self, name: str) -> float:
        """Return the share of the intervals that held the truth."""
        return self._held[name] / self._known[name] if self._known[name] else float("nan")

    def bias(self, name: str) -> float:
        """Return (mean of the values − truth) ÷ truth."""
        known = self._known[name]
        return self._sums[name] / known / self._truth[name] - 1 if known else float("nan")

    def row(self, label: str) -> str:
        """Return a line of the table."""
        cells = " | ".join(map(self._cell, self._truth))
        return f"| {label} | {cells} | {self.windows_s / self.runs:.0f} s |"

    def _cell(self, name: str) -> str:
        known = self._known[name]
        if not known:
            return "none"
        none = f", {self.runs - known} none" if known < self.runs else ""
        return f"{100 * self.coverage(name):.1f} ({100 * self.bias(name):+.1f}){none}"


def naive(timelines: list[Timeline], window: Window, truth: Mapping[str, float]) -> list[bool]:
    """Return whether intervals that take every request for independent hold the truth."""
    ordered = np.sort(all_values(E2E, samples(timelines, window)))
    levels = [level_interval(p, ordered.size) for p in PERCENTILES]
    intervals = [np.percentile(ordered, level) for level in levels if level is not None]
    truths = [1e6 * truth[f"p{p}"] for p in PERCENTILES]
    return [bool(low <= t <= high) for t, (low, high) in zip(truths, intervals, strict=True)]


def window_of(open_s: float, close_s: float) -> Window:
    """Return the window between two instants in seconds."""
    return Window(open_at_ns=round(open_s * NS_PER_S), close_at_ns=round(close_s * NS_PER_S))


STEADY = window_of(30, 430)
FROM_THE_START = window_of(0, 400)


def study_steady(model: Model, rng: np.random.Generator, runs: int) -> list[str]:
    """Return the rows of a model that has settled before the window opens."""
    truth = truth_of(model, rng)
    whole, alone = Tally(truth), []
    for timelines in stages(model, rng, runs=runs, window=STEADY):
        whole.note(judged(model, timelines, STEADY))
        alone.append(naive(timelines, STEADY, truth))
    shares = " | ".join(f"{100 * share:.1f}" for share in np.mean(alone, axis=0))
    return [whole.row(model.name), f"| as above, if requests were independent | {shares} | | |"]


def study_slow_start(model: Model, rng: np.random.Generator, runs: int) -> list[str]:
    """Return the rows of a model that warms up inside the window: with and without detection."""
    truth = truth_of(model, rng)
    planned, detected = Tally(truth), Tally(truth)
    for timelines in stages(model, rng, runs=runs, window=FROM_THE_START):
        planned.note(judged(model, timelines, FROM_THE_START, detect_warmup=False))
        detected.note(judged(model, timelines, FROM_THE_START))
    return [
        planned.row(f"{model.name}: window as planned"),
        detected.row(f"{model.name}: warm-up detected"),
    ]


def study_deadline(model: Model, rng: np.random.Generator, runs: int) -> list[str]:
    """Return the rows of a model whose requests are cut off when a window of six of them closes.

    That is a window of 30 s over requests of 5 s, without a drain.
    """
    truth = truth_of(model, rng)
    window = window_of(30, 36)
    estimated, seen = Tally(truth), Tally(truth)
    shares = []
    for timelines in stages(model, rng, runs=runs, window=window):
        cut = cut_off(timelines, window.close_at_ns)
        estimated.note(judged(model, cut, window))
        shares.append(estimated.censored_share)
        seen.note(judged(model, [t for t in cut if t.completed], window))
    name = f"{model.name}, cut off at the close ({100 * np.mean(shares):.0f} % censored)"
    return [
        estimated.row(f"{name}: Kaplan–Meier"),
        seen.row(f"{name}: if only completed requests counted"),
    ]


def study_precision(model: Model, rng: np.random.Generator, runs: int) -> list[str]:
    """Return the rows of a model whose stages stop where the median is known to 5 %.

    In the second, each is as long as the one before it was: no stage chose its own length.
    """
    truth = truth_of(model, rng)
    early, fixed = Tally(truth), Tally(truth)
    window = STEADY
    for timelines in stages(model, rng, runs=runs, window=STEADY):
        fixed.note(judged(model, timelines, window))
        window = stopped(Precision("e2e", 50, relative=0.05), timelines, STEADY)
        early.note(judged(model, timelines, window))
    return [
        early.row(f"{model.name}: stops at e2e p50 ± 5 %"),
        fixed.row(f"{model.name}: as long, for no reason of its own"),
    ]


STUDIES = {
    "steady": (study_steady, MODELS),
    "slow-start": (study_slow_start, SLOW_STARTS),
    "deadline": (study_deadline, SHORT),
    "precision": (study_precision, MODELS[::2]),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=STUDIES, action="append")
    given = parser.parse_args()
    print(f"Coverage in % of {given.runs:,} runs, and in brackets the bias of the value in %.\n")
    print("| model | " + " | ".join(FIGURES) + " | window |")
    print("|---|" + "---|" * (len(FIGURES) + 1))
    for number, (name, (study, models)) in enumerate(STUDIES.items()):
        if given.only and name not in given.only:
            continue
        for model in models:
            rng = np.random.default_rng([given.seed, number])
            print("\n".join(study(model, rng, given.runs)), flush=True)


if __name__ == "__main__":
    main()
