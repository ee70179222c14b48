"""The readings of a server and its machine, in a line or two and as JSON."""

from collections.abc import Callable, Iterator, Mapping

from attrs import asdict

from llmperf_core.judge import Level, Split, Watch, Watched
from llmperf_core.target import Json
from llmperf_core.units import format_duration, format_number, ms_from_ns, ns_from_s, s_from_ns

_LEVELS: Mapping[str, Callable[[float], str]] = {
    "queued": lambda value: f"{format_number(value)} queued",
    "running": lambda value: f"{format_number(value)} running",
    "kv_use": lambda value: f"KV cache {_percent(value)}",
    "busy": lambda value: f"{_percent(value)} busy",
    "memory_bytes": lambda value: f"{format_number(value / 1e9)} GB",
    "memory_use": lambda value: f"{_percent(value)} of memory",
    "cpu_cores": lambda value: f"{format_number(value)} cores busy",
    "power_w": lambda value: f"{format_number(value)} W",
    "temperature_c": lambda value: f"{format_number(value)} °C",
    "sm_clock_mhz": lambda value: f"{format_number(value)} MHz",
}
"""How the mean of a state is said, in the order of saying."""


def watch_lines(seen: Watch | None, split: Split | None) -> list[str]:
    """Return what was read and where the time went, a line each; none where nothing is known."""
    lines = [] if seen is None else [_line(*meter) for meter in seen.meters.items()]
    if seen is not None and seen.joules_per_token is not None:
        lines.append(f"energy of the GPUs: {format_number(seen.joules_per_token)} J/output token")
    if split is not None:
        lines.append(_split_line(split))
    return lines


def _line(name: str, watched: Watched) -> str:
    said = ", ".join(_said(watched)) or "no readings in the window"
    return f"{name} ({watched.what}): {said}"


def _said(watched: Watched) -> Iterator[str]:
    for word, say in _LEVELS.items():
        if word in watched.levels:
            yield say(watched.levels[word].mean)
    rises, stretch = watched.rises, watched.stretch
    tokens = rises.get("ended_tokens", rises.get("output_tokens"))
    if stretch is not None and tokens is not None:
        yield f"{tokens:,.0f} output tokens counted in {format_duration(stretch.duration_ns)}"
    if stretch is not None and "cpu_s" in rises:
        yield f"{format_number(rises['cpu_s'] / s_from_ns(stretch.duration_ns))} cores busy"
    if rises.get("looked_up_tokens"):
        yield f"prefix cache hits {_percent(rises['cached_tokens'] / rises['looked_up_tokens'])}"
    yield from _gateway_said(rises)
    if watched.failures:
        yield f"{watched.failures} readings failed"


def _gateway_said(rises: Mapping[str, float]) -> Iterator[str]:
    """Say the mean times that a gateway tells, and the errors."""
    for word, count, name in (
        ("overhead_s", "requests", "own time"),
        ("model_s", "requests", "model"),
        ("first_chunk_s", "first_chunks", "first chunk"),
    ):
        if word in rises and rises.get(count):
            yield f"{name} {format_duration(ns_from_s(rises[word]) / rises[count])}"
    for word, name in (("errors_4xx", "4xx"), ("errors_5xx", "5xx")):
        if rises.get(word):
            yield f"{rises[word]:,.0f} answered {name}"


def _split_line(split: Split) -> str:
    parts = [*_ways(split), *_server_parts(split)]
    # The difference of two clocks' means: below zero it is noise about nothing, not a duration.
    said = " + ".join(
        f"{name} {'about 0' if value_ns < 0 else format_duration(value_ns)}"
        for name, value_ns in parts
    )
    return f"time of a request (mean, by the server's {split.told_by}): {said}"


def _ways(split: Split) -> list[tuple[str, float]]:
    """Return what it took to come to the server and back."""
    if split.gateway_ns is None:
        return [("network and gateway", split.network_ns)]
    return [("network", split.network_ns), ("gateway", split.gateway_ns)]


def _server_parts(split: Split) -> list[tuple[str, float]]:
    """Return the parts of the server's time that it tells; all of it where it tells none."""
    parts = {
        "validation": split.validation_ns,
        "queue": split.queue_ns,
        "inference": split.inference_ns,
    }
    told = [(name, value_ns) for name, value_ns in parts.items() if value_ns is not None]
    return told if split.inference_ns is not None else [("server", split.server_ns)]


def _percent(share: float) -> str:
    return f"{format_number(100 * share)} %"


def watch_document(seen: Watch | None) -> dict[str, Json] | None:
    """Return the readings as they stand in the `--json` document; None where there are none."""
    if seen is None:
        return None
    check = seen.crosscheck
    return {
        "meters": {name: _meter(watched) for name, watched in seen.meters.items()},
        "joules_per_output_token": seen.joules_per_token,
        "counted": None
        if check is None
        else {
            "requests": {"server": check.requests, "client": check.our_requests},
            "output_tokens": {"server": check.tokens, "client": check.our_tokens},
        },
    }


def _meter(watched: Watched) -> dict[str, Json]:
    stretch = watched.stretch
    return {
        "what": watched.what,
        "readings": watched.readings,
        "failures": watched.failures,
        "levels": {word: _level(level) for word, level in watched.levels.items()},
        "rises": dict(watched.rises),
        "stretch": None
        if stretch is None
        else {"open_s": s_from_ns(stretch.open_at_ns), "close_s": s_from_ns(stretch.close_at_ns)},
    }


def _level(level: Level) -> dict[str, Json]:
    return asdict(level)


def split_document(split: Split | None) -> dict[str, Json] | None:
    """Return where the time went, in milliseconds; None where that is not known."""
    if split is None:
        return None
    parts = {
        "client": split.client_ns,
        "network": split.network_ns,
        "gateway": split.gateway_ns,
        "server": split.server_ns,
        "validation": split.validation_ns,
        "queue": split.queue_ns,
        "inference": split.inference_ns,
    }
    return {
        "told_by": split.told_by,
        "requests": split.requests,
        "unit": "ms",
        **{name: None if part is None else ms_from_ns(part) for name, part in parts.items()},
    }
