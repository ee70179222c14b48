"""Lines as TGI's container writes them, of figures that are known."""

import json
from datetime import UTC, datetime

from llmperf_sagemaker.container_log import Success

AT = datetime(2026, 11, 24, 12, 0, 0, 352154, tzinfo=UTC)
PLAIN = (
    "2026-11-24T12:00:00.352154Z  INFO chat_completions{parameters=GenerateParameters { best_of: "
    'None, temperature: Some(0.7), max_new_tokens: Some(100), stop: ["\\n"], seed: None } '
    'total_time="2.458150804s" validation_time="13.678487ms" queue_time="184.26µs" '
    'inference_time="2.444287897s" time_per_token="24.442878ms" seed="Some(42)"}: '
    "text_generation_router::server: router/src/server.rs:432: Success"
)
"""Written by hand after the source of TGI 3.3; so are the other forms, of theirs."""


def rust(duration_ns: int) -> str:
    """Return a duration as Rust's `{:?}` writes it."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if duration_ns >= size:
            digits = len(str(size)) - 1
            whole, rest = divmod(duration_ns, size)
            return f"{whole}.{rest:0{digits}}".rstrip("0").rstrip(".") + unit
    return f"{duration_ns}ns"


def fields(success: Success) -> dict[str, str]:
    """Return the fields of a span, as text."""
    return {
        "total_time": rust(success.total_ns),
        "validation_time": rust(success.validation_ns),
        "queue_time": rust(success.queue_ns),
        "inference_time": rust(success.inference_ns),
        "time_per_token": rust(success.time_per_token_ns),
        "seed": "None" if success.seed is None else f"Some({success.seed})",
    }


def debugged(text: str) -> str:
    """Return a text as Rust's `{:?}` quotes it, as far as that matters here."""
    return json.dumps(text, ensure_ascii=False)


def text_line(success: Success, *, prompt: str = "llamas", colour: bool = False) -> str:
    """Return a line as TGI 1 writes it, with its prompt in the span, or in colours as it is."""
    parts = fields(success)
    if colour:
        key, end = "\x1b[3m{}\x1b[0m\x1b[2m=\x1b[0m", "\x1b[1m}\x1b[0m\x1b[2m:\x1b[0m "
        said = " ".join(f"{key.format(name)}{debugged(value)}" for name, value in parts.items())
        begin = f"\x1b[2m{_stamp(success)}\x1b[0m \x1b[32m INFO\x1b[0m "
        target = "\x1b[2mtext_generation_router::server\x1b[0m\x1b[2m:\x1b[0m"
        where = "\x1b[2mrouter/src/server.rs\x1b[0m\x1b[2m:\x1b[0m\x1b[2m289:\x1b[0m"
        inputs = f"{key.format('req')}Json(GenerateRequest {{ inputs: {debugged(prompt)} }}) "
        span = f"\x1b[1mgenerate\x1b[0m\x1b[1m{{\x1b[0m{inputs}{said}{end}"
        return f"{begin}{span}{target} {where} Success"
    said = " ".join(f"{name}={debugged(value)}" for name, value in parts.items())
    return (
        f"{_stamp(success)}  INFO compat_generate{{default_return_full_text=Extension(false)}}:"
        f"generate{{req=Json(GenerateRequest {{ inputs: {debugged(prompt)}, parameters: "
        f"GenerateParameters {{ best_of: None }} }}) {said}}}: text_generation_router::server: "
        "router/src/server.rs:289: Success"
    )


def json_line(success: Success, *, flat: bool = True, inner: bool = True) -> str:
    """Return a line as TGI writes it with JSON_OUTPUT.

    Args:
        success: what it says.
        flat: whether the message stands at the top, as it does in TGI.
        inner: whether the timings are those of the innermost span.
    """
    span = {"parameters": "GenerateParameters { }", **fields(success), "name": "generate"}
    outer = {"name": "compat_generate", "default_return_full_text": "Extension(false)"}
    message = {"message": "Success"}
    return json.dumps(
        {
            "timestamp": _stamp(success),
            "level": "INFO",
            **(message if flat else {"fields": message}),
            "target": "text_generation_router::server",
            "span": span if inner else outer,
            "spans": [span, outer],
        },
        ensure_ascii=False,
    )


def _stamp(success: Success) -> str:
    return (success.at or AT).isoformat().replace("+00:00", "Z")
