"""The conformance suite: our own codecs and backends pass it, and what is wrong does not."""

import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from attrs import evolve, frozen

from llmperf_core.target import (
    Backend,
    Codec,
    Decoder,
    Endpoint,
    Options,
    Prompt,
    Reply,
    Request,
    Target,
)
from llmperf_core.testing import conformance
from llmperf_core.wire.decoding import StreamDecoder
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.server import backend as http_backend
from llmperf_core.wire.tgi import Tgi
from llmperf_local.cpu import backend as cpu_backend
from tests.strategies import recorded

CODECS: dict[str, Codec] = {
    "tgi": Tgi(),
    "openai-chat": OpenAIChat(model="m"),
    "openai-completions": OpenAICompletions(model="m"),
}


@conformance.cases("tgi")
def test_tgi(case: conformance.Case) -> None:
    """Our codec of TGI's protocol falls into no trap."""
    case.check(CODECS["tgi"])


@conformance.cases("openai-chat")
def test_openai_chat(case: conformance.Case) -> None:
    """Nor does our codec of chat completions."""
    case.check(CODECS["openai-chat"])


@conformance.cases("openai-completions")
def test_openai_completions(case: conformance.Case) -> None:
    """Nor does our codec of completions."""
    case.check(CODECS["openai-completions"])


WHOLE = conformance.Recording(
    name="whole",
    body=recorded("tgi/01_generate", "response"),
    reply=Reply(
        text=["Deep learning is"],
        finish_reason="eos_token",
        output_tokens=4,
        ended=True,
        server_ns={"queue": 1_000_000},
    ),
    headers={"x-queue-time": "1"},
)
STREAM = conformance.Recording(
    name="stream",
    body=recorded("tgi/02_generate_stream", "response"),
    reply=Reply(
        token_at_ns=[0] * 4,
        text=["Deep", " learning", " is"],
        finish_reason="eos_token",
        output_tokens=4,
        input_tokens=6,
        ended=True,
    ),
)


@conformance.recordings(WHOLE)
def test_recording_of_a_whole_answer(case: conformance.Case) -> None:
    """A codec is held to its own recordings, with the headers that came with them."""
    case.check(Tgi(stream=False))


@conformance.recordings(STREAM)
def test_recording_of_a_stream(case: conformance.Case) -> None:
    """The same for a stream."""
    case.check(Tgi())


@frozen
class Spoiled:
    """A codec whose decoder sees other bytes than came: a mistake, made on purpose."""

    codec: Codec
    spoil: Callable[[bytes], bytes]
    seen: Callable[[Reply], Reply] = lambda reply: reply

    @property
    def name(self) -> str:
        """The codec's."""
        return self.codec.name

    @property
    def stream(self) -> bool:
        """The codec's."""
        return self.codec.stream

    def request(self, prompt: Prompt) -> Request:
        """Return the codec's request."""
        return self.codec.request(prompt)

    def decoder(self, headers: Mapping[str, str]) -> Decoder:
        """Return a decoder that sees other bytes."""
        return SpoiledDecoder(self.codec.decoder(headers), self.spoil, self.seen)


@frozen
class SpoiledDecoder:
    """The decoder of a spoiled codec."""

    inner: Decoder
    spoil: Callable[[bytes], bytes]
    seen: Callable[[Reply], Reply]

    @property
    def reply(self) -> Reply:
        """The reply, as it is seen."""
        return self.seen(self.inner.reply)

    def feed(self, data: bytes, at_ns: int) -> None:
        """Take other bytes."""
        self.inner.feed(self.spoil(data), at_ns)

    def finish(self) -> None:
        """End."""
        self.inner.finish()


def failing(protocol: str, codec: Codec) -> set[str]:
    """Return the names of the cases that the codec does not pass."""
    failed = set()
    for case in conformance.cases_of(protocol):
        try:
            case.check(codec)
        except AssertionError:
            failed.add(case.name)
    return failed


def text_of_piece(data: bytes) -> bytes:
    """Decode each piece by itself, as many a client does."""
    return data.decode(errors="ignore").encode()


def one_more(reply: Reply) -> Reply:
    """Count a token too many."""
    return evolve(reply, token_at_ns=[*reply.token_at_ns, 0])


MISTAKES: dict[str, tuple[Callable[[bytes], bytes], Callable[[Reply], Reply], set[str]]] = {
    "decodes-pieces": (text_of_piece, lambda reply: reply, {"usual", "crlf", "damage"}),
    "needs-lf": (lambda data: data.replace(b"\r", b""), lambda reply: reply, {"cr"}),
    "counts-chunks": (lambda data: data, one_more, {"usual", "role-only", "truncated"}),
    "never-ends": (lambda d: d, lambda reply: evolve(reply, ended=False), {"usual", "no-done"}),
    "always-ends": (lambda d: d, lambda reply: evolve(reply, ended=True), {"truncated", "no-end"}),
    "silent": (lambda d: d, lambda reply: evolve(reply, error=None), {"in-band-error"}),
    "without-usage": (lambda d: d, lambda reply: evolve(reply, output_tokens=None), {"usual"}),
    "mute": (lambda d: d, lambda reply: evolve(reply, text=[]), {"usual", "crlf"}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    """Each mistake of a codec fails the cases that are about it."""
    spoil, seen, expected = MISTAKES[mistake]
    assert expected <= failing("openai-chat", Spoiled(CODECS["openai-chat"], spoil, seen))


def test_a_foreign_error_is_found() -> None:
    """A decoder that lets another error out fails, and is told which."""

    def strict(data: bytes) -> bytes:
        return data.decode().encode()

    (damage,) = [case for case in conformance.cases_of("tgi") if case.name == "damage"]
    with pytest.raises(AssertionError, match=r"nothing else, but for .* it raised UnicodeDecode"):
        damage.check(Spoiled(CODECS["tgi"], strict))


def test_a_codec_of_another_protocol_fails() -> None:
    """Its request and its replies are other ones."""
    failed = failing("openai-completions", CODECS["tgi"])
    assert {"request", "usual", "crlf"} <= failed
    assert "request" in failing("tgi", CODECS["openai-chat"])
    assert "request" in failing("tgi", Tgi(stream=False))


def test_a_late_token_is_found() -> None:
    """A decoder that waits for the next event before it yields the last one."""

    class Late:
        """A decoder that is one event behind."""

        def __init__(self, inner: Decoder) -> None:
            self.inner, self.held = inner, b""

        @property
        def reply(self) -> Reply:
            return self.inner.reply

        def feed(self, data: bytes, at_ns: int) -> None:
            self.inner.feed(self.held, at_ns)
            self.held = data

        def finish(self) -> None:
            self.inner.feed(self.held, -1)
            self.inner.finish()

    @frozen
    class LateTgi(Tgi):
        def decoder(self, headers: Mapping[str, str]) -> Decoder:
            return Late(super().decoder(headers))

    assert "usual" in failing("tgi", LateTgi())


def test_a_recording_must_be_met() -> None:
    """Another reply fails, and so does one that comes before the end."""
    other = evolve(STREAM, reply=evolve(STREAM.reply, output_tokens=5))
    early = Spoiled(Tgi(), lambda data: data, lambda reply: evolve(reply, ended=True))
    for recording, codec, words in ((other, Tgi(), "must give"), (STREAM, early, "no whole")):
        _, replay, _ = conformance.cases_of_recordings(recording)
        with pytest.raises(AssertionError, match=words):
            replay.check(codec)


def test_an_unknown_protocol_is_refused() -> None:
    """It says which there are."""
    with pytest.raises(ValueError, match="'grpc' is none of tgi, openai-chat, openai-completions"):
        conformance.cases_of("grpc")


@pytest.mark.parametrize(
    ("backend", "url", "refuses"),
    [(http_backend, "http://127.0.0.1:8080", ["http://"]), (cpu_backend, "cpu:tiny", [])],
    ids=["http", "cpu"],
)
def test_our_backends(backend: Backend, url: str, refuses: list[str]) -> None:
    """They owe what every backend owes."""
    conformance.check_backend(backend, url, refuses=refuses)


@frozen
class Lab:
    """A backend and its only target, which can be made to err."""

    scheme: str = "lab"
    line: str = "a server of our lab"
    named: str = "lab"
    base_url: str = "http://gpu7.lab.example:8000"
    reaches: bool = False

    @property
    def schemes(self) -> Mapping[str, str]:
        """Its scheme."""
        return {self.scheme: self.line} if self.scheme else {}

    @property
    def name(self) -> str:
        """The target's name."""
        return self.named

    def target(self, url: str, options: Options) -> Target:  # noqa: ARG002 -- whatever was asked
        """Return itself."""
        if self.reaches:
            socket.create_connection(("127.0.0.1", 1))
        return self

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Connect."""
        yield Endpoint(base_url=self.base_url, codec=Tgi())


@pytest.mark.parametrize(
    ("lab", "words"),
    [
        (Lab(scheme=""), "at least one URL scheme"),
        (Lab(scheme="Lab:"), "'Lab:' is no URL scheme"),
        (Lab(line=""), "one line about it"),
        (Lab(scheme="labor"), "one of the backend's"),
        (Lab(reaches=True), "is pure"),
        (Lab(named="a\nb"), "a name, of one line"),
    ],
)
def test_a_backend_that_errs_is_found(lab: Lab, words: str) -> None:
    """Each way to err has its words."""
    conformance.check_backend(Lab(), "lab:gpu7")
    with pytest.raises(AssertionError, match=re.escape(words)):
        conformance.check_backend(lab, "lab:gpu7")


def test_a_backend_that_takes_anything_is_found() -> None:
    """A URL that must be refused is not."""
    with pytest.raises(AssertionError, match="must be refused"):
        conformance.check_backend(Lab(), "lab:gpu7", refuses=["lab:!"])


async def test_targets() -> None:
    """A target's endpoint has an absolute URL, and asks in another process as here."""
    await conformance.check_target(Lab())
    for url, words in (("gpu7:8000", "absolute URL"), ("http://gpu7/", "begins with the slash")):
        with pytest.raises(AssertionError, match=words):
            await conformance.check_target(Lab(base_url=url))


def test_streams_of_our_own_shape_are_framed_once() -> None:
    """A third party's codec may take our stream decoder, and passes with it."""

    @frozen
    class Echo:
        name: str = "echo"
        stream: bool = True

        def request(self, prompt: Prompt) -> Request:
            return Request(path="/echo", body=prompt.text.encode())

        def decoder(self, headers: Mapping[str, str]) -> Decoder:  # noqa: ARG002 -- say nothing
            reply = Reply()

            def take(data: bytes, at_ns: int) -> None:
                reply.token_at_ns.append(at_ns)
                reply.ended = data == b"end"

            return StreamDecoder(reply, take)

    recording = conformance.Recording(
        name="echo",
        body=b"data: a\n\ndata: end\n\n",
        reply=Reply(token_at_ns=[0, 0], ended=True),
    )
    for case in conformance.cases_of_recordings(recording):
        case.check(Echo())
