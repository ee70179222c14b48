"""The JSON document of `--json`: a contract that scripts rely on. Design section 9."""

import math
from collections.abc import Mapping

from attrs import asdict

from llmperf_core.judge import MetricSummary, Quantity, Summary, Verdict
from llmperf_core.load import load_label
from llmperf_core.show.calibration import calibration_document
from llmperf_core.show.telemetry import split_document, watch_document
from llmperf_core.show.view import RunView, StageView
from llmperf_core.target import Json
from llmperf_core.units import s_from_ns

SCHEMA = "llmperf.summary/1"
"""Keys may be added under it; one that changes or goes makes it `/2`."""
# Of a millisecond, these are nanoseconds: nothing that was measured is rounded away.
_DECIMALS = 6


def run_document(view: RunView) -> dict[str, Json]:
    """Return the document of a run: JSON types only, no NaN, None for what is not known."""
    return {
        "schema": SCHEMA,
        "target": view.target,
        "simulated": view.simulated,
        "environment": _environment(view),
        "stages": [stage_document(stage) for stage in view.stages],
    }


def _environment(view: RunView) -> Mapping[str, Json]:
    if view.calibration is None:
        return view.environment
    return {**view.environment, "calibration": calibration_document(view.calibration)}


def stage_document(view: StageView) -> dict[str, Json]:
    """Return one entry of the run's `stages`."""
    summary = view.summary
    return {
        "load": {
            "kind": view.load.kind,
            "value": view.load.value,
            "label": load_label(view.load),
        },
        "window_s": _rounded(s_from_ns(summary.window.duration_ns)),
        "window": {
            "open_s": _rounded(s_from_ns(summary.window.open_at_ns)),
            "close_s": _rounded(s_from_ns(summary.window.close_at_ns)),
            "warmup_detected_s": _rounded(s_from_ns(summary.warmup_detected_ns)),
        },
        "requests": asdict(summary.requests),
        "tokens": asdict(summary.tokens),
        "rates": _rates(summary),
        "goodput": _goodput(summary),
        "metrics": {name: _metric(metric) for name, metric in summary.metrics.items()},
        "coalesced_share": _rounded(summary.coalesced_share),
        "early_end_share": _rounded(summary.early_end_share),
        "mean_in_flight": _rounded(summary.mean_in_flight),
        "offered": _offered(summary),
        "connections": asdict(summary.connections),
        "stamps": summary.stamps,
        "telemetry": watch_document(view.watch),
        "time_split": split_document(view.split),
        "verdict": _verdict(view.verdict),
    }


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(value, _DECIMALS)


def _pair(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [_rounded(interval[0]), _rounded(interval[1])]


def _value(quantity: Quantity | None) -> float | None:
    return None if quantity is None else _rounded(quantity.value)


def _rate(quantity: Quantity | None) -> dict[str, Json]:
    return {
        "value": _value(quantity),
        "ci95": None if quantity is None else _pair(quantity.ci95),
    }


def _rates(summary: Summary) -> dict[str, Json]:
    return {
        "output_tokens_per_s": _rate(summary.output_tokens_per_s),
        "requests_per_s": _rate(summary.requests_per_s),
    }


def _goodput(summary: Summary) -> dict[str, Json] | None:
    if summary.slo is None:
        return None
    return {**_rate(summary.goodput), "slo": asdict(summary.slo)}


def _offered(summary: Summary) -> dict[str, Json] | None:
    if summary.asked is None:
        return None
    return {"asked": summary.asked, "sent": summary.offered}


def _metric(metric: MetricSummary) -> dict[str, Json]:
    found: Mapping[str, Quantity | None] = {
        f"p{percentile:g}".replace(".", "_"): metric.percentile(percentile)
        for percentile in metric.percentiles
    }
    return {
        "unit": metric.metric.unit,
        "count": metric.count,
        "censored": metric.censored,
        "mean": _value(metric.mean),
        "min": _value(metric.min),
        "max": _value(metric.max),
        **{name: _value(quantity) for name, quantity in found.items()},
        "ci95": {
            name: _pair(quantity.ci95)
            for name, quantity in found.items()
            if quantity is not None and quantity.ci95 is not None
        },
    }


def _verdict(verdict: Verdict) -> dict[str, Json]:
    return {
        "status": verdict.status,
        "reasons": [asdict(reason) for reason in verdict.reasons],
    }
