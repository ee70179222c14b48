"""Hugging Face Text Generation Inference, its own routes.

Source: huggingface/text-generation-inference, router/src/lib.rs and router/src/server.rs (1.0-3.3).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from attrs import Factory, frozen

from llmperf_core.errors import DecodeError
from llmperf_core.target import Decoder, Json, Prompt, Reply, Request
from llmperf_core.units import NS_PER_MS
from llmperf_core.wire.decoding import StreamDecoder, WholeDecoder
from llmperf_core.wire.errors import error_text
from llmperf_core.wire.json_text import excerpt, layered, parse
from llmperf_core.wire.tgi_rules import caveats

_Count = Annotated[int, msgspec.Meta(ge=0)]

# Whole milliseconds, truncated; sent with answers that are not streamed.
_DURATION_HEADERS = {
    "x-total-time": "total",
    "x-validation-time": "validation",
    "x-queue-time": "queue",
    "x-inference-time": "inference",
    "x-time-per-token": "time_per_token",
}
_MOST_DIGITS = 15


# What JSON says has no cycles: `gc=False` keeps each event out of the garbage collector's lists.
class _Token(msgspec.Struct, gc=False):
    text: str
    special: bool = False


class _Details(msgspec.Struct, gc=False):
    finish_reason: str | None = None
    generated_tokens: _Count | None = None
    input_length: _Count | None = None


class _Event(msgspec.Struct, gc=False):
    """One event of a stream, or a whole answer."""

    token: _Token | None = None
    generated_text: str | None = None
    details: _Details | None = None
    error: object = None


_EVENT = msgspec.json.Decoder(_Event)
_ANSWER = msgspec.json.Decoder(_Event | list[_Event])


@frozen(kw_only=True)
class Tgi:
    """TGI's own protocol: `/generate_stream`, or `/generate` without a stream."""

    stream: bool = True
    body: Mapping[str, Json] = Factory(dict)
    """Further fields of each request's body, merged into it; None removes one."""

    @property
    def name(self) -> str:
        """`tgi`."""
        return "tgi"

    def request(self, prompt: Prompt) -> Request:
        """Return the request. It decodes greedily unless a parameter says otherwise."""
        # Without `parameters` TGI samples. Without `details` it reports no counts and no reason.
        asked = {"max_new_tokens": prompt.max_new_tokens, "details": True}
        return Request(
            path="/generate_stream" if self.stream else "/generate",
            body=layered(
                {"inputs": prompt.whole_text, "parameters": asked},
                self.body,
                {"parameters": prompt.parameters},
            ),
        )

    def caveats(self, prompt: Prompt) -> Sequence[str]:
        """Return what TGI will ignore or change of the request.

        Raises:
            UsageError: it would refuse it.
        """
        of_all = self.body.get("parameters")
        fields = {**(of_all if isinstance(of_all, Mapping) else {}), **prompt.parameters}
        return caveats(fields, prompt.max_new_tokens, "generate", stream=self.stream)

    def decoder(self, headers: Mapping[str, str]) -> Decoder:
        """Return a decoder for one response."""
        if self.stream:
            events = _Events()
            return StreamDecoder(events.reply, events.take)
        answer = _Answer(headers)
        return WholeDecoder(answer.reply, answer.take)


class _Events:
    """The events of `/generate_stream`: each is one token, the last also the end."""

    def __init__(self) -> None:
        self.reply = Reply()

    def take(self, data: bytes, at_ns: int) -> None:
        event = parse(_EVENT, data)
        token = event.token
        if token is not None:
            # Every event counts, also one without text: the end-of-sequence token, or the
            # beginning of a character whose last byte comes with a later token.
            self.reply.token_at_ns.append(at_ns)
            if not token.special:
                self.reply.text.append(token.text)
        if event.generated_text is not None:
            _end(self.reply, event)
        elif token is None:
            _fail(self.reply, event, data)


class _Answer:
    """The body and the headers of `/generate`."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.reply = Reply()
        self._headers = headers

    def take(self, body: bytes) -> None:
        answers = parse(_ANSWER, body)
        # `POST /` and `/invocations` put the same object into an array of one.
        answer = answers if isinstance(answers, _Event) else answers[0] if answers else _Event()
        if answer.generated_text is None:
            _fail(self.reply, answer, body)
            return
        self.reply.text.append(answer.generated_text)
        self.reply.output_tokens = self._whole("x-generated-tokens")
        self.reply.input_tokens = self._whole("x-prompt-tokens")
        _end(self.reply, answer)
        for header, name in _DURATION_HEADERS.items():
            milliseconds = self._whole(header)
            if milliseconds is not None:
                self.reply.server_ns[name] = milliseconds * NS_PER_MS

    def _whole(self, header: str) -> int | None:
        """Return the header's whole number; None if there is none: it could be a proxy's doing."""
        value = self._headers.get(header, "")
        is_number = value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
        return int(value) if is_number else None


def _end(reply: Reply, last: _Event) -> None:
    reply.ended = True
    details = last.details
    if details is None:
        return
    reply.finish_reason = details.finish_reason
    if details.generated_tokens is not None:
        reply.output_tokens = details.generated_tokens
    if details.input_length is not None:
        reply.input_tokens = details.input_length


def _fail(reply: Reply, event: _Event, data: bytes) -> None:
    if event.error is None:
        raise DecodeError(f"neither a token nor an error of TGI: {excerpt(data)}")
    reply.error = error_text(data)
    reply.ended = True
