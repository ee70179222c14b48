"""What the reference server can speak: the bytes of each protocol's streams, as templates.

Each token's event holds `sent_ns`, the monotonic instant at which it left, beside what the protocol
says: no client minds a field more.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from attrs import Factory, evolve, frozen

from llmperf_core.testing.event_stream import MEDIA_TYPE, exception, payload_part

MODEL = "reference"
"""The model that the server says it serves."""


@frozen(kw_only=True)
class Dialect:
    """A protocol as the reference server speaks it.

    The templates are filled with `index` (of the token, from 1), `text` (of the token, as in JSON),
    `tokens` (of the answer), `total` (with the prompt's), `sent_ns` and `message` (of an error).
    """

    name: str
    protocol: str | None
    """The codec that reads it, by its name; None if the core has none."""
    path: str
    """Where it is asked. A `*` stands for a name."""
    token: bytes
    """The event of a token."""
    last: bytes
    """The event of the last token."""
    error: bytes
    """The event of an error."""
    refusal: bytes
    """The JSON body of an HTTP error."""
    says: Mapping[str, bytes] = Factory(dict)
    """What it says of itself, as JSON, by the path that is asked."""
    opening: bytes = b""
    """What comes before the first token and holds none."""
    finish: bytes = b""
    """What comes after the last token and says why the answer ended."""
    usage: bytes = b""
    """What comes after that if it was asked for."""
    done: bytes = b""
    """What comes at the very end."""
    media_type: bytes = b"text/event-stream"
    wrap: Callable[[bytes], bytes] = bytes
    """Packs an event as the transport wants it."""
    wrap_error: Callable[[bytes], bytes] = bytes
    """The same for the event of an error."""


_TOKEN = (
    b'"index":%(index)d,"token":{"id":1,"text":"%(text)b","logprob":-0.35498047,"special":false},'
)
TGI = Dialect(
    name="tgi",
    protocol="tgi",
    path="/generate_stream",
    token=b"data: {" + _TOKEN + b'"generated_text":null,"details":null,"sent_ns":%(sent_ns)d}\n\n',
    last=b"data: {" + _TOKEN + b'"generated_text":"tok","details":{"finish_reason":"length",'
    b'"generated_tokens":%(tokens)d,"seed":null,"input_length":1},"sent_ns":%(sent_ns)d}\n\n',
    error=b'data: {"error":"%(message)b","error_type":"generation"}\n\n',
    refusal=b'{"error":"%(message)b","error_type":"reference"}',
    says={
        "/info": b'{"model_id":"reference","router":"llmperf-reference","max_total_tokens":1000000}'
    },
)
"""Text Generation Inference from 2.1 on: `data: {…}`."""

TGI_2_0 = evolve(
    TGI,
    name="tgi-2.0",
    token=TGI.token.replace(b"data: ", b"data:"),
    last=TGI.last.replace(b"data: ", b"data:"),
    error=TGI.error.replace(b"data: ", b"data:"),
)
"""Text Generation Inference up to 2.0.4: `data:{…}`."""


def _chunk(kind: bytes, rest: bytes) -> bytes:
    head = b'{"id":"reference-1","object":"%b","created":1700000000,"model":"reference",' % kind
    return b"data: " + head + rest + b"}\n\n"


_STAMP = b'"token_index":%(index)d,"sent_ns":%(sent_ns)d'
_USAGE = (
    b'"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%(tokens)d,'
    b'"total_tokens":%(total)d}'
)
_MODELS = b'{"object":"list","data":[{"id":"reference","object":"model","owned_by":"llmperf"}]}'
_CHAT, _TEXT = b"chat.completion.chunk", b"text_completion"


def _delta(delta: bytes, reason: bytes = b"null") -> bytes:
    return b'"choices":[{"index":0,"delta":{%b},"finish_reason":%b}]' % (delta, reason)


OPENAI_CHAT = Dialect(
    name="openai-chat",
    protocol="openai-chat",
    path="/v1/chat/completions",
    opening=_chunk(_CHAT, _delta(b'"role":"assistant","content":""')),
    token=_chunk(_CHAT, _delta(b'"content":"%(text)b"') + b"," + _STAMP),
    last=_chunk(_CHAT, _delta(b'"content":"%(text)b"') + b"," + _STAMP),
    finish=_chunk(_CHAT, _delta(b"", b'"length"')),
    usage=_chunk(_CHAT, _USAGE),
    done=b"data: [DONE]\n\n",
    error=b'data: {"error":{"message":"%(message)b","type":"server_error","code":500}}\n\n',
    refusal=b'{"error":{"message":"%(message)b","type":"reference"}}',
    says={"/v1/models": _MODELS},
)
"""OpenAI's chat completions: a role, the tokens, a reason, the usage if asked for, `[DONE]`."""


def _choice(text: bytes, reason: bytes = b"null") -> bytes:
    return b'"choices":[{"index":0,"text":"%b","finish_reason":%b}]' % (text, reason)


OPENAI_COMPLETIONS = evolve(
    OPENAI_CHAT,
    name="openai-completions",
    protocol="openai-completions",
    path="/v1/completions",
    opening=b"",
    token=_chunk(_TEXT, _choice(b"%(text)b") + b"," + _STAMP),
    last=_chunk(_TEXT, _choice(b"%(text)b") + b"," + _STAMP),
    finish=_chunk(_TEXT, _choice(b"", b'"length"')),
    usage=_chunk(_TEXT, _USAGE),
)
"""OpenAI's text completions: the same without roles."""

EVENT_STREAM = evolve(
    TGI,
    name="sagemaker",
    protocol=None,
    path="/endpoints/*/invocations-response-stream",
    error=b'{"Message":"%(message)b","ErrorCode":"StreamBroken"}',
    refusal=b'{"ErrorCode":"reference","Message":"%(message)b"}',
    says={},
    media_type=MEDIA_TYPE,
    wrap=payload_part,
    wrap_error=partial(exception, "ModelStreamError"),
)
"""A SageMaker endpoint that runs TGI: each event in a message of AWS's event stream."""

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        dialect.name: dialect
        for dialect in (TGI, TGI_2_0, OPENAI_CHAT, OPENAI_COMPLETIONS, EVENT_STREAM)
    }
)
"""All of them, by name."""
