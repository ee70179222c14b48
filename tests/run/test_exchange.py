"""What one request's timeline says, against scripted servers and over the measuring wire."""

import time
from itertools import pairwise

import anyio
import httpx
import pytest

from llmperf_core.run.exchange import exchange
from llmperf_core.timeline import Censored, Completed, Timeline
from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_core.wire.tgi import Tgi
from tests.run.asking import CHAT, PROMPT, SHORT_S, TGI, ask, ask_at, asking, failure
from tests.scripted import (
    DONE,
    END,
    HEAD,
    Peer,
    answer,
    babble,
    chat_finish,
    chat_role,
    chat_token,
    chunk,
    plays,
    serving,
    tgi_last,
    tgi_stream,
    tgi_token,
)
from tests.strategies import recorded


async def test_a_whole_answer_completes() -> None:
    """Every token has its instant and its read lag, in order, between sent and ended."""
    timeline = await ask(plays(HEAD, *map(chunk, [tgi_token(), tgi_token(), tgi_last(3)]), END))

    assert timeline.outcome == Completed("length")
    assert timeline.stamps == "kernel"
    assert (timeline.tokens.output, timeline.tokens.counted_by) == (3, "usage")
    assert timeline.asked_tokens == 3
    assert len(timeline.read_lag_ns) == 3
    assert (timeline.read_lag_ns >= 0).all()
    assert timeline.sent_at_ns is not None
    instants = [timeline.sent_at_ns, *timeline.token_at_ns.tolist(), timeline.ended_at_ns]
    assert all(a <= b for a, b in pairwise(instants))


async def test_an_answer_that_is_not_streamed_completes() -> None:
    """It has tokens, but no instants of them."""
    body = recorded("tgi/01_generate", "response")
    timeline = await ask(plays(answer(body)), Tgi(stream=False))

    assert timeline.completed
    assert timeline.tokens.output > 0
    assert not timeline.token_at_ns.size


async def test_cancelled_is_censored_and_noted_once() -> None:
    """Nobody knows how long it would have taken; what came is kept."""
    async with asking(babble) as asker:
        # How long the first tokens take is the machine's affair: it is given more until they came.
        for seconds in (SHORT_S, 10 * SHORT_S, 100 * SHORT_S):
            noted: list[Timeline] = []
            with anyio.move_on_after(seconds) as scope:
                await exchange(asker.client, PROMPT, index=7, due_at_ns=None, note=noted.append)
            [timeline] = noted
            assert scope.cancelled_caught
            assert (timeline.outcome, timeline.index) == (Censored(), 7)
            assert len(timeline.token_at_ns) == len(timeline.read_lag_ns) == timeline.tokens.output
            if timeline.tokens.output > 1:
                break

    assert timeline.tokens.output > 1
    assert timeline.sent_at_ns is not None


async def test_cancelled_before_it_is_due_was_never_sent() -> None:
    """A request that waited for its instant is censored, too."""
    noted: list[Timeline] = []
    async with asking(babble) as asker:
        due_at_ns = time.monotonic_ns() - asker.client.zero_ns + 60 * NS_PER_S
        with anyio.move_on_after(SHORT_S):
            await exchange(asker.client, PROMPT, index=0, due_at_ns=due_at_ns, note=noted.append)

    [timeline] = noted
    assert timeline.outcome == Censored()
    assert (timeline.due_at_ns, timeline.sent_at_ns) == (due_at_ns, None)


async def slow_to_speak(peer: Peer) -> None:
    """Send the head and the role at once, and the first token later."""
    await peer.request()
    await peer.send(HEAD, chunk(chat_role()))
    await anyio.sleep(SHORT_S)
    await peer.send(chunk(chat_token()), chunk(chat_finish()), chunk(DONE), END)


async def test_ttft_ends_with_the_first_content() -> None:
    """Neither the head nor a chunk that only opens is a token."""
    timeline = await ask(slow_to_speak, CHAT)

    assert timeline.completed
    assert len(timeline.token_at_ns) == 1
    assert timeline.sent_at_ns is not None
    assert timeline.token_at_ns[0] - timeline.sent_at_ns >= SHORT_S * NS_PER_S


async def test_first_token_deadline_ends_with_the_first_content() -> None:
    """A role does not count as a sign of life."""
    timeline = await ask(slow_to_speak, CHAT, first_token_s=SHORT_S / 3)

    assert failure(timeline).error == "timeout_first_token"


@pytest.mark.parametrize("due_in_s", [None, 0.2], ids=["closed", "open"])
async def test_connecting_is_no_part_of_ttft(
    due_in_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that takes its time is timed apart: sent comes after it, due or not."""
    real = anyio.getaddrinfo

    async def slow(*where: object, **how: object) -> object:
        await anyio.sleep(0.1)
        return await real(*where, **how)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(anyio, "getaddrinfo", slow)
    async with asking(plays(HEAD, chunk(tgi_stream(3)), END)) as asker:
        timeline = await asker.ask(due_in_s)

    assert timeline.completed
    assert timeline.connection.connect_ns >= 100 * NS_PER_MS
    assert timeline.start_at_ns is not None
    assert timeline.token_at_ns[0] - timeline.start_at_ns < timeline.connection.connect_ns


async def test_connection_is_used_again() -> None:
    """A kept-alive connection costs nothing and says so."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(HEAD, chunk(tgi_stream(3)), END)

    async with asking(script) as asker:
        first, second = await asker.ask(), await asker.ask()

    assert first.connection.fresh
    assert not second.connection.fresh
    assert (second.connection.connect_ns, second.connection.reopened) == (0, 0)


async def test_connection_closed_after_each_stream_is_reopened() -> None:
    """llama.cpp closes right after a stream and does not say so: no request fails, all counted."""
    async with asking(plays(HEAD, chunk(tgi_stream(3)), END)) as asker:
        timelines = [await asker.ask() for _ in range(5)]

    assert [timeline.outcome for timeline in timelines] == [Completed("length")] * 5
    # The close may come before or after the next request looks: either way it is a fresh one.
    assert all(timeline.connection.fresh for timeline in timelines)
    assert timelines[0].connection.reopened == 0
    assert sum(timeline.connection.reopened for timeline in timelines) > 0


async def test_connection_that_dies_under_the_next_request_is_reopened() -> None:
    """The server closes as the next request comes in: it was not taken up, so it is sent again."""
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.request())
        await peer.send(HEAD, chunk(tgi_stream(3)), END)
        asked.append(await peer.request())

    async with asking(script) as asker:
        first, second = await asker.ask(), await asker.ask()

    assert first.completed
    assert second.completed
    assert second.connection.fresh
    assert second.connection.reopened == 1
    assert len(asked) == 3


async def test_request_is_what_the_codec_wrote() -> None:
    """The codec's body and path, the endpoint's headers, and no compression asked for."""
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.request())
        await peer.send(HEAD, chunk(tgi_stream(3)), END)

    async with serving(script) as url:
        timeline = await ask_at(url, headers={"authorization": "Bearer k"})

    assert timeline.completed
    [sent] = asked
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /generate_stream HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer k" in head
    assert b"\r\naccept-encoding: identity" in head
    assert body == TGI.request(PROMPT).body


async def test_auth_signs_each_request() -> None:
    """An endpoint's `httpx.Auth` has the last word on the headers."""
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.request())
        await peer.send(HEAD, chunk(tgi_stream(3)), END)

    async with serving(script) as url:
        timeline = await ask_at(url, auth=httpx.BasicAuth("me", "pw"))

    assert timeline.completed
    assert b"\r\nauthorization: Basic bWU6cHc=" in asked[0].replace(
        b"Authorization", b"authorization"
    )


async def test_cookies_are_not_kept() -> None:
    """Each request is another user's: a balancer's cookie must not pin them all to one replica."""
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            asked.append(await peer.request())
            head = HEAD.replace(b"\r\n\r\n", b"\r\nset-cookie: replica=1; path=/\r\n\r\n")
            await peer.send(head, chunk(tgi_stream(3)), END)

    async with asking(script) as asker:
        await asker.ask()
        await asker.ask()

    assert [b"cookie:" in request.lower() for request in asked] == [False, False]
