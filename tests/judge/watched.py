"""Stages that were watched, made up so that every figure is known."""

from collections.abc import Iterable, Mapping

from llmperf_core.judge import Reason, as_watched, judge, summarize, watch
from llmperf_core.load import Concurrency
from llmperf_core.telemetry import Sample, Telemetry
from llmperf_core.timeline import Completed, Failed, Observation, Timeline, TokenCount, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S

WINDOW = Window(open_at_ns=2 * NS_PER_S, close_at_ns=12 * NS_PER_S)
OBSERVATION = Observation(
    window=WINDOW, ended_at_ns=13 * NS_PER_S, started_at="", client_cpu_ns=0, reads=1_000
)
TOKENS = 10


def requests(count: int = 130, *, server_ns: Mapping[str, int] | None = None) -> list[Timeline]:
    """Return requests that are sent each tenth of a second from 0 on and take half a second.

    Each has ten tokens, 50 ms apart, the last of which ends it.
    """
    return [
        Timeline(
            index=k,
            due_at_ns=None,
            sent_at_ns=(sent_ns := k * 100 * NS_PER_MS),
            token_at_ns=[sent_ns + (n + 1) * 50 * NS_PER_MS for n in range(TOKENS)],
            ended_at_ns=sent_ns + 500 * NS_PER_MS,
            outcome=Completed("length"),
            tokens=TokenCount(output=TOKENS, counted_by="usage"),
            server_ns=server_ns or {},
            stamps="kernel",
        )
        for k in range(count)
    ]


def failed(at_ns: int) -> Timeline:
    """Return a request that failed then."""
    return Timeline(
        index=999, due_at_ns=None, sent_at_ns=at_ns, ended_at_ns=at_ns, outcome=Failed("http_500")
    )


def telemetry(
    readings: Iterable[Mapping[str, float]], *, meter: str = "server", first_s: float = 0.0
) -> Telemetry:
    """Return readings of one meter, a second apart."""
    samples = (
        Sample(at_ns=round((first_s + k) * NS_PER_S), meter=meter, values=values)
        for k, values in enumerate(readings)
    )
    return Telemetry(meters={meter: "a server"}, samples=tuple(samples))


def counted(
    word: str, *, per_s: float = 100.0, requests_per_s: float | None = 10.0, seconds: int = 14
) -> Telemetry:
    """Return readings of a server whose counters rise steadily, as those of `requests` do."""
    readings = []
    for second in range(seconds):
        values = {word: per_s * second}
        if requests_per_s is not None:
            values["requests"] = requests_per_s * second
        readings.append(values)
    return telemetry(readings)


def reasons(found: Telemetry, timelines: list[Timeline]) -> dict[str, Reason]:
    """Return what the readings make of a stage, by code."""
    summary = summarize(timelines, OBSERVATION, load=Concurrency(5))
    checks = as_watched(watch(found, timelines, WINDOW))
    verdict = judge(summary, OBSERVATION, checks=checks)
    return {reason.code: reason for reason in verdict.reasons}
