"""The same requests over httpx's own transport: same names, same tokens, stamps by the program."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

from llmperf_core.run.settings import Deadlines, Settings
from llmperf_core.target import Endpoint
from llmperf_core.timeline import Completed, Timeline
from llmperf_core.units import NS_PER_S
from llmperf_core.wire.sse import MAX_EVENT_BYTES
from tests.run.asking import SHORT_S, TGI, Asker, asking_at, failure
from tests.scripted import (
    END,
    HEAD,
    Peer,
    Script,
    answer,
    babble,
    chunk,
    hang,
    plays,
    serving,
    tgi_stream,
    tgi_token,
)


def over_httpx(url: str) -> Endpoint:
    """Return an endpoint that is reached over httpx's own transport."""
    return Endpoint(
        base_url=url, codec=TGI, transport=lambda: httpx.AsyncHTTPTransport(trust_env=False)
    )


@asynccontextmanager
async def asking(script: Script, settings: Settings | None = None) -> AsyncIterator[Asker]:
    """Yield one who asks a server that plays the script."""
    async with serving(script) as url, asking_at(over_httpx(url), settings) as asker:
        yield asker


async def ask(script: Script, **deadlines: float) -> Timeline:
    """Return the timeline of one request to a server that plays the script."""
    async with asking(script, Settings(deadlines=Deadlines(**deadlines))) as asker:
        return await asker.ask()


async def test_answer_is_stamped_by_the_program() -> None:
    """The tokens have instants, but nobody knows how late the program was to read them."""
    timeline = await ask(plays(HEAD, chunk(tgi_stream(3)), END))

    assert timeline.outcome == Completed("length")
    assert len(timeline.token_at_ns) == 3
    assert (timeline.stamps, timeline.read_lag_ns.size) == ("user", 0)
    assert timeline.sent_at_ns is not None
    assert timeline.sent_at_ns <= timeline.token_at_ns[0] <= timeline.ended_at_ns


async def test_reads_are_counted_as_stamped_by_the_program() -> None:
    """The stage's result can say so."""
    async with asking(plays(HEAD, chunk(tgi_stream(3)), END)) as asker:
        await asker.ask()

    tally = asker.client.tally
    assert tally.reads == tally.user_stamped > 0


@pytest.mark.parametrize(
    ("expected", "script"),
    [
        ("reset", plays()),
        ("truncated", plays(HEAD, chunk(tgi_token()) + b"40\r\ndata:")),
        ("truncated", plays(answer(tgi_token() * 2)[: -len(tgi_token())])),
        ("truncated", plays(HEAD, chunk(tgi_token()), END)),
        ("not_http", plays(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")),
        ("http_503", plays(answer(b"", status=b"503 Because"))),
        ("malformed", plays(answer(b"<html><title>Log in</title></html>"))),
    ],
)
async def test_failures_have_the_same_names(expected: str, script: Script) -> None:
    """What a failure is called does not depend on who met it."""
    assert failure(await ask(script)).error == expected


async def test_reset_in_the_answer() -> None:
    """An RST in mid-answer; what came before it is kept."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, chunk(tgi_token()))
        await anyio.sleep(0.05)  # an RST takes back what the client's kernel has not handed over
        await peer.reset()

    timeline = await ask(script)

    assert failure(timeline).error == "reset"
    assert len(timeline.token_at_ns) == 1


async def test_refused_by_every_address_of_a_name(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may have several addresses; that all of them refused is a refusal."""
    real = socket.getaddrinfo

    def two_addresses(host: bytes | str, *how: int) -> list[object]:
        hosts = ("127.0.0.1", "127.0.0.2") if host in {b"twice", "twice"} else (host,)
        return [address for each in hosts for address in real(each, *how)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    async with asking_at(over_httpx(f"http://twice:{unused_port}")) as asker:
        assert failure(await asker.ask()).error == "refused"


async def test_unresolved() -> None:
    """A name that does not exist."""
    async with asking_at(over_httpx("http://llmperf.invalid")) as asker:
        assert failure(await asker.ask()).error == "unresolved"


@pytest.mark.parametrize(
    ("expected", "script", "deadline"),
    [
        ("timeout_first_token", hang, "first_token_s"),
        ("timeout_gap", plays(HEAD, chunk(tgi_token())), "gap_s"),
        ("timeout_whole", babble, "whole_s"),
    ],
)
async def test_deadlines_hold(expected: str, script: Script, deadline: str) -> None:
    """They are ours and not the transport's."""

    async def and_then_hangs(peer: Peer) -> None:
        await script(peer)
        await anyio.sleep_forever()

    timeline = await ask(and_then_hangs, **{deadline: SHORT_S})

    assert failure(timeline).error == expected


async def test_too_large() -> None:
    """The bound on a response's bytes is ours, too."""
    async with asking(babble, Settings(max_response_bytes=400)) as asker:
        timeline = await asker.ask()

    assert failure(timeline).error == "too_large"


async def test_event_that_is_damaged_in_mid_answer_is_malformed() -> None:
    """Found while the stream still goes on, it ends the request and not the stage."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, chunk(tgi_token()), chunk(b"data: {oh\n\n"))
        await anyio.sleep_forever()

    timeline = await ask(script, gap_s=SHORT_S)

    assert failure(timeline).error == "malformed"
    assert len(timeline.token_at_ns) == 1


async def test_due_is_kept() -> None:
    """Nothing is sent before its instant."""
    async with asking(plays(HEAD, chunk(tgi_stream(3)), END)) as asker:
        timeline = await asker.ask(due_in_s=0.1)

    assert timeline.due_at_ns is not None
    assert timeline.sent_at_ns is not None
    assert 0 <= timeline.sent_at_ns - timeline.due_at_ns < NS_PER_S


async def test_transport_that_has_read_the_answer_already() -> None:
    """As httpx's own fake one does: its answer comes in one piece."""
    fake = httpx.MockTransport(lambda _: httpx.Response(200, content=tgi_stream(3)))
    endpoint = Endpoint(base_url="http://model", codec=TGI, transport=lambda: fake)
    async with asking_at(endpoint) as asker:
        timeline = await asker.ask()

    assert timeline.outcome == Completed("length")
    assert len(timeline.token_at_ns) == 3


async def test_tokens_before_an_event_that_is_too_large() -> None:
    """They arrived, though the piece that held them breaks the protocol further on."""
    body = tgi_token() * 2 + b"data: " + b"x" * MAX_EVENT_BYTES
    fake = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    endpoint = Endpoint(base_url="http://model", codec=TGI, transport=lambda: fake)
    async with asking_at(endpoint) as asker:
        timeline = await asker.ask()

    assert failure(timeline).error == "malformed"
    assert len(timeline.token_at_ns) == 2
