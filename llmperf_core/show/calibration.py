"""A calibration in words: one line beside results, a page for itself, and a JSON object."""

from collections.abc import Iterator, Mapping

from attrs import asdict

from llmperf_core.judge import Calibration, Spread
from llmperf_core.target import Json
from llmperf_core.units import (
    NS_PER_S,
    format_duration,
    format_number,
    ms_from_ns,
    per_second,
    percent,
    us_from_ns,
)

_LIMITS = {
    "coalesced": "tokens came together",
    "read_lag": "tokens were read a whole gap late",
    "reference": "the reference server could not keep up",
    "tried": "no more was tried",
}


def calibrated(found: Calibration) -> str:
    """Return in one line how far the instrument can be trusted, and since when."""
    which, error_ns = found.stamp_error.high
    parts = [f"stamps ±{format_duration(error_ns)} ({which})"]
    if found.read_lag is not None:
        parts.append(f"reads within {format_duration(found.read_lag.high[1])}")
    line = f"instrument: {', '.join(parts)}, at {_played(found)}; calibrated {found.calibrated_at}"
    if found.status == "degraded":
        line += f"; DEGRADED: {', '.join(reason.code for reason in found.reasons)}"
    return line


def calibration_lines(found: Calibration) -> Iterator[str]:
    """Yield a calibration as lines of text: each figure with what it is, and the judgement."""
    yield f"{found.load_kind} {found.load_value:g}: {found.status}"
    for reason in found.reasons:
        yield f"  {reason.code}: {reason.detail}"
    figures = list(_figures(found))
    width = max(len(figure) for _, figure, _ in figures)
    for name, figure, what in figures:
        yield f"  {name:<11}  {figure:<{width}}  {what}"
    yield f"  {_played(found)}, calibrated {found.calibrated_at}"


def calibration_document(found: Calibration) -> Mapping[str, Json]:
    """Return a calibration as JSON types, in the units that its keys name."""
    return {
        "status": found.status,
        "reasons": [asdict(reason) for reason in found.reasons],
        "calibrated_at": found.calibrated_at,
        "load": {"kind": found.load_kind, "value": found.load_value},
        "streams": found.streams,
        "gap_ms": ms_from_ns(found.gap_ns),
        "events_per_s": found.events_per_s,
        "failed": found.failed,
        "stamps": found.stamps,
        "stamp_error": _spread(found.stamp_error),
        "read_lag": _spread(found.read_lag),
        "lag": _spread(found.lag),
        "coalesced_share": found.coalesced_share,
        "cpu_per_token_us": us_from_ns(found.cpu_per_token_ns),
        "held_events_per_s": found.held_events_per_s,
        "limit": found.limit,
        "reference_late": _spread(found.reference_late),
    }


def _played(found: Calibration) -> str:
    per_stream = per_second(1, found.gap_ns)
    streams = "stream" if found.streams == 1 else "streams"
    return f"{found.streams:,} {streams} × {format_number(per_stream)} tokens/s"


def _figures(found: Calibration) -> Iterator[tuple[str, str, str]]:
    yield (
        "stamp error",
        _in_words(found.stamp_error),
        f"our stamp − the server's, by {found.stamps}",
    )
    yield "read lag", _in_words(found.read_lag), "read by the program − received by the kernel"
    yield "lag", _in_words(found.lag), "sent − due"
    share = percent(found.coalesced_share)
    yield "coalesced", share, "tokens that came in one read with an earlier one"
    busy = found.cpu_per_token_ns * found.events_per_s / NS_PER_S
    figure = f"{format_duration(found.cpu_per_token_ns)} a token"
    yield "client CPU", figure, f"{percent(busy)} of a core at this load"
    held = found.held_events_per_s
    figure = "less than this load" if held is None else f"{format_number(held)} tokens/s"
    yield "holds", figure, f"the highest load seen to go well; {_LIMITS[found.limit]}"
    yield "server late", _in_words(found.reference_late), "the reference server's own lateness"


def _in_words(spread: Spread | None) -> str:
    if spread is None:
        return "not known"
    named = (("p50", spread.p50_ns), ("p99", spread.p99_ns), ("p99.9", spread.p99_9_ns))
    parts = [f"{name} {format_duration(value)}" for name, value in named if value is not None]
    if spread.p99_ns is None:
        parts.append(f"max {format_duration(spread.max_ns)}")
    return ", ".join(parts)


def _spread(spread: Spread | None) -> Mapping[str, Json] | None:
    if spread is None:
        return None
    percentiles = {"p50": spread.p50_ns, "p99": spread.p99_ns, "p99_9": spread.p99_9_ns}
    return {
        "unit": "ms",
        "count": spread.count,
        **{name: None if ns is None else ms_from_ns(ns) for name, ns in percentiles.items()},
        "max": ms_from_ns(spread.max_ns),
    }
