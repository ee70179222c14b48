"""Streams that are decoded many pieces at once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import DecodeError
from llmperf_core.target import Codec, Reply
from llmperf_core.wire.decoding import StreamDecoder
from llmperf_core.wire.openai import OpenAIChat
from llmperf_core.wire.tgi import Tgi
from tests.strategies import cut, garbage_streams

TOKEN = '{"token":{"text":"é"}}'
CHUNK = '{"id":"","choices":[{"delta":{"content":"é"}}]}'
_EVENTS = [
    *(f"data: {TOKEN}\n\n", f"data:{TOKEN}\n\n", f"data: {TOKEN}\r\n\r\n", f"data: {TOKEN}\n"),
    *(
        f"data: {CHUNK}\n\n",
        "data: [DONE]\n\n",
        ": keep-alive\n\n",
        "data: {}\n\n",
        "\n\n",
        "data:",
    ),
    *('data: {"token":{"text":"a\n\n', 'data: {"token":null,"generated_text":"all"}\n\n'),
]
event_streams = st.lists(st.sampled_from(_EVENTS).map(str.encode), max_size=12).map(b"".join)


def decoded(codec: Codec, batches: list[list[bytes]]) -> tuple[Reply, str | None]:
    """Return the reply, and the message if decoding raises; a piece's instant is its index."""
    decoder = codec.decoder({})
    assert isinstance(decoder, StreamDecoder)
    fed = 0
    try:
        for batch in batches:
            decoder.feed_all(batch, range(fed, fed + len(batch)))
            fed += len(batch)
        decoder.finish()
    except DecodeError as error:
        return decoder.reply, str(error)
    return decoder.reply, None


@pytest.mark.parametrize("codec", [Tgi(), OpenAIChat()], ids=["tgi", "openai"])
@given(wire=event_streams | garbage_streams, data=st.data())
def test_batches_do_not_matter(codec: Codec, wire: bytes, data: st.DataObject) -> None:
    """Many pieces at once give what they give one after the other, and fail where they fail."""
    pieces = data.draw(cut(wire))
    ends = sorted(data.draw(st.lists(st.integers(0, len(pieces)), max_size=3)))
    batches = [pieces[a:b] for a, b in pairwise([0, *ends, len(pieces)])]
    assert decoded(codec, batches) == decoded(codec, [[piece] for piece in pieces])
