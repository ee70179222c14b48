"""The event-stream decoder: by the WHATWG's rules, however the bytes are cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import DecodeError
from llmperf_core.wire.sse import SseDecoder
from tests.strategies import SseStream, cut, piece_of, sse_streams

# Rich in what the rules are about: line ends, colons, spaces, the mark and its parts.
_WORDS = [b"\n", b"\r", b"\r\n", b":", b" ", b"x", b"id", b"data", b"data: ", b"data: {}\n\n"]
_BYTES = [b"\xef", b"\xbb", b"\xbf", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8"]
tricky_bytes = st.lists(st.sampled_from(_WORDS + _BYTES), max_size=25).map(b"".join)
payloads = st.binary(max_size=12).map(lambda data: re.sub(rb"[\r\n]", b"", data))


def events_of(wire: bytes) -> list[bytes]:
    """Decode a whole stream at once, and by other means than the decoder does."""
    *lines, _ = re.split(rb"\r\n|\n|\r", wire.removeprefix(b"\xef\xbb\xbf"))
    events, data = [], list[bytes]()
    for line in lines:
        if not line and data:
            events.append(b"\n".join(data))
        if not line:
            data = []
        elif match := re.fullmatch(rb"data(?:: ?(.*))?", line, re.DOTALL):
            data.append(match[1] or b"")
    return events


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\n\ndata: c\r\n\r\n", [b"a", b"b", b"c"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data:\ndata\n\n", [b"\n"]),
        (b":\n\ndata: a\n\n:\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 3\ndata: a\nfoo: b\n\n", [b"a"]),
        (b"event: x\n\n", []),
        (b"\n\n\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"Data: a\n\n data: b\n\ndata : c\n\n", []),
        ("data: é\u2028\u0085\x0b\x0c\n\n".encode(), ["é\u2028\u0085\x0b\x0c".encode()]),
        (b"data: \xff\n\n", [b"\xff"]),
        (b"data: a\n", []),
        (b"", []),
    ],
)
def test_rules(wire: bytes, events: list[bytes]) -> None:
    """Each rule of the standard holds, for the whole stream and for a byte at a time."""
    assert [*SseDecoder().feed(wire)] == events
    decoder = SseDecoder()
    single = [wire[i : i + 1] for i in range(len(wire))]
    assert [event for byte in single for event in decoder.feed(byte)] == events


def test_an_event_a_piece() -> None:
    """What servers do most comes out as it went in, also next to what they do seldom."""
    decoder, one = SseDecoder(), b'{"token":1}'
    usual, two, odd = b"data: %b\n\n" % one, b"data: a\n\ndata: b\n\n", b"data: a\r\n\r\n"
    for piece, events in ((usual, [one]), (usual, [one]), (two, [b"a", b"b"]), (odd, [b"a"])):
        assert [*decoder.feed(piece)] == events
        assert [*decoder.feed(usual)] == [one]
    assert [*decoder.feed(b"data: a\r\r")] == [b"a"]
    assert [*decoder.feed(usual)] == [one]
    assert [*decoder.feed(b"data: a\n")] == []
    assert [*decoder.feed(usual)] == [b"a\n" + one]


@pytest.mark.parametrize(
    ("pieces", "events"),
    [
        ([b"data: a\n\n"], [b"a"]),
        ([b"data: a\n\n", b"data:b\n\n", b"data:  c\n\n", b"data:\n\n"], [b"a", b"b", b" c", b""]),
        ([], None),
        ([b"data: a\n\ndata: b\n\n", b"data: c\n\n"], None),
        ([b"data: a\n\n", b"data: b\n\ndata: c\n\n"], None),
        ([b"data: a\n", b"\ndata: b\n\n"], None),
        ([b"data: a\n\n", b"\n\n"], None),
        ([b"data: a\n\n", b"id: b\n\n"], None),
        ([b"id: a\n\n", b"data: b\n\n"], None),
        ([b"data: a\n\n", b"data: b\r\n\n"], None),
        ([b"data: a\ndata: b\n\n"], None),
        ([b"data: a\n\n", b"data: b"], None),
        ([b"data: " + b"x" * 95 + b"\n\n"], None),
    ],
)
def test_plain_pieces(pieces: list[bytes], events: list[bytes] | None) -> None:
    """Pieces of one event and one line each are taken together, and others not at all."""
    decoder = SseDecoder(max_event_bytes=100)
    assert decoder.feed_plain(pieces) is None  # nothing has begun: a mark may come
    assert not [*decoder.feed(b":\n\n")]
    assert decoder.feed_plain(pieces) == events
    assert [*decoder.feed(b"data: next\n\n")] == [b"next"]
    assert not [*decoder.feed(b"data: op")]
    assert decoder.feed_plain(pieces) is None
    assert [*decoder.feed(b"en\n\n")] == [b"open"]


@given(wire=tricky_bytes, data=st.data())
def test_cuts_do_not_matter(wire: bytes, data: st.DataObject) -> None:
    """However the network cuts a stream, the events are those of the whole."""
    decoder = SseDecoder()
    pieces = data.draw(cut(wire))
    assert [event for piece in pieces for event in decoder.feed(piece)] == events_of(wire)


@given(stream=sse_streams(payloads), data=st.data())
def test_event_comes_with_its_last_byte(stream: SseStream, data: st.DataObject) -> None:
    """An event is yielded by the feed that brought the byte that completes it."""
    decoder = SseDecoder()
    pieces = data.draw(cut(stream.wire))
    got = [(index, event) for index, piece in enumerate(pieces) for event in decoder.feed(piece)]
    expected = [piece_of(end, pieces) for end in stream.ends]
    assert got == list(zip(expected, stream.events, strict=True))


@pytest.mark.parametrize(
    ("wire", "unfinished"),
    [
        (b"", b""),
        (b"data: a\n\n", b""),
        (b"data: a\r\n\r", b""),
        (b"data: a\n", b"a"),
        (b"data: a\ndata: b", b"a\ndata: b"),
        (b"data: a\n\ndat", b"dat"),
        (b"data: [DONE]", b"data: [DONE]"),
        (b"data: a\n\n: keep-al", b""),
        (b"data: a\n: keep-al", b"a"),
    ],
)
def test_unfinished(wire: bytes, unfinished: bytes) -> None:
    """An event that no blank line has ended is not dispatched, but shown."""
    decoder = SseDecoder()
    _ = [*decoder.feed(wire)]
    assert decoder.unfinished == unfinished


@pytest.mark.parametrize(
    "wire",
    [
        b"data: " + b"x" * 95 + b"\n\n",
        b"data: " + b"x" * 95,
        b"data: xxxx\n" * 11 + b"\n",
        b":" * 101 + b"\n\n",
        b"event: " + b"x" * 90 + b"\ndata: a\n\n",
    ],
)
@pytest.mark.parametrize("before", [b"", b"data: a\n\n"])
def test_large_event_is_refused(wire: bytes, before: bytes) -> None:
    """An event above the bound breaks the protocol, whole or cut; what came before it is taken."""
    whole = SseDecoder(max_event_bytes=100)
    events = list[bytes]()
    with pytest.raises(DecodeError, match="larger than 100 bytes"):
        events.extend(whole.feed(before + wire))
    assert events == events_of(before)
    single = SseDecoder(max_event_bytes=100)
    with pytest.raises(DecodeError, match="larger than 100 bytes"):
        _ = [list(single.feed(bytes([byte]))) for byte in before + wire]


def test_bound_is_for_one_event() -> None:
    """Many events that are each within the bound are fine, and so is one that just fits."""
    decoder = SseDecoder(max_event_bytes=100)
    largest = b"data: " + b"x" * 94 + b"\n\n"
    assert [*decoder.feed(largest * 3)] == [b"x" * 94] * 3
    assert [*decoder.feed(largest)] == [b"x" * 94]
    assert [*decoder.feed(b":\n\n" * 200)] == []
