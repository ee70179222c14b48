"""What is shown: stages and runs as every form of output takes them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from attrs import Factory, field, frozen

from llmperf_core.judge import Calibration, MetricSummary, Quantity, Split, Summary, Verdict, Watch
from llmperf_core.load import LoadProfile, load_label
from llmperf_core.target import Json
from llmperf_core.units import format_duration, format_number, percent

Row = TypeVar("Row")


@frozen
class StageView:
    """A stage that has been judged."""

    load: LoadProfile
    summary: Summary
    verdict: Verdict
    watch: Watch | None = None
    """What was read of the server and its machine; None if nothing was."""
    split: Split | None = None
    """Where the time of a request went; None if that is not known."""


def _in_order(stages: Iterable[StageView]) -> tuple[StageView, ...]:
    return tuple(stages)


@frozen
class RunView:
    """Stages of one target, in the order in which they ran."""

    target: str
    """What to call it. Shown as it is given, so no secret may be in it."""
    stages: tuple[StageView, ...] = field(converter=_in_order)
    simulated: bool = False
    """A simulator, not a model. Every form of output says so."""
    environment: Mapping[str, Json] = Factory(dict)
    """Where and with what it was measured."""
    calibration: Calibration | None = None
    """The instrument's own error there; None if it was not calibrated."""


@frozen
class Column(Generic[Row]):
    """One column of a table, as the terminal and the notebook show it."""

    heading: str
    """May have two lines: what, and which of it or its unit."""
    cell: Callable[[Row], str]
    """May have two lines: a number, and its interval."""
    need: int
    """Where the room is short, the columns with the largest go first; 0 always stays."""
    numeric: bool = True


def number(quantity: Quantity | None) -> str:
    """Return the number of a quantity without its unit; an en dash for none."""
    return format_number(None if quantity is None else quantity.value)


def named(metric: str) -> str:
    """Return a metric's name as it stands in sentences: `TTFT`, `time per token`."""
    return metric.upper() if len(metric) <= 4 else metric.replace("_", " ")


def interval(quantity: Quantity | None) -> str:
    """Return the 95 % interval of a quantity in brackets; nothing where there is none."""
    if quantity is None or quantity.ci95 is None:
        return ""
    return f"[{format_number(quantity.ci95[0])}, {format_number(quantity.ci95[1])}]"


def instrument(view: StageView) -> str:
    """Return in words who stamped the arrivals, and the instrument's own error."""
    summary = view.summary
    parts = [f"stamps: {summary.stamps or 'none'}"]
    read_lag = summary.metrics.get("read_lag")
    if read_lag is not None and read_lag.count:
        p99_ns = read_lag.percentiles[99]
        which = "max" if p99_ns is None else "p99"
        lag_ns = read_lag.max_ns if p99_ns is None else p99_ns
        parts.append(f"read lag {which} {format_duration(lag_ns or 0)}")
    else:
        parts.append("read lag unknown")
    if summary.coalesced_share is not None:
        parts.append(f"{percent(summary.coalesced_share)} of tokens coalesced")
    return ", ".join(parts)


def in_a_word(view: StageView) -> str:
    """Return the counts of a stage in words: requests by what became of them, and tokens."""
    requests, tokens = view.summary.requests, view.summary.tokens
    parts = [f"{requests.completed:,} completed", f"{requests.failed:,} failed"]
    if requests.cancelled:
        parts.append(f"{requests.cancelled:,} cancelled by the workload")
    if requests.censored:
        parts.append(f"{requests.censored:,} censored ({percent(requests.censored_share)})")
    if tokens.counted_by is not None:
        parts.append(f"{tokens.output:,} output tokens (counted by {tokens.counted_by})")
    if view.summary.warmup_detected_ns:
        left_out = format_duration(view.summary.warmup_detected_ns)
        parts.append(f"{left_out} of warm-up left out")
    return ", ".join(parts)


def measured(summary: Summary) -> list[MetricSummary]:
    """Return the distributions that have values, in order."""
    return [metric for metric in summary.metrics.values() if metric.count]


def stage_columns(stages: Sequence[StageView]) -> list[Column[StageView]]:
    """Return the columns of the table of these stages; goodput only where there is an SLO."""
    slo = any(stage.summary.slo is not None for stage in stages)
    return [column for column in _STAGE_COLUMNS if slo or column is not _GOODPUT]


def _of_stage(name: str, percentile: float, *, need: int) -> Column[StageView]:
    def cell(view: StageView) -> str:
        metric = view.summary.metrics.get(name)
        return number(None if metric is None else metric.percentile(percentile))

    return Column(f"{name.upper()}\np{percentile:g} ms", cell, need)


_GOODPUT = Column[StageView]("goodput\nreq/s", lambda view: number(view.summary.goodput), 4)
_STAGE_COLUMNS: tuple[Column[StageView], ...] = (
    Column("load", lambda view: load_label(view.load), 0, numeric=False),
    Column("verdict", lambda view: view.verdict.status, 0, numeric=False),
    Column("req/s", lambda view: number(view.summary.requests_per_s), 3),
    Column("tok/s", lambda view: number(view.summary.output_tokens_per_s), 1),
    _GOODPUT,
    _of_stage("ttft", 50, need=2),
    _of_stage("ttft", 95, need=10),
    _of_stage("ttft", 99, need=7),
    _of_stage("itl", 50, need=5),
    _of_stage("itl", 99, need=9),
    _of_stage("tpot", 50, need=11),
    _of_stage("e2e", 50, need=8),
    _of_stage("e2e", 95, need=12),
    Column("errors", lambda view: f"{view.summary.requests.failed:,}", 6),
)


def _of_metric(percentile: float, *, need: int) -> Column[MetricSummary]:
    def cell(metric: MetricSummary) -> str:
        quantity = metric.percentile(percentile)
        return f"{number(quantity)}\n{interval(quantity)}".rstrip()

    return Column(f"p{percentile:g}\n[95 %]", cell, need)


METRIC_COLUMNS: tuple[Column[MetricSummary], ...] = (
    Column("metric", lambda row: f"{row.metric.name} {row.metric.unit}", 0, numeric=False),
    Column("n", lambda row: f"{row.count:,}", 1),
    Column("mean", lambda row: number(row.mean), 4),
    _of_metric(50, need=0),
    _of_metric(90, need=6),
    _of_metric(95, need=3),
    _of_metric(99, need=2),
    _of_metric(99.9, need=7),
    Column("max", lambda row: number(row.max), 5),
)
"""The columns of the table of one stage's distributions."""
