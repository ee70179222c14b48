"""How an answer is written: the events of a stream and the bodies of whole answers, route by route.

What a decode step writes for each stream is put together from bytes that were made before.

Source: text-generation-inference, `router/src/server.rs`, `router/src/chat.rs`.
"""

import time
from typing import Protocol

import msgspec
from attrs import define, field, frozen

from llmperf_local.sim.bodies import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDeltaChoice,
    ChatMessage,
    CompletionChoice,
    CompletionChunk,
    CompletionFinal,
    Details,
    ErrorBody,
    Generated,
    Logprobs,
    OpenAIError,
    OpenAIErrorEvent,
    StreamDetails,
    Token,
    TokenLogprob,
    Usage,
)
from llmperf_local.sim.dialect import Dialect
from llmperf_local.sim.refusal import Refused
from llmperf_local.sim.text import EOS, EOS_ID, WORDS, answer_of, id_of
from llmperf_local.sim.validation import Ready

LOGPROB = -0.35498047
"""Of every token: no model is asked."""
_OPENAI_STATUS = 422
"""In every error event of OpenAI's routes, whatever the error."""

_TOKENS = tuple(Token(id=id_of(word), text=word, logprob=LOGPROB, special=False) for word in WORDS)
_END = Token(id=EOS_ID, text=EOS, logprob=LOGPROB, special=True)
_LOGPROBS = {text: Logprobs([TokenLogprob(text, LOGPROB)]) for text in (*WORDS, "")}

_encode = msgspec.json.encode


@define(eq=False)
class Spoken:
    """What is written of one prompt's answer so far."""

    ready: Ready
    number: int
    """Which of the prompts of its request it answers."""
    tokens: int = 0
    """Written, the one that is being written included."""
    reason: str | None = None
    """Why it ended; None until the last token."""

    @property
    def token(self) -> Token:
        """The token that is being written."""
        if self.reason == "eos_token":
            return _END
        return _TOKENS[(self.ready.first_word + self.tokens - 1) % len(_TOKENS)]

    @property
    def text(self) -> str:
        """All that was written, special tokens left out."""
        words = self.tokens - (self.reason == "eos_token")
        return answer_of(self.ready.first_word, words)

    @property
    def all_tokens(self) -> list[Token]:
        """All that was written."""
        ended = self.reason == "eos_token"
        first = self.ready.first_word
        words = [_TOKENS[(first + i) % len(_TOKENS)] for i in range(self.tokens - ended)]
        return [*words, _END] if ended else words

    @property
    def usage(self) -> Usage:
        """How many tokens."""
        inputs = self.ready.ask.input_tokens
        return Usage(inputs, self.tokens, inputs + self.tokens)


class Voice(Protocol):
    """One route's way to write. Events come without the field's name and the blank line."""

    def event(self, spoken: Spoken) -> bytes:
        """Return the event of the token that was just reached, which is not the last."""
        ...

    def last_event(self, spoken: Spoken) -> bytes:
        """Return the event of the last token."""
        ...

    def closing(self, spoken: Spoken) -> list[bytes]:
        """Return the events that follow when all prompts are answered."""
        ...

    def error(self, refused: Refused) -> list[bytes]:
        """Return the events that end a stream which fails."""
        ...

    def whole(self, answers: list[Spoken]) -> bytes:
        """Return the body of an answer that is not streamed."""
        ...


@frozen(kw_only=True)
class GenerateVoice:
    """TGI's own routes."""

    dialect: Dialect
    full_text: bool = False
    """Begin the text with the prompt."""
    as_list: bool = False
    """Put a whole answer into an array of one."""

    def event(self, spoken: Spoken) -> bytes:
        """Return the event of a token."""
        tail = _GENERATE_TAILS[(spoken.ready.first_word + spoken.tokens - 1) % len(_TOKENS)]
        return (b'{"index":%d,' % spoken.tokens if self.dialect.indexed else b"{") + tail

    def last_event(self, spoken: Spoken) -> bytes:
        """Return the event of the last token, with the text and perhaps details."""
        details = None
        if spoken.ready.question.parameters.details:
            details = StreamDetails(spoken.reason or "", spoken.tokens, spoken.ready.seed)
            if self.dialect.indexed:
                details.input_length = spoken.ready.ask.input_tokens
        return b'%b"token":%b,"generated_text":%b,"details":%b}' % (
            b'{"index":%d,' % spoken.tokens if self.dialect.indexed else b"{",
            _encode(spoken.token),
            _encode(self._text(spoken)),
            _encode(details),
        )

    def closing(self, spoken: Spoken) -> list[bytes]:  # noqa: ARG002 -- the stream just ends
        """Return nothing."""
        return []

    def error(self, refused: Refused) -> list[bytes]:
        """Return the error."""
        return [_encode(ErrorBody(refused.message, refused.error_type))]

    def whole(self, answers: list[Spoken]) -> bytes:
        """Return the text, and details if they are asked for."""
        (spoken,) = answers
        asked = spoken.ready.question.parameters
        answer = Generated(self._text(spoken))
        if asked.details or asked.decoder_input_details:
            answer.details = Details(
                spoken.reason or "", spoken.tokens, spoken.ready.seed, [], spoken.all_tokens
            )
        return _encode([answer] if self.as_list else answer)

    def _text(self, spoken: Spoken) -> str:
        return (spoken.ready.question.inputs if self.full_text else "") + spoken.text


@define(kw_only=True, eq=False)
class ChatVoice:
    """`/v1/chat/completions`."""

    model: str
    fingerprint: str
    include_usage: bool = False
    logprobs: bool = False
    created: int = field(factory=lambda: int(time.time()))
    _head: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        chunk = ChatChunk(
            "chat.completion.chunk", "", self.created, self.model, self.fingerprint, [], None
        )
        self._head = _encode(chunk).removesuffix(_EMPTY_CHAT_TAIL)

    def event(self, spoken: Spoken) -> bytes:
        """Return the chunk of a token."""
        tails = _CHAT_TAILS_WITH_LOGPROBS if self.logprobs else _CHAT_TAILS
        return self._head + tails[(spoken.ready.first_word + spoken.tokens - 1) % len(tails)]

    def last_event(self, spoken: Spoken) -> bytes:
        """Return the chunk of the last token, with the reason."""
        text = "" if spoken.reason == "eos_token" else spoken.token.text
        return self._head + _chat_tail(text, _openai_reason(spoken), logprobs=self.logprobs)

    def closing(self, spoken: Spoken) -> list[bytes]:
        """Return the usage if it is asked for, and the end."""
        if not self.include_usage:
            return [b"[DONE]"]
        return [self._head + b'[],"usage":%b}' % _encode(spoken.usage), b"[DONE]"]

    def error(self, refused: Refused) -> list[bytes]:
        """Return the error and the end."""
        return _openai_error(refused)

    def whole(self, answers: list[Spoken]) -> bytes:
        """Return the whole message."""
        (spoken,) = answers
        logprobs = None
        if self.logprobs:
            words = [token.text for token in spoken.all_tokens if not token.special]
            logprobs = Logprobs([TokenLogprob(word, LOGPROB) for word in words])
        message = ChatMessage("assistant", spoken.text)
        return _encode(
            ChatCompletion(
                "chat.completion",
                "",
                self.created,
                self.model,
                self.fingerprint,
                [ChatChoice(0, message, logprobs, _openai_reason(spoken))],
                spoken.usage,
            )
        )


@define(kw_only=True, eq=False)
class CompletionVoice:
    """`/v1/completions`."""

    model: str
    fingerprint: str
    created: int = field(factory=lambda: int(time.time()))
    _head: bytes = field(init=False)
    _tail: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        chunk = CompletionChunk("text_completion", "", self.created, [], "", "")
        self._head = _encode(chunk).partition(b"[]")[0]
        self._tail = b',"model":%b,"system_fingerprint":%b}' % (
            _encode(self.model),
            _encode(self.fingerprint),
        )

    def event(self, spoken: Spoken) -> bytes:
        """Return the chunk of a token."""
        choice = CompletionChoice(spoken.number, spoken.token.text, None, "")
        return self._head + _encode([choice]) + self._tail

    def last_event(self, spoken: Spoken) -> bytes:
        """Return the chunk of a prompt's last token, with reason and usage."""
        choice = CompletionChoice(spoken.number, spoken.token.text, None, spoken.reason or "")
        return self._final([choice], spoken.usage)

    def closing(self, spoken: Spoken) -> list[bytes]:  # noqa: ARG002 -- the usage was in the last
        """Return the end."""
        return [b"[DONE]"]

    def error(self, refused: Refused) -> list[bytes]:
        """Return the error and the end."""
        return _openai_error(refused)

    def whole(self, answers: list[Spoken]) -> bytes:
        """Return the completions of all prompts, in the order in which they ended."""
        choices = [
            CompletionChoice(spoken.number, spoken.text, None, _openai_reason(spoken))
            for spoken in answers
        ]
        inputs = sum(spoken.ready.ask.input_tokens for spoken in answers)
        tokens = sum(spoken.tokens for spoken in answers)
        return self._final(choices, Usage(inputs, tokens, inputs + tokens))

    def _final(self, choices: list[CompletionChoice], usage: Usage) -> bytes:
        return _encode(
            CompletionFinal(
                "text_completion",
                "",
                self.created,
                self.model,
                self.fingerprint,
                choices,
                usage,
            )
        )


def _openai_reason(spoken: Spoken) -> str:
    return "stop" if spoken.reason == "eos_token" else spoken.reason or ""


def _openai_error(refused: Refused) -> list[bytes]:
    return [_encode(OpenAIErrorEvent(OpenAIError(refused.message, _OPENAI_STATUS))), b"[DONE]"]


def _chat_tail(text: str, reason: str | None, *, logprobs: bool) -> bytes:
    choice = ChatDeltaChoice(
        0, ChatMessage("assistant", text), _LOGPROBS[text] if logprobs else None, reason
    )
    return b'%b,"usage":null}' % _encode([choice])


_EMPTY_CHAT_TAIL = b'[],"usage":null}'
_CHAT_TAILS = tuple(_chat_tail(word, None, logprobs=False) for word in WORDS)
_CHAT_TAILS_WITH_LOGPROBS = tuple(_chat_tail(word, None, logprobs=True) for word in WORDS)
_GENERATE_TAILS = tuple(
    b'"token":%b,"generated_text":null,"details":null}' % _encode(token) for token in _TOKENS
)
