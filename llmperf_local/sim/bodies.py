"""What TGI's routes take and give as JSON.

Field order is the order on the wire. Unknown fields are dropped, as TGI does.

Source: text-generation-inference 3.3, `router/src/lib.rs`.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
U64 = Annotated[int, Meta(ge=0)]


class Parameters(Struct):
    """How to generate."""

    best_of: U64 | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    max_new_tokens: U32 | None = None
    return_full_text: bool | None = None
    stop: list[str] = []
    truncate: U64 | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    seed: U64 | None = None
    top_n_tokens: U32 | None = None
    grammar: object = None
    adapter_id: str | None = None


class GenerateRequest(Struct):
    """`/generate`, `/generate_stream` and `/tokenize`."""

    inputs: str
    parameters: Parameters | None = None

    @property
    def wanted(self) -> Parameters:
        """Its parameters. Whoever gives none gets sampling; whoever gives some, greedy decoding."""
        return Parameters(do_sample=True) if self.parameters is None else self.parameters


class CompatRequest(GenerateRequest):
    """`POST /`, and `/invocations` with `inputs`."""

    stream: bool = False


class TextPart(Struct, tag_field="type", tag="text"):
    """A piece of a message's content."""

    text: str


class Message(Struct):
    """One message of a chat."""

    role: str
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """All that it says."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(Struct):
    """Further wishes for a stream."""

    include_usage: bool = False


class ChatRequest(Struct):
    """`/v1/chat/completions`."""

    messages: list[Message]
    model: str | None = None
    max_tokens: U32 | None = None
    max_completion_tokens: U32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    seed: U64 | None = None
    stop: list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: U32 | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: list[float] | None = None
    tools: list[object] | None = None
    response_format: object = None


class CompletionRequest(Struct):
    """`/v1/completions`."""

    prompt: str | list[str]
    model: str | None = None
    max_tokens: U32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool = False
    seed: U64 | None = None
    suffix: str | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: list[str] | None = None


class Token(Struct, frozen=True):
    """One token of an answer."""

    id: int
    text: str
    logprob: float | None
    special: bool


class StreamDetails(Struct):
    """What the last event of a stream says of it."""

    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int | UnsetType = UNSET


class Details(Struct):
    """What a whole answer says of itself."""

    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[Token]
    tokens: list[Token]


class Generated(Struct):
    """A whole answer."""

    generated_text: str
    details: Details | UnsetType = UNSET


class Usage(Struct):
    """How many tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TokenLogprob(Struct):
    """One token's log-probability, in OpenAI's shape."""

    token: str
    logprob: float
    top_logprobs: list[object] = []


class Logprobs(Struct):
    """Those of a choice."""

    content: list[TokenLogprob]


class ChatMessage(Struct):
    """What the assistant says, whole or in part."""

    role: Literal["assistant"]
    content: str


class ChatChoice(Struct):
    """The one choice of a whole chat answer."""

    index: int
    message: ChatMessage
    logprobs: Logprobs | None
    finish_reason: str


class ChatCompletion(Struct):
    """A whole chat answer."""

    object: Literal["chat.completion"]
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDeltaChoice(Struct):
    """The choice of one chunk."""

    index: int
    delta: ChatMessage
    logprobs: Logprobs | None
    finish_reason: str | None


class ChatChunk(Struct):
    """One event of a chat stream."""

    object: Literal["chat.completion.chunk"]
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatDeltaChoice]
    usage: Usage | None


class CompletionChoice(Struct):
    """A prompt's answer, whole or in part."""

    index: int
    text: str
    logprobs: None
    finish_reason: str


class CompletionFinal(Struct):
    """A whole completion; also the last event of a prompt's stream."""

    object: Literal["text_completion"]
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


class CompletionChunk(Struct):
    """One event of a completion's stream, but for the last. Its fields come in another order."""

    object: Literal["text_completion"]
    id: str
    created: int
    choices: list[CompletionChoice]
    model: str
    system_fingerprint: str


class ErrorBody(Struct):
    """An error of TGI's own routes."""

    error: str
    error_type: str


class OpenAIError(Struct):
    """What an error event of OpenAI's routes holds."""

    message: str
    http_status_code: int


class OpenAIErrorEvent(Struct):
    """An error event of OpenAI's routes."""

    error: OpenAIError


class Piece(Struct):
    """One token of `/tokenize`. The offsets are characters of the text."""

    id: int
    text: str
    start: int
    stop: int
