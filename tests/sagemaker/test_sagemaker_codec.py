"""The codec: a model's protocol inside of SageMaker's, however both are cut."""

import json
from collections.abc import Iterator, Mapping

import pytest
from attrs import evolve, frozen
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import UsageError
from llmperf_core.target import Careful, Codec, Decoder, KnowsRefusals, Prompt, Reply, Request
from llmperf_core.testing import conformance
from llmperf_core.testing.event_stream import exception, frame, payload_part, string_headers
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.tgi import Tgi
from llmperf_sagemaker.codec import Invocation, Route
from tests.strategies import attempt, cut, decode, recorded

ROUTE = Route(endpoint="llama")
CODECS = {
    codec.name: Invocation(route=ROUTE, inner=codec)
    for codec in (Tgi(), OpenAIChat(model="m"), OpenAICompletions(model="m"))
}
ANSWER = recorded("tgi/02_generate_stream", "response")


@frozen
class InParts:
    """What the codec's decoder makes of a model's own bytes, each piece of them in a part."""

    codec: Codec

    @property
    def name(self) -> str:
        """The codec's."""
        return self.codec.name

    @property
    def stream(self) -> bool:
        """The codec's."""
        return self.codec.stream

    def request(self, prompt: Prompt) -> Request:
        """Return the codec's."""
        return self.codec.request(prompt)

    def decoder(self, headers: Mapping[str, str]) -> Decoder:
        """Return a decoder of the model's bytes."""
        return _Parts(self.codec.decoder(headers))


@frozen
class _Parts:
    inner: Decoder

    @property
    def reply(self) -> Reply:
        return self.inner.reply

    def feed(self, data: bytes, at_ns: int) -> None:
        self.inner.feed(payload_part(data), at_ns)

    def finish(self) -> None:
        self.inner.finish()


@conformance.cases("tgi")
def test_tgi_in_parts(case: conformance.Case) -> None:
    """However parts cut TGI's events, the codec falls into no trap."""
    case.check(InParts(CODECS["tgi"]))


@conformance.cases("openai-chat")
def test_openai_chat_in_parts(case: conformance.Case) -> None:
    """Nor with chat completions."""
    case.check(InParts(CODECS["openai-chat"]))


@conformance.cases("openai-completions")
def test_openai_completions_in_parts(case: conformance.Case) -> None:
    """Nor with completions."""
    case.check(InParts(CODECS["openai-completions"]))


def parts(body: bytes, size: int) -> bytes:
    """Return a body in parts of so many bytes."""
    return b"".join(payload_part(body[at : at + size]) for at in range(0, len(body), size))


WHOLE = Reply(
    token_at_ns=[0] * 4,
    text=["Deep", " learning", " is"],
    finish_reason="eos_token",
    output_tokens=4,
    input_tokens=6,
    ended=True,
)
BROKEN = evolve(
    WHOLE,
    token_at_ns=[0],
    text=["Deep"],
    finish_reason=None,
    output_tokens=None,
    input_tokens=None,
    error="StreamBroken: the container died",
    error_name="model_stream_error",
)
FIRST = ANSWER[: ANSWER.index(b"\n\n") + 2]
REST = ANSWER.removeprefix(FIRST)
ERROR = exception(
    "ModelStreamError", b'{"Message":"the container died","ErrorCode":"StreamBroken"}'
)


@conformance.recordings(
    conformance.Recording(name="a part", body=payload_part(ANSWER), reply=WHOLE),
    conformance.Recording(name="parts", body=parts(ANSWER, 100), reply=WHOLE),
    conformance.Recording(name="broken off", body=payload_part(FIRST) + ERROR, reply=BROKEN),
)
def test_recordings(case: conformance.Case) -> None:
    """However the network cuts the parts, and whatever becomes of their bytes."""
    case.check(CODECS["tgi"])


@given(st.data(), st.integers(1, 400))
def test_many_pieces_are_as_one_after_the_other(data: st.DataObject, size: int) -> None:
    """The quick way gives what the slow one gives, with the same instants."""
    pieces = data.draw(cut(parts(ANSWER, size) + data.draw(st.sampled_from([b"", ERROR, b"xx"]))))
    quick = CODECS["tgi"].decoder({})
    assert hasattr(quick, "feed_all")
    quick.feed_all(pieces, list(range(len(pieces))))
    quick.finish()

    assert quick.reply == decode(CODECS["tgi"].decoder({}), pieces)


def test_a_token_belongs_to_the_end_of_its_part() -> None:
    """Its instant is that of the last byte of the message, and those of one part share it."""
    body, end = payload_part(FIRST) + payload_part(REST), len(payload_part(FIRST))
    pieces = [body[: end - 1], body[end - 1 : -1], body[-1:]]

    assert decode(CODECS["tgi"].decoder({}), pieces).token_at_ns == [1, 2, 2, 2]


def bodies() -> Iterator[tuple[str, bytes, bool]]:
    """Yield bodies that stop early, and whether the answer had ended."""
    yield "nothing", b"", False
    yield "half a frame", payload_part(ANSWER)[:-3], False
    yield "no last event", payload_part(FIRST), False
    yield "something follows", payload_part(ANSWER) + payload_part(b"")[:7], False
    yield "whole", payload_part(ANSWER), True


@pytest.mark.parametrize(("body", "ended"), [pytest.param(*b[1:], id=b[0]) for b in bodies()])
def test_silent_truncation_is_seen(body: bytes, *, ended: bool) -> None:
    """The service ends such a body as properly as a whole one."""
    reply = decode(CODECS["tgi"].decoder({}), [body])

    assert reply.ended is ended
    assert reply.error is None


@pytest.mark.parametrize(
    ("message", "name", "error"),
    [
        (ERROR, "model_stream_error", "StreamBroken: the container died"),
        (
            exception("ModelStreamError", b'{"ErrorCode":"ModelInvocationTimeExceeded"}'),
            "model_stream_error",
            "ModelInvocationTimeExceeded: ModelStreamError",
        ),
        (
            exception("InternalStreamFailure", b'{"Message":"try again"}'),
            "internal_stream_failure",
            "try again",
        ),
        (
            exception("InternalStreamFailure", b""),
            "internal_stream_failure",
            "InternalStreamFailure",
        ),
        (exception("", b"\xff\x00"), "in_band_error", "�"),
        (exception("", b""), "in_band_error", "without a word"),
        (
            frame(
                string_headers(
                    (":message-type", "error"),
                    (":error-code", "SlowDown"),
                    (":error-message", "too many streams"),
                ),
                b"",
            ),
            "slow_down",
            "too many streams",
        ),
    ],
)
def test_a_stream_that_breaks_off_says_why(message: bytes, name: str, error: str) -> None:
    """Under a name for each kind; the tokens before it are kept, and nothing after it counts."""
    body = payload_part(FIRST) + message + payload_part(ANSWER) + b"noise"
    reply = decode(CODECS["tgi"].decoder({}), [body])

    assert (reply.error_name, reply.error, reply.ended) == (name, error, True)
    assert len(reply.token_at_ns) == 1


def test_the_models_own_error_is_its_own() -> None:
    """TGI reports an error inside of its stream, and SageMaker passes that on."""
    reply = decode(CODECS["tgi"].decoder({}), [payload_part(b'data:{"error":"no room"}\n\n')])

    assert (reply.error_name, reply.error) == ("in_band_error", "no room")


def test_events_of_other_kinds_are_left_alone() -> None:
    """The protocol allows an initial response, and may grow."""
    initial = frame(
        string_headers((":message-type", "event"), (":event-type", "initial-response")), b"{}"
    )
    reply = decode(CODECS["tgi"].decoder({}), [initial + payload_part(ANSWER)])

    assert evolve(reply, token_at_ns=[0] * 4) == WHOLE


@given(st.binary(max_size=200).flatmap(cut))
def test_garbage_gives_decode_errors_only(pieces: list[bytes]) -> None:
    """Inside of a part, and instead of one."""
    attempt(CODECS["tgi"].decoder({}), pieces)
    attempt(CODECS["openai-chat"].decoder({}), [payload_part(piece) for piece in pieces])


def test_whole_answers_are_the_models_own() -> None:
    """Without a stream there are no parts; TGI's answer is a list there."""
    codec = Invocation(route=ROUTE, inner=Tgi(stream=False))
    body = b"[%b]" % recorded("tgi/01_generate", "response")
    reply = decode(codec.decoder({}), [body])

    assert not codec.stream
    assert (reply.output_tokens, reply.ended) == (4, True)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("names", [{}, {"component": "llama-7b", "variant": "blue"}])
def test_requests_are_those_of_the_services_model(names: dict[str, str], *, stream: bool) -> None:
    """The path, the method and each header stand in botocore's model of the operation."""
    codec = Invocation(route=Route(endpoint="llama", **names), inner=Tgi(stream=stream))
    request = codec.request(Prompt(text="Hi"))
    model = Session().get_service_model("sagemaker-runtime")
    operation = model.operation_model(
        "InvokeEndpointWithResponseStream" if stream else "InvokeEndpoint"
    )
    members = operation.input_shape.members
    places = {
        member.serialization["name"].lower(): name
        for name, member in members.items()
        if member.serialization.get("location") == "header"
    }

    assert request.method == operation.http["method"]
    assert request.path == operation.http["requestUri"].format(EndpointName="llama")
    given = {places[name.lower()]: value for name, value in request.headers.items()}
    asked = {"component": "InferenceComponentName", "variant": "TargetVariant"}
    assert given == {
        "ContentType": "application/json",
        "Accept": "application/json",
        **{asked[name]: value for name, value in names.items()},
    }
    assert json.loads(request.body) == json.loads(codec.inner.request(Prompt(text="Hi")).body)


@pytest.mark.parametrize("name", ["", "bad_name", "-llama", "llama-", "a" * 64, "llama\n", "ö"])
def test_names_that_sagemaker_has_not_are_refused(name: str) -> None:
    """Of the endpoint, the component and the variant; botocore itself would send them."""
    with pytest.raises(ValueError, match="endpoint"):
        Route(endpoint=name)
    with pytest.raises(ValueError, match="component"):
        Route(endpoint="llama", component=name)
    with pytest.raises(ValueError, match="variant"):
        Route(endpoint="llama", variant=name)
    Route(endpoint="a" * 63, component="a--B", variant="0")


def test_the_inner_codecs_care_is_kept() -> None:
    """What TGI would ignore or refuse is known before it is asked, behind SageMaker as well."""
    codec = CODECS["tgi"]
    assert isinstance(codec, Careful)
    assert isinstance(codec, KnowsRefusals)
    assert codec.caveats(Prompt(text="Hi", parameters={"ignore_eos": True}))
    with pytest.raises(UsageError, match="temperature"):
        codec.caveats(Prompt(text="Hi", parameters={"temperature": 0}))
    assert Invocation(route=ROUTE, inner=InParts(codec)).caveats(Prompt(text="Hi")) == ()
