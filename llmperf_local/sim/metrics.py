"""What the server counts, as Prometheus reads it.

Source: text-generation-inference 3.3, the names in `router/src/server.rs`; the text is Prometheus'
exposition format 0.0.4.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from attrs import Factory, define, field

from llmperf_core.units import NS_PER_S, NS_PER_US
from llmperf_local.sim.requests import Gauges, Ticket

_DURATIONS_NS = tuple(round(0.00015 * 1.5**power * NS_PER_S) for power in range(35))
_LATENESS_NS = tuple(
    round(step * 10**power * NS_PER_US) for power in range(6) for step in (1, 2, 5)
)


@define(eq=False)
class Histogram:
    """Durations in nanoseconds, or numbers of tokens, counted in buckets."""

    bounds: Sequence[float]
    unit: int = NS_PER_S
    """What is shown as 1."""
    counts: list[int] = field(init=False)
    sum: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def note(self, value: int) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        """Yield its lines: of durations, in seconds."""
        yield f"# TYPE {name} histogram"
        below = 0
        bounds = [f"{bound / self.unit:g}" for bound in self.bounds]
        for bound, count in zip([*bounds, "+Inf"], self.counts, strict=True):
            below += count
            yield f'{name}_bucket{{le="{bound}"}} {below}'
        yield f"{name}_sum {self.sum / self.unit:.9g}"
        yield f"{name}_count {below}"


def _durations() -> Histogram:
    return Histogram(_DURATIONS_NS)


def _tokens(metrics: "Metrics") -> Histogram:
    return Histogram([step * metrics.max_total_tokens / 100 for step in range(1, 101)], unit=1)


@define(eq=False)
class Metrics:
    """All that is counted."""

    max_total_tokens: int
    """Most tokens of a request, input and output."""
    requests: int = 0
    succeeded: int = 0
    failed: Counter[str] = field(factory=Counter)
    """By TGI's word for it: `overloaded`, `validation`, `dropped`, …"""
    duration: Histogram = field(factory=_durations)
    validation: Histogram = field(factory=_durations)
    queue: Histogram = field(factory=_durations)
    inference: Histogram = field(factory=_durations)
    time_per_token: Histogram = field(factory=_durations)
    generated_tokens: Histogram = field(default=Factory(_tokens, takes_self=True))
    input_length: Histogram = field(default=Factory(_tokens, takes_self=True))
    lateness: Histogram = field(factory=lambda: Histogram(_LATENESS_NS))

    def succeed(self, ticket: Ticket, *, began_at_ns: int, ended_at_ns: int) -> None:
        """Count a request that was answered whole."""
        self.succeeded += 1
        started_at_ns = ticket.started_at_ns or ticket.queued_at_ns
        self.duration.note(ended_at_ns - began_at_ns)
        self.validation.note(ticket.queued_at_ns - began_at_ns)
        self.queue.note(started_at_ns - ticket.queued_at_ns)
        self.inference.note(ended_at_ns - started_at_ns)
        self.time_per_token.note((ended_at_ns - started_at_ns) // max(1, ticket.generated))
        self.generated_tokens.note(ticket.generated)

    def text(self, gauges: Gauges) -> str:
        """Return everything, with how the scheduler stands."""
        lines = ["# TYPE tgi_request_count counter", f"tgi_request_count {self.requests}"]
        lines += ["# TYPE tgi_request_success counter", f"tgi_request_success {self.succeeded}"]
        lines += ["# TYPE tgi_request_failure counter"] if self.failed else []
        lines += [
            f'tgi_request_failure{{err="{error}"}} {count}' for error, count in self.failed.items()
        ]
        for name, value in (
            ("tgi_queue_size", gauges.queue_size),
            ("tgi_batch_current_size", gauges.batch_size),
            ("tgi_batch_current_max_tokens", gauges.batch_tokens),
        ):
            lines += [f"# TYPE {name} gauge", f"{name} {value}"]
        for name, histogram in (
            ("tgi_request_duration", self.duration),
            ("tgi_request_validation_duration", self.validation),
            ("tgi_request_queue_duration", self.queue),
            ("tgi_request_inference_duration", self.inference),
            ("tgi_request_mean_time_per_token_duration", self.time_per_token),
            ("tgi_request_generated_tokens", self.generated_tokens),
            ("tgi_request_input_length", self.input_length),
        ):
            lines += histogram.lines(name)
        # Ours, which no TGI has: how late the tokens left that the model had planned.
        lines += self.lateness.lines("llmperf_sim_lateness_seconds")
        return "\n".join(lines) + "\n"
