"""One request: send it, wait for its end, decode what came, and say how it went."""

import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

import anyio
import httpx
import numpy as np
from attrs import define, evolve, field, frozen

from llmperf_core.errors import DecodeError
from llmperf_core.run.failures import detail_of, failure_of
from llmperf_core.run.settings import Settings
from llmperf_core.target import (
    Decoder,
    Endpoint,
    KnowsRefusals,
    Prompt,
    Reply,
)
from llmperf_core.timeline import (
    Cancelled,
    Censored,
    Completed,
    Connection,
    Durations,
    Failed,
    Outcome,
    Timeline,
    TokenCount,
)
from llmperf_core.units import ns_from_s, s_from_ns
from llmperf_core.wire.decoding import feed_all
from llmperf_core.wire.errors import error_text
from llmperf_core.wire.stamps import Clock
from llmperf_core.wire.trace import EXTENSION, Trace

_SHORTEST_SECRET = 8


@define
class Tally:
    """Reads of all exchanges of a stage."""

    reads: int = 0
    user_stamped: int = 0
    """Of `reads`, those that the kernel had not stamped."""


@frozen(kw_only=True)
class Client:
    """What the exchanges of a stage share."""

    http: httpx.AsyncClient
    endpoint: Endpoint
    settings: Settings
    until: Callable[[int], Awaitable[None]]
    """Returns once the clock has reached an instant."""
    on_wire: bool
    """Whether `http` sends over the measuring wire, which notes and waits by itself."""
    zero_ns: int
    """The run's zero on the clock."""
    tally: Tally
    decoding: anyio.Lock
    admission: AbstractAsyncContextManager[object]
    """Is entered for as long as a request is in flight; may make it wait for others to end."""
    clock: Clock = time.monotonic_ns


@define
class _Answer:
    """What one exchange has learned so far."""

    prompt: Prompt
    trace: Trace
    began_at_ns: int
    decoder: Decoder | None = None
    arrived_at_ns: list[int] = field(factory=list)
    """For each piece of the body that was decoded, in order."""
    read_at_ns: list[int] = field(factory=list)

    @property
    def reply(self) -> Reply:
        return self.decoder.reply if self.decoder is not None else Reply()

    def decode(self) -> None:
        """Feed the decoder what has come since the last time."""
        if self.decoder is None:
            return
        arrived_at_ns, read_at_ns, pieces = self.trace.take_pieces()
        self.arrived_at_ns += arrived_at_ns
        self.read_at_ns += read_at_ns
        feed_all(self.decoder, pieces, arrived_at_ns)

    def read_lag_ns(self) -> Durations:
        """Return for each token how long it lay in the kernel before it was read."""
        arrived_at_ns = np.asarray(self.arrived_at_ns, dtype=np.int64)
        lag_ns = np.asarray(self.read_at_ns, dtype=np.int64) - arrived_at_ns
        return lag_ns[np.searchsorted(arrived_at_ns, self.reply.token_at_ns)]


async def exchange(
    client: Client,
    prompt: Prompt,
    *,
    index: int,
    due_at_ns: int | None,
    note: Callable[[Timeline], None],
    hear: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Make one request, note its timeline whatever becomes of it, and return how it ended.

    Args:
        client: what the stage's exchanges share.
        prompt: what to ask.
        index: the request's ordinal in its stage.
        due_at_ns: when to send it, on the run's clock; None sends it now.
        note: takes the timeline. Called exactly once, also when the exchange is cancelled: the
            request is censored then.
        hear: takes the text of an answer that came whole, if the prompt wants to go on from it.
    """
    not_before_ns = None if due_at_ns is None else client.zero_ns + due_at_ns
    trace = Trace(not_before_ns=not_before_ns, max_bytes=client.settings.max_response_bytes)
    if prompt.cancel_after_tokens is not None:
        trace.wake_bytes = 0  # whoever counts tokens has to see each of them
    answer = _Answer(prompt, trace, not_before_ns or client.clock())
    outcome: Outcome = Censored()
    try:
        async with client.admission:
            outcome = _without_secrets(await _ask(client, answer), client.endpoint)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        outcome = failure_of(error)
    except anyio.get_cancelled_exc_class():
        with suppress(DecodeError):
            answer.decode()  # these tokens did arrive, and count in the throughput
        raise
    finally:
        client.tally.reads += trace.read_count
        client.tally.user_stamped += trace.user_stamped if client.on_wire else trace.read_count
        note(_timeline(client, answer, outcome, index=index, due_at_ns=due_at_ns))
    if prompt.then is not None and isinstance(outcome, Completed):
        hear("".join(answer.reply.text))
    return outcome


async def _ask(client: Client, answer: _Answer) -> Outcome:
    """Send the request, take the response in, and return how it ended."""
    limit = _next_limit(client, answer)
    with anyio.move_on_after(s_from_ns(limit.at_ns - client.clock())) as waiting_for_head:
        response = await _send(client, answer)
        waiting_for_head.deadline = math.inf
        try:
            return await _receive(client, response, answer)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
    return limit.outcome


def _without_secrets(outcome: Outcome, endpoint: Endpoint) -> Outcome:
    """Return the outcome without the words of our headers: servers quote a key that they refuse."""
    if not isinstance(outcome, Failed):
        return outcome
    detail = outcome.detail
    words = (word for value in endpoint.headers.values() for word in value.split())
    for word in filter(lambda word: len(word) >= _SHORTEST_SECRET, words):
        detail = detail.replace(word, "***")
    return evolve(outcome, detail=detail)


async def _send(client: Client, answer: _Answer) -> httpx.Response:
    endpoint, trace = client.endpoint, answer.trace
    asked = endpoint.codec.request(answer.prompt)
    request = client.http.build_request(
        asked.method,
        endpoint.base_url + asked.path,
        content=asked.body,
        headers={**asked.headers, **endpoint.headers},
        extensions={EXTENSION: trace},
    )
    if not client.on_wire:
        if trace.not_before_ns is not None:
            await client.until(trace.not_before_ns)
        trace.sent_at_ns = client.clock()
    return await client.http.send(request, stream=True, auth=endpoint.auth)


async def _receive(client: Client, response: httpx.Response, answer: _Answer) -> Outcome:
    """Wait for the end of the response, within the deadlines, and return how it ended."""
    encoding = response.headers.get("content-encoding", "identity")
    if response.status_code == 200 and encoding != "identity":
        return Failed("encoded", f"content-encoding {encoding!r}, though none was accepted")
    if response.status_code == 200:
        answer.decoder = client.endpoint.codec.decoder(dict(response.headers))
    async with anyio.create_task_group() if not client.on_wire else nullcontext() as reading:
        if reading is not None:
            reading.start_soon(_read_by_program, client, response, answer.trace)
        outcome = await _end(client, answer)
        if reading is not None:
            reading.cancel_scope.cancel()
    return outcome if response.status_code == 200 else _refusal(client, response, answer)


def _refusal(client: Client, response: httpx.Response, answer: _Answer) -> Failed:
    """Return the failure that a status other than 200 is."""
    body, codec = b"".join(answer.trace.take_pieces()[2]), client.endpoint.codec
    known = codec.refusal(response, body) if isinstance(codec, KnowsRefusals) else None
    if known is not None:
        return known
    said = error_text(body) or error_text(response.reason_phrase.encode()) or "without a word"
    return Failed(f"http_{response.status_code}", said)


async def _end(client: Client, answer: _Answer) -> Outcome:
    """Wait for the end, and return how a response with status 200 went."""
    try:
        given_up = await _wait_for_end(client, answer)
        await _decode(client, answer)
        return given_up or _judge(answer)
    except DecodeError as error:
        return Failed(error.failure, detail_of(error))


async def _decode(client: Client, answer: _Answer) -> None:
    """Decode what has come, one answer at a time: between two of them the sockets are read.

    When many answers end at once, all their tasks would otherwise decode before the next read, and
    tokens that arrive meanwhile would be merged.
    """
    async with client.decoding:
        answer.decode()


async def _wait_for_end(client: Client, answer: _Answer) -> Failed | Cancelled | None:
    """Return None when the response has ended, or why it was given up before."""
    enough = answer.prompt.cancel_after_tokens or math.inf
    look_again_s = min(client.settings.deadlines.gap_s, client.settings.deadlines.first_token_s)
    while not answer.trace.ended:
        await _decode(client, answer)
        if len(answer.reply.token_at_ns) >= enough:
            return Cancelled("tokens")
        limit = _next_limit(client, answer)
        left_s = s_from_ns(limit.at_ns - client.clock())
        if left_s <= 0:
            return limit.outcome
        with anyio.move_on_after(min(left_s, look_again_s)):
            await answer.trace.wait()
    return None


async def _read_by_program(client: Client, response: httpx.Response, trace: Trace) -> None:
    """Note what a foreign transport delivers, with the instant at which the program got it."""
    try:
        async for data in response.aiter_bytes():  # also of what a transport has read already
            now_ns = client.clock()
            trace.pieces.extend((now_ns, now_ns, data))
            trace.grew(len(data))
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        trace.end(client.clock(), error)
    else:
        trace.end(client.clock())


def _judge(answer: _Answer) -> Outcome:
    """Return the outcome of a response with status 200 that has ended and been decoded."""
    reply, broken = answer.reply, answer.trace.error
    if answer.decoder is not None and broken is None:
        answer.decoder.finish()
    if reply.error is not None:
        return Failed(reply.error_name, reply.error)
    if reply.ended:
        if reply.token_at_ns or reply.output_tokens or reply.finish_reason:
            return Completed(reply.finish_reason)
        return Failed("empty", "the answer ended without a token or a reason")
    if broken is not None:
        return failure_of(broken)
    return Failed("truncated", "the body ended before the answer did")


@frozen
class _Limit:
    at_ns: int
    outcome: Failed | Cancelled


def _next_limit(client: Client, answer: _Answer) -> _Limit:
    """Return what ends the waiting next, given the tokens that have been decoded."""
    deadlines, tokens = client.settings.deadlines, answer.reply.token_at_ns
    limits = [("timeout_whole", answer.began_at_ns, deadlines.whole_s)]
    if client.endpoint.codec.stream and tokens:
        limits.append(("timeout_gap", tokens[-1], deadlines.gap_s))
    elif client.endpoint.codec.stream:
        limits.append(("timeout_first_token", answer.began_at_ns, deadlines.first_token_s))
    name, since_ns, limit_s = min(limits, key=lambda limit: limit[1] + ns_from_s(limit[2]))
    at_ns, patience_s = since_ns + ns_from_s(limit_s), answer.prompt.cancel_after_s
    if patience_s is not None and answer.began_at_ns + ns_from_s(patience_s) < at_ns:
        return _Limit(answer.began_at_ns + ns_from_s(patience_s), Cancelled("time"))
    return _Limit(at_ns, Failed(name, f"more than {limit_s:g} s"))


def _timeline(
    client: Client, answer: _Answer, outcome: Outcome, *, index: int, due_at_ns: int | None
) -> Timeline:
    trace, reply, zero_ns = answer.trace, answer.reply, client.zero_ns
    ended_at_ns = trace.ended_at_ns if trace.ended_at_ns is not None else client.clock()
    tokens = np.asarray(reply.token_at_ns, dtype=np.int64)
    return Timeline(
        index=index,
        due_at_ns=due_at_ns,
        sent_at_ns=None if trace.sent_at_ns is None else trace.sent_at_ns - zero_ns,
        token_at_ns=tokens - zero_ns,
        read_lag_ns=answer.read_lag_ns() if client.on_wire and not trace.user_stamped else (),
        ended_at_ns=ended_at_ns - zero_ns,
        outcome=outcome,
        tokens=_count(reply),
        asked_tokens=answer.prompt.max_new_tokens,
        connection=trace.connection if client.on_wire else Connection(fresh=False),
        server_ns=reply.server_ns,
        stamps="kernel" if client.on_wire and not trace.user_stamped else "user",
    )


def _count(reply: Reply) -> TokenCount:
    """Return the server's own count where it gave one, else the events of the stream."""
    counted_by_server = reply.output_tokens is not None
    return TokenCount(
        output=reply.output_tokens if reply.output_tokens is not None else len(reply.token_at_ns),
        input=reply.input_tokens,
        cached=reply.cached_tokens,
        counted_by="usage" if counted_by_server else "stream",
    )
