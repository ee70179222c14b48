"""OpenAI's protocol: requests, and the bodies that each server was seen to send."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import DecodeError
from llmperf_core.target import Json, Prompt, Reply
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from tests.strategies import (
    SseStream,
    attempt,
    cut,
    decode,
    garbage,
    garbage_streams,
    piece_of,
    recorded,
    sse_streams,
)

PROMPT = Prompt(text="Hi", max_new_tokens=7)
LLAMA, VLLM, OTHERS = "openai/llama_cpp", "openai/vllm", "openai/others"
CHAT, COMPLETIONS = "tgi/05_chat_completions_stream", "tgi/07_completions"
ERRORS = "tgi/04_stream_errors_http200"


def stream(body: bytes) -> Reply:
    """Decode the body of a stream in one piece."""
    return decode(OpenAIChat().decoder({}), [body])


def answer(body: bytes) -> Reply:
    """Decode a whole answer; both codecs know those of either."""
    reply = decode(OpenAIChat(stream=False).decoder({}), [body])
    assert decode(OpenAICompletions(stream=False).decoder({}), [body]) == reply
    return reply


def asked(codec: OpenAIChat | OpenAICompletions, prompt: Prompt = PROMPT) -> dict[str, Any]:
    """Return the fields of a request's body."""
    fields: dict[str, Any] = json.loads(codec.request(prompt).body)
    return fields


def test_chat_request() -> None:
    """A chat asks for a greedy stream with usage, from one user's message."""
    assert OpenAIChat().request(PROMPT).path == "/v1/chat/completions"
    assert OpenAIChat().name == "openai-chat"
    assert asked(OpenAIChat(model="m")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 7,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_completions_request() -> None:
    """A completion asks with the bare prompt; without a stream no usage has to be asked for."""
    assert OpenAICompletions().request(PROMPT).path == "/v1/completions"
    assert OpenAICompletions().name == "openai-completions"
    assert asked(OpenAICompletions(stream=False)) == {
        "prompt": "Hi",
        "max_tokens": 7,
        "temperature": 0,
        "stream": False,
    }


@pytest.mark.parametrize("codec", [OpenAIChat, OpenAICompletions])
def test_request_merges(codec: type[OpenAIChat] | type[OpenAICompletions]) -> None:
    """The prompt's parameters go over the body's, those over ours; None removes a field."""
    body: dict[str, Json] = {
        "stream_options": {"continuous_usage_stats": True},
        "seed": 1,
        "temperature": None,
    }
    prompt = Prompt(text="Hi", parameters={"seed": 2, "ignore_eos": True, "max_tokens": None})
    fields = asked(codec(body=body), prompt)
    assert fields["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert (fields["seed"], fields["ignore_eos"]) == (2, True)
    assert not {"temperature", "max_tokens", "model"} & set(fields)


def counts(reply: Reply) -> tuple[int | None, ...]:
    """Return the tokens in the stream, and the server's counts of output and input."""
    return len(reply.token_at_ns), reply.output_tokens, reply.input_tokens


@pytest.mark.parametrize(
    ("body", "in_stream", "by_server", "finish_reason"),
    [
        # TGI: exactly a chunk for each token, the role in each, empty text for special tokens.
        (recorded(CHAT, "response"), 4, (4, 40), "stop"),
        (recorded(CHAT, "variant_no_include_usage"), 4, (None, None), "stop"),
        (recorded(CHAT, "variant_length_stop_last_two_events"), 1, (None, None), "length"),
        (recorded(CHAT, "variant_stop_sequence_finish_reason"), 1, (None, None), "stop_sequence"),
        (recorded(COMPLETIONS, "stream", "response"), 4, (4, 6), "eos_token"),
        (recorded(COMPLETIONS, "stream_two_prompts", "response"), 4, (2, 5), "length"),
        # llama.cpp: a chunk that opens and one that closes, neither a token. In a chat the end of
        # the sequence has no chunk of its own.
        (recorded(LLAMA, "chat_stream_length"), 4, (4, 33), "length"),
        (recorded(LLAMA, "chat_stream_stop"), 24, (25, 33), "stop"),
        (recorded(LLAMA, "completions_stream_length"), 4, (4, 2), "length"),
        (recorded(LLAMA, "completions_stream_stop"), 33, (33, 12), "stop"),
        # vLLM: a chunk that opens; the last token closes.
        (recorded(VLLM, "chat_stream_length"), 3, (3, 33), "length"),
        (recorded(VLLM, "chat_stream_stop"), 3, (3, 33), "stop"),
        (recorded(VLLM, "chat_stream_cut_character"), 5, (5, 33), "length"),
        (recorded(VLLM, "chat_stream_usage_in_each_chunk"), 2, (2, 5), "length"),
        (recorded(VLLM, "chat_stream_reasoning"), 4, (4, 9), "stop"),
        (recorded(VLLM, "chat_stream_tool_call"), 4, (4, 50), "tool_calls"),
        (recorded(VLLM, "chat_stream_empty_tool_calls"), 2, (2, 5), "length"),
        (recorded(VLLM, "chat_stream_two_choices"), 4, (4, 5), "length"),
        (recorded(VLLM, "completions_stream_length"), 3, (3, 7), "length"),
        (recorded(VLLM, "completions_stream_stop"), 3, (3, 7), "stop"),
        (recorded(OTHERS, "transformers_serve_chat_stream"), 2, (2, 8), "length"),
        (recorded(OTHERS, "llama_cpp_python_chat_stream"), 2, (None, None), "length"),
        (recorded(OTHERS, "ollama_chat_stream"), 2, (2, 8), "length"),
        (recorded(OTHERS, "openai_refusal_chat_stream"), 2, (None, None), "stop"),
    ],
)
def test_streams(
    body: bytes,
    in_stream: int,
    by_server: tuple[int | None, int | None],
    finish_reason: str,
) -> None:
    """What counts as a token follows the server's own way; each of these streams has ended."""
    reply = stream(body)
    assert counts(reply) == (in_stream, *by_server)
    assert (reply.finish_reason, reply.ended, reply.error) == (finish_reason, True, None)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (recorded(CHAT, "response"), "Deep learning is"),
        (recorded(LLAMA, "chat_stream_length"), "Hello there! I"),
        (recorded(VLLM, "chat_stream_cut_character"), "Hi \N{LLAMA}"),
        (recorded(VLLM, "chat_stream_reasoning"), "Hm, so42"),
        (recorded(VLLM, "completions_stream_length"), " It\N{RIGHT SINGLE QUOTATION MARK}s fast"),
        (recorded(OTHERS, "openai_refusal_chat_stream"), "I cannot"),
    ],
)
def test_text_of_streams(body: bytes, text: str) -> None:
    """The text is everything that was generated, thoughts and refusals too, and nothing twice."""
    assert "".join(stream(body).text) == text


@pytest.mark.parametrize("variant", ["logprobs_true_top_logprobs_2", "tool_call_chunk"])
def test_stream_cut_after_first_token(variant: str) -> None:
    """A chunk with a token in it is one, and does not end the stream."""
    reply = stream(recorded(CHAT, f"variant_{variant}"))
    assert (reply.token_at_ns, reply.ended) == ([0], False)


def test_first_token_is_not_the_first_chunk() -> None:
    """The instant of the first token is that of the first chunk with content, not of the role."""
    for body in (recorded(LLAMA, "chat_stream_length"), recorded(VLLM, "chat_stream_length")):
        pieces = body.splitlines(keepends=True)
        assert decode(OpenAIChat().decoder({}), pieces).token_at_ns[0] == 3


def test_server_figures() -> None:
    """What llama.cpp measured itself, and what it took from its cache, is kept."""
    reply = stream(recorded(LLAMA, "chat_stream_length"))
    assert reply.cached_tokens == 0
    assert reply.server_ns == {
        "prompt": 206_204_000,
        "predicted": 57_438_000,
        "predicted_per_token": 19_146_000,
    }
    assert stream(recorded(VLLM, "chat_stream_stop")).cached_tokens == 32
    nothing_predicted = b'{"prompt_ms":1,"predicted_ms":0.0000014,"predicted_per_token_ms":null}'
    reply = stream(b'data: {"choices":[],"timings":%b}\n\n' % nothing_predicted)
    assert reply.server_ns == {"prompt": 1_000_000, "predicted": 1}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (recorded(ERRORS, "chat_stream_overloaded"), "Model is overloaded"),
        (
            recorded(ERRORS, "chat_stream_top_p_1"),
            "Input validation error: `top_p` must be > 0.0 and < 1.0",
        ),
        (
            recorded(ERRORS, "completions_stream_generation_error"),
            "Request failed during generation: Server error: CUDA out of memory.",
        ),
        (recorded(ERRORS, "generate_stream_overloaded"), "overloaded: Model is overloaded"),
        (
            recorded(VLLM, "chat_stream_engine_died"),
            "InternalServerError: EngineCore encountered an issue. See stack trace (above)",
        ),
        (b'data: {"error":"out of memory"}\n\n', "out of memory"),
        (b'data: {"choices":[],"error":{"code":7}}\n\n', '{"choices":[],"error":{"code":7}}'),
    ],
)
def test_error_in_stream(body: bytes, error: str) -> None:
    """An error inside a stream of status 200 is one, also if `[DONE]` follows."""
    reply = stream(body)
    assert (reply.error or "").startswith(error)
    assert (reply.token_at_ns, reply.ended) == ([], True)


@pytest.mark.parametrize(
    ("body", "text", "expected", "finish_reason"),
    [
        (
            recorded("tgi/06_chat_completions", "response"),
            "Deep learning is", (3, 40, None), "length",
        ),
        (recorded(COMPLETIONS, "non_stream", "response"), "Deep learning is", (4, 6, None), "stop"),
        (recorded(LLAMA, "chat"), "Hello there! I", (4, 33, 32), "length"),
        (recorded(LLAMA, "completions"), " the scene, a", (4, 2, 1), "length"),
        (recorded(VLLM, "chat"), "Hm. 42", (4, 9, None), "stop"),
    ],
)  # fmt: skip
def test_answers(
    body: bytes, text: str, expected: tuple[int | None, ...], finish_reason: str
) -> None:
    """A whole answer has its counts from usage, and no instants."""
    reply = answer(body)
    assert (reply.output_tokens, reply.input_tokens, reply.cached_tokens) == expected
    assert (reply.text, reply.finish_reason) == ([text], finish_reason)
    assert (reply.token_at_ns, reply.ended) == ([], True)


def test_error_as_answer() -> None:
    """An error with a good status is an error all the same."""
    assert answer(recorded(VLLM, "unauthorized")).error == "Unauthorized"


STREAM = recorded(LLAMA, "chat_stream_length")


@given(size=st.integers(0, len(STREAM) - 1))
def test_truncation_is_seen(size: int) -> None:
    """A stream cut off before its finish reason, or within an event, has not ended."""
    reply = stream(STREAM[:size])
    finish = STREAM.index(b"\n\n", STREAM.index(b'"length"')) + 2
    done = STREAM.index(b"data: [DONE]")
    between_events = STREAM[:size].endswith(b"\n\n") or size >= done + len(b"data: [DONE]")
    assert reply.ended == (size >= finish and between_events)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"data: nope\n\n", "not JSON: 'nope'"),
        (b"data:\n\n", "not JSON: ''"),
        (b'data: {"choices":3}\n\n', "another shape"),
        (b'data: {"choices":[{"text":["a"]}]}\n\n', "another shape"),
        (b'data: {"choices":[],"usage":{"completion_tokens":-1}}\n\n', "another shape"),
        (b'data: {"choices":[],"timings":{"prompt_ms":1e300}}\n\n', "another shape"),
        (b'data: {"token":{"text":"a"}}\n\n', "neither choices nor usage"),
        (b'data: {"choices":[{"text":"\xff"}]}\n\n', "not UTF-8"),
        (b'data: {"x":' + b"[" * 9999 + b"\n\n", "nested too deep"),
        (b"<html><body>login</body></html>", "not an event stream: '<html>"),
        (recorded(LLAMA, "chat"), "not an event stream: '{"),
        (b'error: {"code":500}\n\n', "not an event stream: 'error: {"),
    ],
)
def test_broken_stream(body: bytes, message: str) -> None:
    """What is no stream of the protocol is refused, and the message shows its beginning."""
    with pytest.raises(DecodeError, match=message):
        stream(body)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"choices":[{"mess', STREAM])
def test_broken_answer(body: bytes) -> None:
    """What is no whole answer is refused."""
    with pytest.raises(DecodeError):
        answer(body)


chat_chunks = st.builds(
    lambda text, finish_reason: json.dumps(
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]}
    ).encode(),
    st.text(min_size=1, max_size=5),
    st.sampled_from([None, "", "stop"]),
)


@given(wire=sse_streams(chat_chunks), data=st.data())
def test_cuts_do_not_matter(wire: SseStream, data: st.DataObject) -> None:
    """However the network cuts a stream, each token has the instant of its last byte."""
    pieces = data.draw(cut(wire.wire))
    reply = decode(OpenAIChat().decoder({}), pieces)
    assert reply.token_at_ns == [piece_of(end, pieces) for end in wire.ends]
    reply.token_at_ns = [0] * len(wire.events)
    assert reply == stream(wire.wire)


@given(body=garbage_streams, data=st.data())
def test_garbage_stream(body: bytes, data: st.DataObject) -> None:
    """Whatever comes as a stream, nothing but a DecodeError is raised, the same for each cut."""
    reply, message = attempt(OpenAIChat().decoder({}), [body])
    assert message is None or len(message) < 300
    assert attempt(OpenAIChat().decoder({}), data.draw(cut(body))) == (reply, message)


@given(body=garbage, data=st.data())
def test_garbage_answer(body: bytes, data: st.DataObject) -> None:
    """Whatever comes as an answer, nothing but a DecodeError is raised, the same for each cut."""
    codec = OpenAIChat(stream=False)
    reply, message = attempt(codec.decoder({}), [body])
    assert message is None or len(message) < 300
    assert attempt(codec.decoder({}), data.draw(cut(body))) == (reply, message)
