"""Every way in which a request fails, from a real cause, over the measuring wire."""

import socket
import ssl

import anyio
import pytest
import trustme

from llmperf_core.run.settings import Deadlines, Settings
from llmperf_core.target import Codec
from llmperf_core.wire.openai import OpenAICompletions
from tests.run.asking import CHAT, SHORT_S, ask, ask_at, failure
from tests.scripted import (
    DONE,
    END,
    HEAD,
    Peer,
    answer,
    chat_finish,
    chat_token,
    chunk,
    plays,
    serving,
    tgi_last,
    tgi_stream,
    tgi_token,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a throw-away certificate authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return a server's side of TLS, with a certificate of that authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of the authority's certificate."""
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


async def test_refused(unused_port: int) -> None:
    """A port that nobody listens on refuses; nothing was sent."""
    timeline = await ask_at(f"http://127.0.0.1:{unused_port}")

    assert failure(timeline).error == "refused"
    assert timeline.sent_at_ns is None
    assert timeline.connection.connect_ns == 0


async def test_unresolved() -> None:
    """A name that does not exist is not a refusal."""
    assert failure(await ask_at("http://llmperf.invalid")).error == "unresolved"


async def test_unreachable() -> None:
    """A network that there is no way to: no system makes a TCP connection to a multicast group."""
    assert failure(await ask_at("http://224.0.0.1")).error == "unreachable"


async def test_connect_timeout() -> None:
    """A host whose queue of connections is full swallows the attempt."""
    settings = Settings(deadlines=Deadlines(connect_s=SHORT_S))
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (first, second):
            sock.setblocking(False)  # noqa: FBT003 -- the socket module's own
            sock.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        timeline = await ask_at(f"http://127.0.0.1:{port}", settings=settings)

    assert failure(timeline).error == "connect_timeout"
    assert timeline.sent_at_ns is None


async def test_tls_handshake_that_hangs_is_a_connect_timeout() -> None:
    """The deadline of the connection covers the TLS handshake, too."""
    settings = Settings(deadlines=Deadlines(connect_s=SHORT_S))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        timeline = await ask_at(f"https://127.0.0.1:{port}", settings=settings)

    assert failure(timeline).error == "connect_timeout"


async def test_certificate_that_is_not_trusted_is_a_tls_failure(
    server_tls: ssl.SSLContext,
) -> None:
    """Nothing is sent to a server that cannot say who it is."""
    async with serving(plays(HEAD), server_tls) as url:
        timeline = await ask_at(url)

    assert failure(timeline).error == "tls"
    assert "CERTIFICATE_VERIFY_FAILED" in failure(timeline).detail
    assert timeline.sent_at_ns is None


async def test_tls_to_a_plain_server_is_a_tls_failure() -> None:
    """`https` where `http` is spoken."""

    async def plain(peer: Peer) -> None:
        await peer.stream.receive()
        await peer.send(answer(b"no TLS here", status=b"400 Bad Request"))

    async with serving(plain) as url:
        assert failure(await ask_at(url.replace("http:", "https:"))).error == "tls"


async def test_tls_that_works_is_timed_apart(
    server_tls: ssl.SSLContext, authority_file: str
) -> None:
    """The handshake has a duration of its own, and the answer comes through with kernel stamps."""
    script = plays(HEAD, chunk(tgi_stream(3)), END)
    async with serving(script, server_tls) as url:
        timeline = await ask_at(url, verify=authority_file)

    assert timeline.completed
    assert timeline.connection.fresh
    assert timeline.connection.tls_ns > 0
    assert timeline.stamps == "kernel"


async def test_reset_before_the_answer() -> None:
    """A server that breaks the connection off instead of answering resets the request."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.reset()

    timeline = await ask(script)

    assert failure(timeline).error == "reset"
    assert timeline.sent_at_ns is not None


async def test_close_before_the_answer_is_a_reset() -> None:
    """A server that closes instead of answering says no more than one that resets."""
    assert failure(await ask(plays())).error == "reset"


async def test_reset_in_the_answer_keeps_the_tokens() -> None:
    """What came before the connection broke stays, with its instants."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, chunk(tgi_token()), chunk(tgi_token()))
        await anyio.sleep(0.05)  # an RST takes back what the client's kernel has not handed over
        await peer.reset()

    timeline = await ask(script)

    assert failure(timeline).error == "reset"
    assert (len(timeline.token_at_ns), timeline.tokens.output) == (2, 2)
    assert timeline.tokens.counted_by == "stream"


CUT = {
    "chunked": (HEAD, chunk(tgi_token()) + b"40\r\ndata:"),
    "chunked-between-events": (HEAD, chunk(tgi_token())),
    "content-length": (
        answer(tgi_token() * 9, kind=b"text/event-stream")[: -len(tgi_token()) * 8],
    ),
    "until-close": (b"HTTP/1.1 200 OK\r\n\r\n", tgi_token()),
    "until-close-in-an-event": (b"HTTP/1.1 200 OK\r\n\r\n", tgi_token(), tgi_last(2)[:-9]),
    "whole-body-without-its-end": (HEAD, chunk(tgi_token()), END),
}


@pytest.mark.parametrize("pieces", CUT.values(), ids=CUT.keys())
async def test_a_stream_that_stops_early_is_truncated(pieces: tuple[bytes, ...]) -> None:
    """However the body is framed: without the protocol's own end it is truncated, tokens kept."""
    timeline = await ask(plays(*pieces))

    assert failure(timeline).error == "truncated"
    assert (len(timeline.token_at_ns), timeline.tokens.output) == (1, 1)


@pytest.mark.parametrize("codec", [CHAT, OpenAICompletions(model="m")], ids=["chat", "text"])
async def test_openai_stream_without_end_is_truncated(codec: Codec) -> None:
    """Neither `finish_reason` nor `[DONE]`: the answer is not whole, though the body is."""
    token = chat_token() if codec is CHAT else b'data: {"choices":[{"text":" llama"}]}\n\n'
    timeline = await ask(plays(HEAD, chunk(token), chunk(token), END), codec)

    assert failure(timeline).error == "truncated"
    assert len(timeline.token_at_ns) == 2


@pytest.mark.parametrize(
    "end", [chat_finish(), DONE, chat_finish() + DONE], ids=["reason", "done", "both"]
)
async def test_openai_stream_with_an_end_completes(end: bytes) -> None:
    """Either end will do: some servers send only one."""
    assert (await ask(plays(HEAD, chunk(chat_token() + end), END), CHAT)).completed


async def test_an_answer_whose_body_breaks_after_its_end_is_whole() -> None:
    """The model has said all that it had to: a proxy that cuts off the last chunk takes nothing."""
    assert (await ask(plays(HEAD, chunk(tgi_stream(3))))).completed


async def test_not_http() -> None:
    """A server that speaks something else."""
    assert failure(await ask(plays(b"SSH-2.0-OpenSSH_9.6\r\n"))).error == "not_http"


async def test_too_large() -> None:
    """A server that never stops must not fill the memory."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        while True:
            await peer.send(chunk(tgi_token() * 100))

    settings = Settings(max_response_bytes=100_000)
    async with serving(script) as url:
        timeline = await ask_at(url, settings=settings)

    assert failure(timeline).error == "too_large"
    assert len(timeline.token_at_ns) > 0


async def test_encoded() -> None:
    """A server that compresses though it was asked not to: there are no events to stamp."""
    head = HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    assert failure(await ask(plays(head, chunk(b"\x1f\x8b"), END))).error == "encoded"
