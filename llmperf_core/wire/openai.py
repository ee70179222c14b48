"""The protocol of OpenAI's API, as TGI, vLLM, llama.cpp and others speak it.

Source: https://platform.openai.com/docs/api-reference/chat, and what these servers really send.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from attrs import Factory, frozen

from llmperf_core.errors import DecodeError
from llmperf_core.target import Decoder, Json, Prompt, Reply, Request
from llmperf_core.units import ns_from_ms
from llmperf_core.wire.decoding import StreamDecoder, WholeDecoder
from llmperf_core.wire.errors import error_text
from llmperf_core.wire.json_text import excerpt, layered, parse
from llmperf_core.wire.tgi_rules import caveats

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


# What JSON says has no cycles: `gc=False` keeps each event out of the garbage collector's lists.
class _Message(msgspec.Struct, gc=False):
    """What a chat answer says: all of it, or what a chunk adds to it."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None

    @property
    def text(self) -> str | None:
        """Everything that was generated, thoughts first; None if there is not even an empty text.

        Thoughts have two names, and some servers send both.
        """
        parts = (self.reasoning_content or self.reasoning, self.content, self.refusal)
        given = [part for part in parts if part is not None]
        return "".join(given) if given else None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: object | msgspec.UnsetType = msgspec.UNSET


class _CachedTokens(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _CachedTokens | None = None


class _Timings(msgspec.Struct, gc=False):
    """What llama.cpp measured: the prompt, and the decoding after it."""

    prompt_ms: _Milliseconds | None = None
    predicted_ms: _Milliseconds | None = None
    predicted_per_token_ms: _Milliseconds | None = None


class _Chunk(msgspec.Struct, gc=False):
    """One event of a stream, or a whole answer."""

    id: object = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: object = None


_CHUNK = msgspec.json.Decoder(_Chunk)


@frozen(kw_only=True)
class OpenAIChat:
    """Chat completions: the prompt is one message of the user."""

    model: str | None = None
    """The model to name; None names none."""
    stream: bool = True
    body: Mapping[str, Json] = Factory(dict)
    """Further fields of each request's body, merged into it; None removes one."""
    tgi: bool = False
    """Whether the server is TGI, which refuses and ignores some of what others take."""

    @property
    def name(self) -> str:
        """`openai-chat`."""
        return "openai-chat"

    def request(self, prompt: Prompt) -> Request:
        """Return the request. It decodes greedily unless a parameter says otherwise."""
        said = (*prompt.history, ("user", prompt.text))
        asked: Json = [{"role": speaker, "content": text} for speaker, text in said]
        fields = {"model": self.model, "messages": asked, **_settings(prompt, stream=self.stream)}
        return Request(
            path="/v1/chat/completions", body=layered(fields, self.body, prompt.parameters)
        )

    def caveats(self, prompt: Prompt) -> Sequence[str]:
        """Return what the server will ignore or change of the request, where it is known to.

        Raises:
            UsageError: it would refuse it.
        """
        return _caveats(self.body, prompt, stream=self.stream) if self.tgi else ()

    def decoder(self, headers: Mapping[str, str]) -> Decoder:  # noqa: ARG002 -- say nothing
        """Return a decoder for one response."""
        return _decoder(stream=self.stream)


@frozen(kw_only=True)
class OpenAICompletions:
    """Text completions: the prompt goes to the model as it is, without a chat template."""

    model: str | None = None
    """The model to name; None names none."""
    stream: bool = True
    body: Mapping[str, Json] = Factory(dict)
    """Further fields of each request's body, merged into it; None removes one."""
    tgi: bool = False
    """Whether the server is TGI, which refuses and ignores some of what others take."""

    @property
    def name(self) -> str:
        """`openai-completions`."""
        return "openai-completions"

    def request(self, prompt: Prompt) -> Request:
        """Return the request. It decodes greedily unless a parameter says otherwise."""
        fields = {"model": self.model, "prompt": prompt.whole_text}
        settings = _settings(prompt, stream=self.stream)
        return Request(
            path="/v1/completions", body=layered(fields, settings, self.body, prompt.parameters)
        )

    def caveats(self, prompt: Prompt) -> Sequence[str]:
        """Return what the server will ignore or change of the request, where it is known to.

        Raises:
            UsageError: it would refuse it.
        """
        return _caveats(self.body, prompt, stream=self.stream) if self.tgi else ()

    def decoder(self, headers: Mapping[str, str]) -> Decoder:  # noqa: ARG002 -- say nothing
        """Return a decoder for one response."""
        return _decoder(stream=self.stream)


def _settings(prompt: Prompt, *, stream: bool) -> Mapping[str, Json]:
    return {
        "max_tokens": prompt.max_new_tokens,
        # Greedy, so that a run can be repeated: without it servers sample, each with defaults of
        # its own. A model that takes no temperature is asked with `temperature: None`.
        "temperature": 0,
        "stream": stream,
        "stream_options": {"include_usage": True} if stream else None,
    }


def _caveats(body: Mapping[str, Json], prompt: Prompt, *, stream: bool) -> Sequence[str]:
    return caveats({**body, **prompt.parameters}, prompt.max_new_tokens, "openai", stream=stream)


def _decoder(*, stream: bool) -> Decoder:
    chunks = _Chunks()
    if stream:
        return StreamDecoder(chunks.reply, chunks.take)
    return WholeDecoder(chunks.reply, chunks.take_whole)


class _Chunks:
    """The chunks of a stream, or the one object that stands for all of them."""

    def __init__(self) -> None:
        self.reply = Reply()
        self._answering: set[int] = set()  # the choices that have had a token

    def take(self, data: bytes, at_ns: int) -> None:
        if data.strip() == b"[DONE]":
            self.reply.ended = True
            return
        chunk = parse(_CHUNK, data)
        for choice in self._choices(chunk, data):
            text = choice.text if choice.delta is None else choice.delta.text
            if self._bears_token(choice, text, chunk):
                self._answering.add(choice.index)
                self.reply.token_at_ns.append(at_ns)
            self._say(text, choice.finish_reason)

    def take_whole(self, body: bytes) -> None:
        for choice in self._choices(parse(_CHUNK, body), body):
            text = choice.text if choice.message is None else choice.message.text
            self._say(text, choice.finish_reason)

    def _choices(self, chunk: _Chunk, data: bytes) -> list[_Choice]:
        """Take everything but the choices, and return these."""
        if chunk.error is not None:
            self.reply.error = error_text(data)
            self.reply.ended = True
        elif chunk.choices is None and chunk.usage is None:
            raise DecodeError(f"neither choices nor usage nor an error: {excerpt(data)}")
        if chunk.usage is not None:
            self._count(chunk.usage)
        if chunk.timings is not None:
            self._time(chunk.timings)
        return chunk.choices or []

    def _bears_token(self, choice: _Choice, text: str | None, chunk: _Chunk) -> bool:
        """Return whether the chunk stands for a token of this choice, with or without text.

        A token may have no text: the end of the sequence, or a part of a character. What tells
        it from a chunk that only opens (`role`) or closes (`finish_reason`) is the server's way.
        """
        if text or (choice.delta is not None and choice.delta.tool_calls):
            return True
        if text is None:
            return False
        if chunk.id == "":
            return True  # TGI: no id, and exactly one chunk for each token
        if choice.finish_reason:
            # vLLM, known by `stop_reason`, closes in the chunk of the last token; llama.cpp,
            # Ollama and OpenAI send a chunk of its own for that.
            return choice.stop_reason is not msgspec.UNSET
        return choice.delta is None or choice.index in self._answering

    def _say(self, text: str | None, finish_reason: str | None) -> None:
        if text:
            self.reply.text.append(text)
        if finish_reason:  # TGI's completions say "" until the end
            self.reply.finish_reason = finish_reason
            self.reply.ended = True

    def _count(self, usage: _Usage) -> None:
        reply, details = self.reply, usage.prompt_tokens_details
        reply.output_tokens, reply.input_tokens = usage.completion_tokens, usage.prompt_tokens
        reply.cached_tokens = None if details is None else details.cached_tokens

    def _time(self, timings: _Timings) -> None:
        for name, milliseconds in (
            ("prompt", timings.prompt_ms),
            ("predicted", timings.predicted_ms),
            ("predicted_per_token", timings.predicted_per_token_ms),
        ):
            if milliseconds is not None:
                self.reply.server_ns[name] = ns_from_ms(milliseconds)
