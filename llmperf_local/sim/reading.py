"""Request bodies: typed, or refused with the words of the JSON library that TGI uses.

Source: serde_json's messages, and axum 0.7, `axum/src/extract/rejection.rs`.
"""

import json
import re
from contextlib import suppress
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import TypeVar

import msgspec

from llmperf_local.sim.bodies import ChatRequest, CompatRequest, CompletionRequest
from llmperf_local.sim.refusal import BadBody

T = TypeVar("T")

_WRONG_SHAPE = "Failed to deserialize the JSON body into the target type: "
_UNTAGGED = "untagged enum SagemakerRequest"
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_AT = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d*|\.\.\.)\]")
_BLANK = re.compile(r"[ \t\n\r]*")
_RUST = {
    **dict.fromkeys(("max_new_tokens", "top_n_tokens", "max_tokens", "top_logprobs"), "u32"),
    **dict.fromkeys(("best_of", "truncate"), "usize"),
    **dict.fromkeys(("inputs", "model", "role", "text", "suffix", "adapter_id"), "a string"),
    **dict.fromkeys(("stop", "messages", "tools", "logit_bias"), "a sequence"),
    **dict.fromkeys(
        ("stream", "do_sample", "watermark", "details", "decoder_input_details", "logprobs"),
        "a boolean",
    ),
    **dict.fromkeys(
        ("temperature", "top_p", "typical_p", "repetition_penalty", "frequency_penalty"), "f32"
    ),
    "top_k": "i32",
    "seed": "u64",
    "parameters": "struct GenerateParameters",
    "": "struct GenerateRequest",
}


def read(body: bytes, kind: type[T]) -> T:
    """Return what a body says.

    Raises:
        BadBody: it is not JSON, or of another shape.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadBody(422, _WRONG_SHAPE + _shape(body.decode(), str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBody(400, f"Failed to parse the request body as JSON: {_syntax(body)}") from error


def read_any(body: bytes) -> CompatRequest | ChatRequest | CompletionRequest:
    """Return what a body for `/invocations` says: of three shapes, the first that it has.

    Raises:
        BadBody: it is not JSON, or of no such shape.
    """
    read(body, msgspec.Raw)
    with suppress(BadBody):
        return read(body, CompatRequest)
    with suppress(BadBody):
        return read(body, ChatRequest)
    with suppress(BadBody):
        return read(body, CompletionRequest)
    raise BadBody(422, f"{_WRONG_SHAPE}data did not match any variant of {_UNTAGGED}")


def _syntax(body: bytes) -> str:
    """Say where JSON ends to be JSON. Only the commonest of serde_json's messages are known."""
    text = body.decode(errors="replace")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        at_end = not text[error.pos :].strip()
        what = "EOF while parsing a value" if at_end else "expected value"
        column = error.colno - at_end
        return f"{what} at line {error.lineno} column {column}"
    except RecursionError:
        return "recursion limit exceeded at line 1 column 128"
    return "expected value at line 1 column 1"


def _shape(text: str, said: str) -> str:
    """Turn msgspec's words on a wrong shape into serde_json's."""
    at = _AT.search(said)
    path = [field or int(index or 0) for field, index in _STEP.findall(at[1])] if at else []
    start, end = _span(text, path)
    line = text.count("\n", 0, end) + 1
    where = f"at line {line} column {end - (text.rfind(chr(10), 0, end) + 1)}"
    shown = ".".join(str(step) for step in path)
    prefix = f"{shown}: " if shown else ""
    if missing := _MISSING.match(said):
        return f"{prefix}missing field `{missing[1]}` {where}"
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    wanted = _RUST.get(name, "another type")
    value = json.loads(text[start:end])
    out_of_range = isinstance(value, int) and wanted[0] in "iu" and not isinstance(value, bool)
    return (
        f"{prefix}invalid {'value' if out_of_range else 'type'}: {_kind(value)}, "
        f"expected {wanted} {where}"
    )


def _kind(value: object) -> str:
    """Say what JSON has, in serde_json's words."""
    match value:
        case list():
            return "sequence"
        case dict():
            return "map"
        case None:
            return "null"
        case str():
            return f"string {json.dumps(value, ensure_ascii=False)}"
    kind = "boolean" if isinstance(value, bool) else type(value).__name__
    kind = {"int": "integer", "float": "floating point"}.get(kind, kind)
    return f"{kind} `{json.dumps(value)}`"


def _span(text: str, path: list[str | int]) -> tuple[int, int]:
    """Return where the value at a path begins and ends in a JSON text that is known to be one."""
    decode = json.JSONDecoder().raw_decode

    def skip(position: int) -> int:
        found = _BLANK.match(text, position)
        return found.end() if found else position

    start = skip(0)
    for step in path:
        position, ordinal = skip(start + 1), 0
        while True:
            if text[start] == "{":
                key, position = scanstring(text, position + 1)
                position = skip(skip(position) + 1)
                found = key == step
            else:
                found, ordinal = ordinal == step, ordinal + 1
            if found:
                start = position
                break
            _, position = decode(text, position)
            position = skip(skip(position) + 1)
    return start, decode(text, start)[1]
