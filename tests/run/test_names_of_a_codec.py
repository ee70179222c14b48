"""A codec that knows its server better than HTTP does names the failures itself."""

from collections.abc import Mapping
from typing import ClassVar

import httpx
import pytest
from attrs import field, frozen

from llmperf_core.errors import DecodeError
from llmperf_core.target import Decoder, Reply
from llmperf_core.timeline import Failed
from llmperf_core.wire.decoding import feed_all
from llmperf_core.wire.tgi import Tgi
from tests.run.asking import ask, failure
from tests.scripted import answer, plays, tgi_token


class TornError(DecodeError):
    """Bytes that are torn."""

    failure: ClassVar[str] = "torn"


@frozen
class _Tears:
    """A decoder that finds a fault with each piece."""

    said: bytes
    reply: Reply = field(factory=Reply)

    def feed(self, data: bytes, at_ns: int) -> None:
        self.reply.token_at_ns.append(at_ns)
        if self.said == b"torn":
            raise TornError(data.decode())
        self.reply.error, self.reply.error_name = "no llamas", self.said.decode()

    def finish(self) -> None:
        """Take the end."""


@frozen(kw_only=True)
class Knowing(Tgi):
    """A codec with names of its own."""

    said: bytes = b""

    def decoder(self, headers: Mapping[str, str]) -> Decoder:  # noqa: ARG002 -- says nothing
        """Return a decoder that finds a fault."""
        return _Tears(self.said)

    def refusal(self, response: httpx.Response, body: bytes) -> Failed | None:
        """Know one status alone."""
        if response.status_code != 418:
            return None
        asked_for = response.request.url.path
        return Failed("teapot", f"{asked_for} {response.headers['content-type']} {body.decode()}")


@pytest.mark.parametrize(
    ("status", "name", "detail"),
    [
        (b"418 I'm a teapot", "teapot", "/generate_stream text/plain short and stout"),
        (b"503 Service Unavailable", "http_503", "short and stout"),
    ],
)
async def test_a_status_means_what_the_codec_says(status: bytes, name: str, detail: str) -> None:
    """It is given the response, its request and its body; what it does not know keeps its name."""
    timeline = await ask(
        plays(answer(b"short and stout", status=status, kind=b"text/plain")), Knowing()
    )

    assert failure(timeline) == Failed(name, detail)


@pytest.mark.parametrize("said", [b"torn", b"no_llamas"])
async def test_an_answer_fails_under_the_decoders_name(said: bytes) -> None:
    """Whether it raises, or notes an error in its reply."""
    body = answer(tgi_token(), kind=b"text/event-stream")
    timeline = await ask(plays(body), Knowing(said=said))

    assert failure(timeline).error == said.decode()
    assert len(timeline.token_at_ns) == 1


def test_a_decoder_without_a_quick_way_is_fed_piece_by_piece() -> None:
    """Each with its instant."""
    decoder = _Tears(b"no_llamas")
    feed_all(decoder, [b"a", b"b"], [1, 2])

    assert decoder.reply.token_at_ns == [1, 2]
