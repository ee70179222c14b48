"""What AWS recorded of a stage, as readings on the run's clock."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from attrs import frozen

from llmperf_core.telemetry import Sample
from llmperf_core.timeline import Window
from llmperf_core.units import NS_PER_US, s_from_ns
from llmperf_sagemaker.cloudwatch import MINUTE, Minute
from llmperf_sagemaker.container_log import Success

_US = timedelta(microseconds=1)
_SUMS = (
    *("requests", "overhead_s", "model_s", "first_chunks", "first_chunk_s", "first_overhead_s"),
    *("errors_4xx", "errors_5xx"),
)
_OF_HOST: tuple[str, ...] = ("cpu_cores", "memory_use")


@frozen
class RunClock:
    """The run's clock and the wall's."""

    zero: datetime
    """The run's zero, with its time zone."""

    def wall(self, at_ns: int) -> datetime:
        """Return an instant of the run as a time of day, to the microsecond."""
        return self.zero + at_ns // NS_PER_US * _US

    def at_ns(self, wall: datetime) -> int:
        """Return a time of day as an instant of the run."""
        return (wall - self.zero) // _US * NS_PER_US


def server_samples(
    answers: Iterable[tuple[datetime, Success]], clock: RunClock, window: Window
) -> Iterator[Sample]:
    """Yield what the server's counters would have shown: after each answer, and at the edges.

    Args:
        answers: when each ended, and what the log says of it.
        clock: the run's.
        window: the stage's. Answers outside it do not count; if there are none, nothing is yielded.
    """
    ended = sorted(((clock.at_ns(at), said) for at, said in answers), key=lambda end: end[0])
    inside = [end for end in ended if end[0] in window]
    if not inside:
        return
    requests = tokens = total_ns = validation_ns = queue_ns = inference_ns = 0

    def counters(at_ns: int) -> Sample:
        values: dict[str, float] = {
            "requests": requests,
            "ended_tokens": tokens,
            "total_s": s_from_ns(total_ns),
            "validation_s": s_from_ns(validation_ns),
            "queue_s": s_from_ns(queue_ns),
            "inference_s": s_from_ns(inference_ns),
        }
        return Sample(at_ns=at_ns, meter="server", values=values)

    yield counters(window.open_at_ns)
    for at_ns, said in inside:
        requests += 1
        tokens += said.tokens or 0
        total_ns += said.total_ns
        validation_ns += said.validation_ns
        queue_ns += said.queue_ns
        inference_ns += said.inference_ns
        yield counters(at_ns)
    yield counters(window.close_at_ns)


def gateway_samples(minutes: Sequence[Minute], clock: RunClock) -> Iterator[Sample]:
    """Yield what SageMaker's counters would have shown when the minutes began and ended.

    Of streams, its own time is what it took until the first chunk, which is published apart.

    Args:
        minutes: in their order; if there was no request in them, nothing is yielded.
        clock: the run's.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    for minute in minutes:
        for word in _SUMS:
            if word in minute.values:
                sums[word] += minute.values[word]
    if not sums["requests"]:
        return
    first_s = sums.pop("first_overhead_s", None)
    if first_s is not None and sums["first_chunks"]:
        sums["overhead_s"] = first_s / sums["first_chunks"] * sums["requests"]
    begun_at_ns, ended_at_ns = clock.at_ns(minutes[0].at), clock.at_ns(minutes[-1].at + MINUTE)
    yield Sample(at_ns=begun_at_ns, meter="gateway", values=dict.fromkeys(sums, 0.0))
    yield Sample(at_ns=ended_at_ns, meter="gateway", values=dict(sums))


def machine_samples(
    minutes: Iterable[Minute], clock: RunClock, window: Window, *, gpus: int
) -> Iterator[Sample]:
    """Yield how busy the instances were, on average of the variant's, a reading for each minute.

    Args:
        minutes: what was published.
        clock: the run's.
        window: the stage's. A minute's reading is in the middle of its part of the window.
        gpus: of an instance; 0 if it is not known, and then how busy they were is not, either.
    """
    for minute in minutes:
        open_at_ns = max(window.open_at_ns, clock.at_ns(minute.at))
        close_at_ns = min(window.close_at_ns, clock.at_ns(minute.at + MINUTE))
        if open_at_ns >= close_at_ns:
            continue
        told, at_ns = minute.values, (open_at_ns + close_at_ns) // 2
        shares = {"busy": "gpu_busy", "memory_use": "gpu_memory_use"} if gpus else {}
        readings: dict[str, dict[str, float]] = {
            "gpus": {ours: told[word] / gpus for ours, word in shares.items() if word in told},
            "host": {ours: told[ours] for ours in _OF_HOST if ours in told},
        }
        for meter, values in readings.items():
            if values:
                yield Sample(at_ns=at_ns, meter=meter, values=values)
