"""AWS's event-stream frames: ours against botocore's own parser."""

import struct
import zlib

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer, ParserError
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import DecodeError
from llmperf_core.testing.event_stream import frame, payload_part, string_headers
from llmperf_sagemaker.event_stream import CorruptedError, MessageDecoder
from tests.strategies import cut

_NAMES = st.sampled_from([":message-type", ":event-type", ":content-type", "ö", "a"])
_TYPED = st.one_of(
    st.sampled_from([b"\x00", b"\x01"]),
    st.integers(-128, 127).map(lambda n: b"\x02" + struct.pack("!b", n)),
    st.integers(-(2**15), 2**15 - 1).map(lambda n: b"\x03" + struct.pack("!h", n)),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: b"\x04" + struct.pack("!i", n)),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: b"\x05" + struct.pack("!q", n)),
    st.binary(max_size=9).map(lambda b: b"\x06" + struct.pack("!H", len(b)) + b),
    st.text(max_size=5).map(lambda t: b"\x07" + struct.pack("!H", len(t.encode())) + t.encode()),
    st.integers(0, 2**62).map(lambda n: b"\x08" + struct.pack("!q", n)),
    st.binary(min_size=16, max_size=16).map(lambda b: b"\x09" + b),
)
"""A header's value of each type, encoded."""


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Draw encoded headers, no two of the same name."""
    encoded = b""
    for name in draw(st.lists(_NAMES, unique=True, max_size=3)):
        encoded += bytes([len(name.encode())]) + name.encode() + draw(_TYPED)
    return encoded


messages = st.builds(frame, headers(), st.binary(max_size=40)) | st.binary(max_size=40).map(
    payload_part
)
streams = st.lists(messages, max_size=5).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a stream with bytes changed, dropped, added or cut off; or none at all."""
    body = bytearray(draw(streams | st.binary(max_size=80)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["change", "drop", "add", "cut off"])):
            case "change":
                body[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "drop":
                del body[at : at + draw(st.integers(1, 8))]
            case "add":
                body[at:at] = draw(st.binary(max_size=8))
            case _:
                del body[at:]
    return bytes(body)


def ours(pieces: list[bytes]) -> tuple[list[tuple[dict[str, object], bytes]], bool]:
    """Return the messages that our decoder finds, and whether it refused to go on."""
    decoder = MessageDecoder()
    found: list[tuple[dict[str, object], bytes]] = []
    try:
        for piece in pieces:
            found.extend((dict(headers), payload) for headers, payload in decoder.feed(piece))
    except DecodeError:
        return found, True
    return found, False


def botocores(pieces: list[bytes]) -> tuple[list[tuple[dict[str, object], bytes]], bool]:
    """Return the same of botocore's."""
    buffer = EventStreamBuffer()
    found: list[tuple[dict[str, object], bytes]] = []
    try:
        for piece in pieces:
            buffer.add_data(piece)
            found.extend((message.headers, message.payload) for message in buffer)
    except (ParserError, struct.error, KeyError, IndexError, UnicodeDecodeError):
        return found, True
    return found, False


@given(streams.flatmap(cut))
def test_whole_streams_are_read_as_botocore_reads_them(pieces: list[bytes]) -> None:
    """Headers of each type and payloads, however the bytes are cut."""
    found, refused = ours(pieces)

    assert (found, refused) == botocores(pieces)
    assert not refused


@given(damaged().flatmap(cut))
def test_damaged_streams_are_read_as_botocore_reads_them(pieces: list[bytes]) -> None:
    """The same messages come before the damage is seen, and it is seen at the same place."""
    assert ours(pieces) == botocores(pieces)


@given(damaged().flatmap(lambda body: st.tuples(st.just(body), cut(body))))
def test_cuts_do_not_matter(drawn: tuple[bytes, list[bytes]]) -> None:
    """However the network cuts a stream, the same messages come out."""
    whole, pieces = drawn

    assert ours([whole]) == ours(pieces)


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(payload: bytes, at: int, by: int) -> None:
    """A checksum covers every byte."""
    changed = bytearray(payload_part(payload))
    changed[at % len(changed)] ^= by
    with pytest.raises(DecodeError):
        list(MessageDecoder().feed(bytes(changed)))


def test_a_wrong_checksum_is_told_from_what_is_no_stream() -> None:
    """Damage on the way and a page to log in are not the same failure."""
    good, flipped = payload_part(b"one"), bytearray(payload_part(b"two"))
    flipped[-6] ^= 1
    decoder = MessageDecoder()
    assert [message.payload for message in decoder.feed(good)] == [b"one"]
    with pytest.raises(CorruptedError, match="message 1: its checksum is wrong"):
        list(decoder.feed(bytes(flipped)))
    with pytest.raises(ChecksumMismatch):
        _ = botocore_strict(bytes(flipped))

    with pytest.raises(DecodeError, match="not an AWS event stream: '<!doctype html>") as raised:
        list(MessageDecoder().feed(b"<!doctype html><title>Log in</title>"))
    assert not isinstance(raised.value, CorruptedError)

    later = MessageDecoder()
    list(later.feed(good))
    with pytest.raises(CorruptedError, match="checksum of its length"):
        list(later.feed(b"<!doctype html>"))


def botocore_strict(body: bytes) -> list[bytes]:
    """Return the payloads that botocore finds."""
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    return [message.payload for message in buffer]


def prelude(total: int, headers_size: int) -> bytes:
    """Return a prelude whose checksum is right, whatever it says."""
    lengths = struct.pack("!II", total, headers_size)
    return lengths + struct.pack("!I", zlib.crc32(lengths))


@pytest.mark.parametrize(
    ("total", "headers_size"),
    [(15, 0), (20, 5), (1 << 25, 0), (300_000, 200_000)],
    ids=["too short", "no room", "payload", "headers"],
)
def test_lengths_that_cannot_be_are_refused(total: int, headers_size: int) -> None:
    """They would be waited for, and fill the memory."""
    with pytest.raises(DecodeError, match="bytes of headers"):
        list(MessageDecoder().feed(prelude(total, headers_size) + b"xxxxxxxxxx"))


@pytest.mark.parametrize(
    "encoded",
    [
        string_headers(("a", "b"), ("a", "c")),
        b"\x01a\x0f",
        b"\x01\xff\x00",
        b"\x01a",
        b"\x01a\x04\x00",
    ],
    ids=["twice", "no such type", "not UTF-8", "no value", "half a value"],
)
def test_headers_that_cannot_be_are_refused(encoded: bytes) -> None:
    """Nothing but DecodeError comes of them."""
    with pytest.raises(DecodeError, match="headers of a message"):
        list(MessageDecoder().feed(frame(encoded, b"x")))


def test_what_has_begun_is_known() -> None:
    """A body that stops there is truncated."""
    decoder = MessageDecoder()
    whole = payload_part(b"one")

    assert list(decoder.feed(whole[:5])) == []
    assert decoder.unfinished
    assert len(list(decoder.feed(whole[5:]))) == 1
    assert not decoder.unfinished
