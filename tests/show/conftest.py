"""Judged stages to show."""

from collections.abc import Callable

import pytest

from llmperf_core.judge import Slo, judge, summarize
from llmperf_core.load import Concurrency, LoadProfile
from llmperf_core.show import StageView
from llmperf_core.timeline import Completed, Failed, Observation, Timeline, TokenCount, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S

OBSERVATION = Observation(
    window=Window(open_at_ns=2 * NS_PER_S, close_at_ns=12 * NS_PER_S),
    ended_at_ns=13 * NS_PER_S,
    started_at="2024-01-01T00:00:00Z",
    client_cpu_ns=NS_PER_S,
    reads=1000,
)


def request(index: int, count: int, *, failed: bool) -> Timeline:
    """Return one of `count` requests that are sent over the window, each of ten tokens."""
    sent = 2 * NS_PER_S + index * 10 * NS_PER_S // count
    token_at_ns = [sent + (100 + index % 50 + 20 * k) * NS_PER_MS for k in range(10)]
    return Timeline(
        index=index,
        due_at_ns=None,
        sent_at_ns=sent,
        token_at_ns=token_at_ns,
        read_lag_ns=[40_000] * 10,
        ended_at_ns=token_at_ns[-1],
        outcome=Failed("http_429") if failed else Completed("length"),
        tokens=TokenCount(output=10, input=5, counted_by="usage"),
        stamps="kernel",
    )


def stage_of(
    *, load: LoadProfile | None = None, count: int = 400, failed: int = 0, slo: Slo | None = None
) -> StageView:
    """Return a judged stage of so many requests, some of them failed."""
    load = load or Concurrency(20)
    requests = [request(k, count, failed=k < failed) for k in range(count)]
    summary = summarize(requests, OBSERVATION, load=load, slo=slo)
    return StageView(load, summary, judge(summary, OBSERVATION))


@pytest.fixture(scope="session")
def stage() -> Callable[..., StageView]:
    """Return what makes a judged stage."""
    return stage_of
