"""What a request must keep to count as good."""

from attrs import field, frozen
from attrs.validators import gt, optional

from llmperf_core.judge.metrics import E2E, ITL, TPOT, TTFT, Metric
from llmperf_core.timeline import Timeline
from llmperf_core.units import ns_from_ms


@frozen(kw_only=True)
class Slo:
    """Limits that a request must meet to count as good; None means no limit.

    Raises:
        ValueError: a limit is not positive.
    """

    ttft_ms: float | None = field(default=None, validator=optional(gt(0)))
    itl_ms: float | None = field(default=None, validator=optional(gt(0)))
    """For each gap: a request meets it if its largest gap does."""
    tpot_ms: float | None = field(default=None, validator=optional(gt(0)))
    e2e_ms: float | None = field(default=None, validator=optional(gt(0)))

    def met_by(self, timeline: Timeline) -> bool:
        """Return whether the request completed and kept every limit; reaching one keeps it.

        What was not seen was not kept: an answer that was not streamed meets no limit on
        its tokens. A single token has no gap, so it cannot break a limit on gaps.
        """
        return timeline.completed and all(
            _kept(metric, limit_ms, timeline) for metric, limit_ms in self._limits()
        )

    def _limits(self) -> tuple[tuple[Metric, float | None], ...]:
        return (
            (TTFT, self.ttft_ms),
            (ITL, self.itl_ms),
            (TPOT, self.tpot_ms),
            (E2E, self.e2e_ms),
        )


def _kept(metric: Metric, limit_ms: float | None, timeline: Timeline) -> bool:
    if limit_ms is None:
        return True
    values = metric.values(timeline)
    if values.size:
        return int(values.max()) <= ns_from_ms(limit_ms)
    return metric in (ITL, TPOT) and timeline.token_at_ns.size == 1
