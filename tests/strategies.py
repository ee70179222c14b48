"""What tests draw from: recorded bytes, and Hypothesis strategies for what goes over a wire."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

from attrs import frozen
from hypothesis import strategies as st

from llmperf_core.errors import DecodeError
from llmperf_core.target import Decoder, Json, Reply

DATA = Path(__file__).parent / "data"


@cache
def _document(name: str) -> Json:
    document: Json = json.loads((DATA / f"{name}.json").read_text())
    return document


def recorded(name: str, *keys: str) -> bytes:
    """Return the body that `tests/data/{name}.json` holds under these keys."""
    found = _document(name)
    for key in (*keys, "body_text"):
        assert isinstance(found, Mapping)
        found = found[key]
    assert isinstance(found, str)
    return found.encode()


def all_recorded() -> list[bytes]:
    """Return every body in `tests/data`, streams and whole answers and errors."""
    names = sorted(str(path.relative_to(DATA).with_suffix("")) for path in DATA.glob("*/*.json"))
    return [body for name in names for body in _bodies(_document(name))]


def _bodies(found: Json) -> Iterator[bytes]:
    if isinstance(found, Mapping):
        body = found.get("body_text")
        if isinstance(body, str):
            yield body.encode()
        for inner in found.values():
            yield from _bodies(inner)


def decode(decoder: Decoder, pieces: list[bytes]) -> Reply:
    """Return what a decoder makes of the pieces; the instant of each is its index."""
    for index, piece in enumerate(pieces):
        decoder.feed(piece, index)
    decoder.finish()
    return decoder.reply


def attempt(decoder: Decoder, pieces: list[bytes]) -> tuple[Reply, str | None]:
    """Return what a decoder makes of the pieces, without instants, and the message if it raises."""
    message = None
    try:
        decode(decoder, pieces)
    except DecodeError as error:
        message = str(error)
    decoder.reply.token_at_ns = [0] * len(decoder.reply.token_at_ns)
    return decoder.reply, message


@st.composite
def cut(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    """Draw a way to cut bytes into pieces: by the event, by the byte, or anywhere."""
    match draw(st.sampled_from(["events", "bytes", "anywhere", "anywhere"])):
        case "events":  # as servers write them
            inside = [match.end() for match in re.finditer(rb"\n\n", whole)]
        case "bytes":
            inside = list(range(len(whole)))
        case _:
            inside = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    return [whole[a:b] for a, b in pairwise([0, *inside, len(whole)])]


def piece_of(offset: int, pieces: list[bytes]) -> int:
    """Return the index of the piece that holds the byte at this offset of the whole."""
    seen = 0
    for index, piece in enumerate(pieces):
        seen += len(piece)
        if offset < seen:
            return index
    raise AssertionError(f"no byte {offset} in {seen} bytes")


@frozen
class SseStream:
    """An event stream, and what is in it."""

    wire: bytes
    events: list[bytes]
    """The data of each."""
    ends: list[int]
    """For each event, the offset of the byte that completes it."""


_LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
_NOISE = st.sampled_from(
    [b":", b": keep-alive", b"event: message", b"id: 7", b"retry", b"retry: 3", b"datax: 1", b"da"]
)


@st.composite
def sse_streams(draw: st.DrawFn, payloads: st.SearchStrategy[bytes]) -> SseStream:
    """Draw a stream of these payloads, each of one line, framed in every way that is allowed."""
    wire = bytearray(draw(st.sampled_from([b"", b"\xef\xbb\xbf"])))
    events, ends = draw(st.lists(payloads, max_size=6)), []
    usual = draw(st.booleans())
    for event in events:
        line_end = b"\n" if usual else draw(_LINE_ENDS)
        for noise in [] if usual else draw(st.lists(_NOISE, max_size=2)):
            wire += noise + line_end
        # A first space belongs to the framing, so that a payload's own needs one before it.
        spaced = usual or event.startswith(b" ") or draw(st.booleans())
        wire += (b"data: " if spaced else b"data:") + event + line_end
        ends.append(len(wire))
        wire += line_end
    return SseStream(bytes(wire), events, ends)


JSON_KEYS = (
    *("token", "text", "special", "generated_text", "details", "finish_reason", "generated_tokens"),
    *("input_length", "error", "error_type", "message", "choices", "delta", "content", "index"),
    *("reasoning_content", "tool_calls", "usage", "completion_tokens", "prompt_tokens", "id"),
    *("prompt_tokens_details", "cached_tokens", "timings", "prompt_ms", "predicted_ms"),
)

json_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("")
)

json_values = st.recursive(
    json_scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(JSON_KEYS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
"""Anything that JSON can say (and NaN, which it cannot), with the keys of the protocols in it."""

json_bytes = json_values.map(lambda value: json.dumps(value).encode())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a recorded body with some of its bytes changed, dropped, doubled or cut off."""
    body = bytearray(draw(st.sampled_from(all_recorded())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["change", "drop", "insert", "cut"])):
            case "change":
                body[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "drop":
                del body[at : at + draw(st.integers(1, 20))]
            case "insert":
                body[at:at] = draw(st.binary(max_size=4) | st.sampled_from([b"\r", b"\n\n", b"["]))
            case _:
                del body[at:]
    return bytes(body)


garbage = st.binary(max_size=200) | damaged() | json_bytes
garbage_streams = garbage | st.lists(json_bytes | st.binary(max_size=20), max_size=4).map(
    lambda payloads: b"".join(b"data: " + payload + b"\n\n" for payload in payloads)
)
"""What no server should send: arbitrary bytes, damaged recordings, JSON of any shape."""
