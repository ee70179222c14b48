"""Candidates made by hand."""

from collections.abc import Mapping, Sequence

from llmperf_core.bringup import Price
from llmperf_core.decide import Candidate
from llmperf_core.judge import Estimate, Estimates, Figure
from llmperf_core.judge.estimate import RATES
from llmperf_core.load import Concurrency

PER_TOKEN = Figure(metric="time_per_token", statistic="p50", unit="ms", direction="lower")
TTFT = Figure(metric="ttft", statistic="p99", unit="ms", direction="lower")
SPREAD = 0.005
FREEDOM = 19


def price(usd_per_h: float) -> Price:
    """Return a price."""
    return Price(usd_per_h=usd_per_h, as_of="2026-11-25", source="a test")


def figures(
    tokens_per_s: float, ms: float = 20.0, spread: float | None = SPREAD
) -> dict[Figure, Estimate]:
    """Return the figures of one run."""
    freedom = 0 if spread is None else FREEDOM
    return {
        RATES["output_tokens_per_s"]: Estimate(tokens_per_s, spread, freedom),
        RATES["requests_per_s"]: Estimate(tokens_per_s / 50, spread, freedom),
        PER_TOKEN: Estimate(ms, spread, freedom),
        TTFT: Estimate(10 * ms, spread, freedom),
    }


def candidate(
    target: str, *repeats: Estimates | float, load: int = 20, usd_per_h: float | None = 1.0
) -> Candidate:
    """Return a target under a load, of the figures or the tokens per second of each run."""
    return Candidate(
        target=target,
        load=Concurrency(load),
        repeats=[one if isinstance(one, Mapping) else figures(one) for one in repeats],
        price=None if usd_per_h is None else price(usd_per_h),
    )


def targets(ranked: Sequence[Candidate]) -> list[str]:
    """Return the targets of candidates."""
    return [one.target for one in ranked]
