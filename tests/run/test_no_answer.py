"""Answers that are none: HTTP errors, other people's bodies, errors inside a stream, silence."""

import anyio
import pytest

from llmperf_core.target import Codec
from llmperf_core.timeline import Failed
from llmperf_core.units import NS_PER_S
from llmperf_core.wire.tgi import Tgi
from tests.run.asking import CHAT, SHORT_S, TGI, ask, failure
from tests.scripted import (
    DONE,
    END,
    HEAD,
    Peer,
    answer,
    babble,
    chat_role,
    chat_token,
    chunk,
    hang,
    plays,
    tgi_token,
)

BODIES = {
    "json": (b'{"error":"Model is overloaded","error_type":"overloaded"}', "Model is overloaded"),
    "openai": (b'{"error":{"message":"no such model","type":"not_found"}}', "no such model"),
    "plain": (b"upstream connect error\nor disconnect", "upstream connect error"),
    "html": (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
    "empty": (b"", "Because"),
    "long": (b"x" * 5000, "xxx"),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", [401, 404, 422, 429, 500, 503])
async def test_status_is_the_failure(status: int, body: str) -> None:
    """The status names the failure, and its detail is what the body says, on one short line."""
    said, expected = BODIES[body]
    timeline = await ask(plays(answer(said, status=b"%d Because" % status)))

    assert failure(timeline).error == f"http_{status}"
    assert expected in failure(timeline).detail


async def test_status_without_a_word_has_a_detail() -> None:
    """Neither a reason phrase nor a body: there is still something to show."""
    assert failure(await ask(plays(answer(b"", status=b"503")))).error == "http_503"


async def test_redirect_is_not_followed() -> None:
    """A redirect answers no prompt: it would measure two servers as one."""
    response = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /v2\r\ncontent-length: 0\r\n\r\n"
    assert failure(await ask(plays(response))).error == "http_307"


async def test_error_whose_body_never_ends_is_its_status() -> None:
    """The status was known at once; the deadline only ends the waiting for words."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 500 Oh\r\ncontent-length: 99\r\n\r\nno memory")
        await anyio.sleep_forever()

    timeline = await ask(script, first_token_s=SHORT_S)

    assert timeline.outcome == Failed("http_500", "no memory")


async def test_html_with_status_200_is_malformed() -> None:
    """A proxy's login page is no answer."""
    page = b"<!doctype html><html><title>Log in</title></html>"
    assert failure(await ask(plays(answer(page, kind=b"text/html")))).error == "malformed"


@pytest.mark.parametrize("codec", [TGI, CHAT, Tgi(stream=False)], ids=["tgi", "chat", "whole"])
async def test_json_that_is_no_answer_is_malformed(codec: Codec) -> None:
    """JSON of another shape, as some other service would answer."""
    body = b'data: {"hello":1}\n\n' if codec.stream else b'{"hello":1}'
    assert failure(await ask(plays(answer(body)), codec)).error == "malformed"


async def test_malformed_event_in_a_stream_keeps_the_tokens_before_it() -> None:
    """Tokens are tokens, whatever comes after them."""
    timeline = await ask(plays(HEAD, chunk(tgi_token()), chunk(b"data: {oh\n\n"), END))

    assert failure(timeline).error == "malformed"
    assert len(timeline.token_at_ns) == 1


IN_BAND: dict[str, tuple[Codec, bytes]] = {
    "tgi": (
        TGI,
        b'data:{"error":"Request failed during generation","error_type":"generation"}\n\n',
    ),
    "overloaded": (TGI, b'data:{"error":"Model is overloaded","error_type":"overloaded"}\n\n'),
    "vllm": (
        CHAT,
        b'data: {"error":{"message":"EngineCore encountered an issue","code":500}}\n\n' + DONE,
    ),
}


@pytest.mark.parametrize("name", IN_BAND)
async def test_error_inside_a_stream_is_a_failure(name: str) -> None:
    """HTTP said 200 long before; the tokens that came until then are kept."""
    codec, event = IN_BAND[name]
    token = tgi_token() if codec is TGI else chat_role() + chat_token()
    timeline = await ask(plays(HEAD, chunk(token), chunk(event), END), codec)

    assert failure(timeline).error == "in_band_error"
    assert any(words in failure(timeline).detail for words in ("failed", "overload", "EngineCore"))
    assert len(timeline.token_at_ns) == 1


async def test_empty() -> None:
    """An answer that ends properly, without a token or a reason, is none."""
    assert failure(await ask(plays(HEAD, chunk(chat_role() + DONE), END), CHAT)).error == "empty"


async def test_server_that_never_answers_misses_the_first_token() -> None:
    """It accepts, takes the request, and that is all."""
    assert failure(await ask(hang, first_token_s=SHORT_S)).error == "timeout_first_token"


async def test_keep_alive_comments_are_no_token() -> None:
    """A head and comments come at once; the first token never does."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        while True:
            await peer.send(chunk(b": keep-alive\n\n"))
            await anyio.sleep(0.02)

    timeline = await ask(script, first_token_s=SHORT_S)

    assert failure(timeline).error == "timeout_first_token"
    assert not timeline.token_at_ns.size


async def test_gap() -> None:
    """A server that stalls in mid-answer; what had come is kept."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, chunk(tgi_token()))
        await anyio.sleep_forever()

    timeline = await ask(script, gap_s=SHORT_S)

    assert failure(timeline).error == "timeout_gap"
    assert len(timeline.token_at_ns) == 1
    assert timeline.ended_at_ns - timeline.token_at_ns[0] >= SHORT_S * NS_PER_S


async def test_whole() -> None:
    """Neither the first token nor a gap is late, but the whole is."""
    timeline = await ask(babble, whole_s=2 * SHORT_S, gap_s=SHORT_S)

    assert failure(timeline).error == "timeout_whole"
    assert len(timeline.token_at_ns) > 1


async def test_slow_whole_answer_misses_only_the_whole_deadline() -> None:
    """Without a stream there is no first token to be late."""
    timeline = await ask(hang, Tgi(stream=False), first_token_s=SHORT_S / 9, whole_s=SHORT_S)

    assert failure(timeline).error == "timeout_whole"


async def test_timeout_says_how_long() -> None:
    """The detail is the deadline that was set."""
    assert failure(await ask(hang, first_token_s=SHORT_S)).detail == "more than 0.3 s"
