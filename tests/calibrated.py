"""Calibrations that were never made, for what is done with one."""

from llmperf_core.judge import Calibration, Spread
from llmperf_core.units import NS_PER_MS, NS_PER_US


def spread(p99_ns: float, *, count: int = 4000) -> Spread:
    """Return a distribution by its 99th percentile; one of a few values has a maximum only."""
    known = count >= 368
    return Spread(
        count=count,
        p50_ns=p99_ns / 2,
        p99_ns=p99_ns if known else None,
        p99_9_ns=p99_ns if known else None,
        max_ns=p99_ns,
    )


GOOD = Calibration(
    load_kind="concurrency",
    load_value=100,
    streams=100,
    gap_ns=20 * NS_PER_MS,
    calibrated_at="2026-01-01T00:00:00+00:00",
    events_per_s=5000.0,
    failed=0,
    stamps="kernel",
    stamp_error=spread(9 * NS_PER_US),
    read_lag=spread(400 * NS_PER_US),
    lag=spread(300 * NS_PER_US),
    coalesced_share=0.0,
    cpu_per_token_ns=15_000.0,
    held_events_per_s=40_000.0,
    limit="reference",
    reference_late=spread(50 * NS_PER_US),
)
