"""A stage of which only figures are left, and no request: what others published of theirs."""

from collections.abc import Mapping, Sequence

from attrs import evolve, field, frozen

from llmperf_core.judge.intervals import PERCENTILES, supports
from llmperf_core.judge.metrics import Direction, Metric, Values
from llmperf_core.judge.quantity import Quantity
from llmperf_core.judge.summary import MetricSummary, Summary, summarize, summarize_metric
from llmperf_core.load import LoadProfile
from llmperf_core.timeline import CountedBy, Observation, Timeline, int64


@frozen(kw_only=True)
class MetricFigures:
    """What is known of one metric's distribution. Times are in nanoseconds."""

    name: str
    description: str
    unit: str = "ms"
    direction: Direction = "lower"
    count: int
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    percentiles: Mapping[str, float] = field(factory=dict)
    """By the percentile, such as `"99.9"`. Those that the count cannot support are not shown."""


def _figures(figures: Sequence[MetricFigures]) -> tuple[MetricFigures, ...]:
    return tuple(figures)


@frozen(kw_only=True)
class Aggregate:
    """What is known of a stage."""

    completed: int
    failed: int
    metrics: tuple[MetricFigures, ...] = field(converter=_figures)
    output_tokens: int | None = None
    input_tokens: int | None = None
    counted_by: CountedBy | None = None
    output_tokens_per_s: float | None = None
    requests_per_s: float | None = None


def summary_of(aggregate: Aggregate, observation: Observation, *, load: LoadProfile) -> Summary:
    """Return what is known of a stage as a summary; what is not known is None in it."""
    nothing = summarize([], observation, load=load, metrics=())
    return evolve(
        nothing,
        requests=evolve(nothing.requests, completed=aggregate.completed, failed=aggregate.failed),
        tokens=evolve(
            nothing.tokens,
            output=aggregate.output_tokens or 0,
            input=aggregate.input_tokens,
            counted_by=aggregate.counted_by,
        ),
        metrics={figures.name: _metric_summary(figures) for figures in aggregate.metrics},
        output_tokens_per_s=_rate(aggregate.output_tokens_per_s, "tok/s"),
        requests_per_s=_rate(aggregate.requests_per_s, "req/s"),
        asked=None,
        offered=None,
    )


def _rate(value: float | None, unit: str) -> Quantity | None:
    return None if value is None else Quantity(value, unit)


def _metric_summary(figures: MetricFigures) -> MetricSummary:
    metric = Metric(
        name=figures.name,
        of=_no_values,
        description=figures.description,
        unit=figures.unit,
        direction=figures.direction,
    )
    known = {p: figures.percentiles.get(f"{p:g}") for p in PERCENTILES}
    return evolve(
        summarize_metric(metric, []),
        count=figures.count,
        mean_ns=figures.mean,
        min_ns=None if figures.min is None else round(figures.min),
        max_ns=None if figures.max is None else round(figures.max),
        percentiles={p: v if supports(figures.count, p) else None for p, v in known.items()},
    )


def _no_values(_timeline: Timeline) -> Values:
    return int64(())
