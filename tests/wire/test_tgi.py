"""TGI's own protocol: its requests, and every body it was seen to send."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import DecodeError
from llmperf_core.target import Prompt, Reply
from llmperf_core.wire.tgi import Tgi
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

STREAM = recorded("tgi/02_generate_stream", "response")
ERRORS = "tgi/04_stream_errors_http200"
TEXT = ["Deep", " learning", " is"]


def stream(body: bytes) -> Reply:
    """Decode the body of a stream in one piece."""
    return decode(Tgi().decoder({}), [body])


def answer(body: bytes, headers: dict[str, str] | None = None) -> Reply:
    """Decode a whole answer."""
    return decode(Tgi(stream=False).decoder(headers or {}), [body])


def test_request() -> None:
    """A request asks for details, as without them there are no counts."""
    request = Tgi().request(Prompt(text="Hi", max_new_tokens=7))
    assert (request.method, request.path) == ("POST", "/generate_stream")
    assert request.headers == {"content-type": "application/json"}
    assert json.loads(request.body) == {
        "inputs": "Hi",
        "parameters": {"max_new_tokens": 7, "details": True},
    }
    assert Tgi(stream=False).request(Prompt(text="Hi")).path == "/generate"
    assert Tgi().name == "tgi"


def test_request_merges() -> None:
    """The prompt's parameters go over the body's, those over ours; None removes a field."""
    codec = Tgi(body={"parameters": {"seed": 1, "top_k": 3, "details": None}, "adapter": "a"})
    prompt = Prompt(text="Hi", parameters={"seed": 2, "top_k": None, "stop": ["x"]})
    assert json.loads(codec.request(prompt).body) == {
        "inputs": "Hi",
        "parameters": {"max_new_tokens": 64, "seed": 2, "stop": ["x"]},
        "adapter": "a",
    }


@pytest.mark.parametrize(
    "body",
    [
        STREAM,
        b":\n\n" + STREAM,
        STREAM.replace(b"data: ", b"data:").replace(b"\n", b"\r\n"),
        recorded("tgi/09_invocations_and_compat_root", "generate_shape_stream", "response"),
    ],
)
def test_stream(body: bytes) -> None:
    """Each event is a token, the end of the sequence too, whose text is not part of the answer."""
    assert stream(body) == Reply(
        token_at_ns=[0] * 4,
        text=TEXT,
        finish_reason="eos_token",
        output_tokens=4,
        input_tokens=6,
        ended=True,
    )


def test_stream_of_old_versions() -> None:
    """TGI 1.0 puts no space after `data:`, no index, and does not count the input."""
    reply = stream(recorded("tgi/03_generate_stream_v1_0_3", "response"))
    assert (len(reply.token_at_ns), reply.output_tokens, reply.input_tokens) == (4, 4, None)
    assert reply.ended


def test_stream_without_details() -> None:
    """Without details the end is still seen; the counts are missing."""
    reply = stream(recorded("tgi/02_generate_stream", "variant_details_false_last_event"))
    assert reply == Reply(token_at_ns=[0], ended=True)


@pytest.mark.parametrize("variant", ["with_15s_queue_wait", "top_n_tokens_2_event"])
def test_stream_cut_after_first_token(variant: str) -> None:
    """A stream that stops early keeps its tokens, and has not ended."""
    reply = stream(recorded("tgi/02_generate_stream", f"variant_{variant}"))
    assert reply == Reply(token_at_ns=[0], text=["Deep"])


@given(size=st.integers(0, len(STREAM) - 1))
def test_truncation_is_seen(size: int) -> None:
    """Wherever a stream is cut off, it has not ended, and that alone is no error."""
    reply = stream(STREAM[:size])
    assert not reply.ended
    assert len(reply.token_at_ns) == STREAM[:size].count(b"\n\n")


@pytest.mark.parametrize(
    ("case", "tokens", "error"),
    [
        ("overloaded", 0, "overloaded: Model is overloaded"),
        ("validation", 0, "validation: Input validation error: `inputs` tokens + `max_new_tokens`"),
        ("best_of_2", 0, "validation: Input validation error: `best_of` != 1 is not supported"),
        ("failure_after_two_tokens", 2, "generation: Request failed during generation: Server err"),
        ("ended_without_final_token", 1, "incomplete_generation_stream: Incomplete generation st"),
    ],
)
def test_error_in_stream(case: str, tokens: int, error: str) -> None:
    """TGI answers 200 and puts the error into the stream: that ends it, and is said."""
    reply = stream(recorded(ERRORS, f"generate_stream_{case}"))
    assert (reply.error or "").startswith(error)
    assert (len(reply.token_at_ns), reply.ended) == (tokens, True)


def test_end_with_half_the_details() -> None:
    """What the details leave out is not known."""
    reply = stream(b'data: {"generated_text":"","details":{"finish_reason":"length"}}\n\n')
    assert reply == Reply(finish_reason="length", ended=True)


def test_token_without_text_counts() -> None:
    """A part of a character has no text yet, and is a token all the same."""
    event = b'data: {"token":{"id":1,"text":"","logprob":null,"special":false}}\n\n'
    assert stream(event * 3).token_at_ns == [0, 0, 0]


HEADERS = {
    "x-total-time": "93",
    "x-validation-time": "0",
    "x-queue-time": "1",
    "x-inference-time": "91",
    "x-time-per-token": "22",
    "x-prompt-tokens": "6",
    "x-generated-tokens": "4",
}
SERVER_NS = {
    "total": 93_000_000,
    "validation": 0,
    "queue": 1_000_000,
    "inference": 91_000_000,
    "time_per_token": 22_000_000,
}


def test_answer() -> None:
    """A whole answer has counts and the server's own times, and no instants."""
    assert answer(recorded("tgi/01_generate", "response"), HEADERS) == Reply(
        text=["Deep learning is"],
        finish_reason="eos_token",
        output_tokens=4,
        input_tokens=6,
        server_ns=SERVER_NS,
        ended=True,
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (recorded("tgi/01_generate", "variant_details_false"), "Deep learning is"),
        (
            recorded("tgi/09_invocations_and_compat_root", "generate_shape", "response"),
            "What is Deep Learning?Deep learning is",
        ),
    ],
)
def test_answer_without_details(body: bytes, text: str) -> None:
    """The headers count where the body does not; the body may be an array of one."""
    assert answer(body, HEADERS) == Reply(
        text=[text], output_tokens=4, input_tokens=6, server_ns=SERVER_NS, ended=True
    )


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "²", "9" * 5000])
def test_answer_with_odd_headers(value: str) -> None:
    """A header that is no whole number says nothing; the answer is whole all the same."""
    odd = dict.fromkeys(HEADERS, value)
    reply = answer(recorded("tgi/01_generate", "variant_details_false"), odd)
    assert (reply.server_ns, reply.output_tokens, reply.ended) == ({}, None, True)


def test_error_as_answer() -> None:
    """An error with a good status is an error all the same."""
    reply = answer(recorded("tgi/08_http_errors_non_stream", "overloaded"))
    assert (reply.error, reply.text) == ("overloaded: Model is overloaded", [])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"data: nope\n\n", r"not JSON: 'nope'"),
        (b'data: {"token": 3}\n\n', r"another shape \(.*\): '{\"token\": 3}'"),
        (b'data: {"choices":[]}\n\n', "neither a token nor an error"),
        (b'data: {"token":{"text":"\xff"}}\n\n', "not UTF-8"),
        (b'data: {"x":"\xff","token":{"text":""}}\n\n', "not UTF-8"),
        (b"data: " + b"[" * 9999 + b"\n\n", r"(?s)^.{,60}'\[+…$"),
        (b"<!doctype html>\n<title>x</title>", "not an event stream: '<!doctype"),
        (b'{"generated_text":"Deep"}', "not an event stream"),
        (b"Internal Server Error", "not an event stream: 'Internal Server Error'"),
    ],
)
def test_broken_stream(body: bytes, message: str) -> None:
    """What is no stream of TGI is refused, and the message shows its beginning."""
    with pytest.raises(DecodeError, match=message):
        stream(body)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"[1]", b"3", b'{"generated_text":"De', b"<p>"]
)
def test_broken_answer(body: bytes) -> None:
    """What is no whole answer of TGI is refused."""
    with pytest.raises(DecodeError):
        answer(body)


tgi_events = st.builds(
    lambda text, special: json.dumps({"token": {"text": text, "special": special}}).encode(),
    st.text(max_size=5),
    st.booleans(),
)


@given(wire=sse_streams(tgi_events), data=st.data())
def test_cuts_do_not_matter(wire: SseStream, data: st.DataObject) -> None:
    """However the network cuts a stream, each token has the instant of its last byte."""
    pieces = data.draw(cut(wire.wire))
    reply = decode(Tgi().decoder({}), pieces)
    assert reply.token_at_ns == [piece_of(end, pieces) for end in wire.ends]
    reply.token_at_ns = [0] * len(wire.events)
    assert reply == stream(wire.wire)


@given(body=garbage_streams, data=st.data())
def test_garbage_stream(body: bytes, data: st.DataObject) -> None:
    """Whatever comes as a stream, nothing but a DecodeError is raised, the same for each cut."""
    reply, message = attempt(Tgi().decoder({}), [body])
    assert message is None or len(message) < 300
    assert attempt(Tgi().decoder({}), data.draw(cut(body))) == (reply, message)


@given(
    body=garbage,
    headers=st.dictionaries(st.sampled_from(sorted(HEADERS)), st.text()),
    data=st.data(),
)
def test_garbage_answer(body: bytes, headers: dict[str, str], data: st.DataObject) -> None:
    """Whatever comes as an answer, nothing but a DecodeError is raised, the same for each cut."""
    codec = Tgi(stream=False)
    reply, message = attempt(codec.decoder(headers), [body])
    assert message is None or len(message) < 300
    assert attempt(codec.decoder(headers), data.draw(cut(body))) == (reply, message)
