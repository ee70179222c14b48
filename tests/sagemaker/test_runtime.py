"""The fake's runtime, as boto3's own client sees it."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from threading import Event
from typing import Any

import pytest
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import EventStreamError
from urllib3.exceptions import ProtocolError

from llmperf_core.target import Endpoint
from llmperf_core.testing.connection import LAST_CHUNK, chunk
from llmperf_sagemaker.testing import (
    BrokenStream,
    Deployed,
    FakeSageMaker,
    RefusedCall,
    Streams,
    Timing,
)
from llmperf_sagemaker.testing.planted import StreamFault
from tests.sagemaker.clients import (
    AT_ONCE,
    boto,
    create_component,
    create_config,
    create_endpoint,
    create_model,
    deploy,
    refused,
    until,
    wait,
    why_failed,
)
from tests.sagemaker.serving import (
    STREAM,
    ask,
    ask_whole,
    in_service,
    parts,
    prompt,
    scripted,
    tokens,
)
from tests.wire.scripted_server import LIMIT_S, SMALL, Peer, answering

RUNTIME = "sagemaker-runtime"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """boto3's client of a runtime with a simulated TGI in service."""
    with in_service() as fake:
        yield boto(fake, RUNTIME)


def test_a_stream_has_the_models_tokens(client: Any) -> None:
    """boto3 reads every token that the model wrote, and the head that the service makes of its."""
    answer = ask(client, prompt(tokens=40))
    stream = b"".join(parts(answer))

    assert len(tokens(stream)) == 40
    assert answer["ContentType"] == "text/event-stream"
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_a_whole_answer_is_the_models(client: Any) -> None:
    """What is no stream comes whole, in the model's bytes."""
    answer = ask_whole(client, prompt(tokens=7, stream=False))
    said = json.loads(answer["Body"])

    assert said[0]["details"]["generated_tokens"] == 7
    assert answer["ContentType"] == "application/json"


def test_headers_of_the_model_do_not_pass(client: Any) -> None:
    """TGI's headers with timings do not arrive; that the whole is simulated is said."""
    answer = ask_whole(client, prompt(stream=False))
    headers = answer["ResponseMetadata"]["HTTPHeaders"]

    assert {name for name in headers if name.startswith("x-")} == {
        "x-amzn-requestid",
        "x-amzn-invoked-production-variant",
        "x-llmperf-simulated",
    }


def test_what_the_container_is_sent() -> None:
    """The container sees the body, its type, what to accept and custom attributes, and no keys."""
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        seen.append(peer.request())
        peer.send(STREAM + LAST_CHUNK)

    with in_service(scripted(script)) as fake:
        answer = ask(
            boto(fake, RUNTIME), b'{"a": 1}', Accept="text/event-stream", CustomAttributes="mine"
        )
        assert parts(answer) == []
    head, _, body = seen[0].partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    del headers["host"]

    assert line == "POST /invocations HTTP/1.1"
    assert headers == {
        "accept": "text/event-stream",
        "content-type": "application/json",
        "x-amzn-sagemaker-custom-attributes": "mine",
        "content-length": "8",
        "connection": "close",
    }
    assert body == b'{"a": 1}'
    assert answer["CustomAttributes"] == "seen"


def test_a_part_leaves_when_the_model_writes_it() -> None:
    """What the model has written arrives while it writes no more, and so does the head."""
    asked, read = Event(), Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM)
        assert asked.wait(LIMIT_S)
        peer.send(chunk(b"first"))
        assert read.wait(LIMIT_S)
        peer.send(chunk(b"second") + LAST_CHUNK)

    with in_service(scripted(script)) as fake:
        answer = ask(boto(fake, RUNTIME))
        asked.set()
        events = iter(answer["Body"])
        first = next(events)["PayloadPart"]["Bytes"]
        read.set()
        rest = [event["PayloadPart"]["Bytes"] for event in events]

    assert (first, rest) == (b"first", [b"second"])


def test_parts_may_be_cut() -> None:
    """Cut at random places, the parts of a simulated TGI's stream join to its tokens."""
    with in_service(streams=Streams(cut_seed=1)) as fake:
        found = parts(ask(boto(fake, RUNTIME), prompt(tokens=30)))

    assert len(tokens(b"".join(found))) == 30
    assert not all(part.endswith(b"\n\n") for part in found)


@contextmanager
def breaking(fault: StreamFault) -> Iterator[Iterator[Any]]:
    """Yield the events of a stream that breaks after its first part, which has come."""
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM + chunk(b"first"))
        assert go_on.wait(LIMIT_S)
        peer.send(chunk(b"second") + LAST_CHUNK)

    streams = Streams(faults=BrokenStream(fault=fault))
    with (
        in_service(scripted(script), streams=streams) as fake,
        closing(ask(boto(fake, RUNTIME))["Body"]) as stream,
    ):
        events = iter(stream)
        assert next(events)["PayloadPart"]["Bytes"] == b"first"
        go_on.set()
        yield events


def test_a_stream_may_end_with_an_error_of_the_model() -> None:
    """The planted error is what boto3 raises."""
    with breaking("model-stream-error") as events, pytest.raises(EventStreamError) as caught:
        next(events)

    assert caught.value.response["Error"]["Code"] == "ModelStreamError"


def test_a_stream_may_end_with_an_internal_failure() -> None:
    """The planted failure is what boto3 raises."""
    with breaking("internal-stream-failure") as events, pytest.raises(EventStreamError) as caught:
        next(events)

    assert caught.value.response["Error"]["Code"] == "InternalStreamFailure"


def test_a_truncated_stream_is_no_error_to_boto3() -> None:
    """A body that ends within a message looks to boto3 like one that is whole."""
    with breaking("truncated") as events:
        assert list(events) == []


def test_a_flipped_bit_breaks_a_checksum() -> None:
    """A message that was damaged on its way is found out."""
    with breaking("flipped-bit") as events, pytest.raises(ChecksumMismatch):
        next(events)


def test_an_aborted_stream_breaks_the_connection() -> None:
    """A connection that is closed within a body is an error of the transport."""
    with breaking("abort") as events, pytest.raises(ProtocolError):
        next(events)


def test_faults_come_in_their_order() -> None:
    """A list has a fault or none for each stream, and begins again after its last."""
    fault = BrokenStream(fault="internal-stream-failure", after_parts=0)
    script = answering(STREAM + chunk(b"all") + LAST_CHUNK)
    with in_service(scripted(script), streams=Streams(faults=[None, fault])) as fake:
        client = boto(fake, RUNTIME)
        for _ in range(2):
            assert parts(ask(client)) == [b"all"]
            with pytest.raises(EventStreamError):
                parts(ask(client))


def test_a_stream_that_the_model_breaks_ends_with_an_error() -> None:
    """A model server that goes away in mid-stream is a ModelStreamError."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM + chunk(b"first"))

    with in_service(scripted(script)) as fake:
        answer = ask(boto(fake, RUNTIME))
        with pytest.raises(EventStreamError, match="the model's stream broke") as caught:
            parts(answer)

    assert caught.value.response["Error"]["Code"] == "ModelStreamError"


@pytest.mark.parametrize("asking", [ask, ask_whole])
def test_an_error_of_the_model_is_passed_on(client: Any, asking: Any) -> None:
    """A refusal of the container is a ModelError that quotes it, for streams, too."""
    with pytest.raises(client.exceptions.ModelError) as caught:
        asking(client, b'{"inputs": ""}')
    said = caught.value.response

    assert said["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert said["OriginalStatusCode"] == 422
    assert "inputs" in said["OriginalMessage"]
    assert said["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/e")
    assert "Received client error (422)" in said["Error"]["Message"]


def gone(peer: Peer) -> None:
    """Take the request, and go."""
    peer.request()


def garbage(peer: Peer) -> None:
    """Answer what is no HTTP."""
    peer.request()
    peer.send(b"\x00\x01\x02\x03")


@pytest.mark.parametrize("asking", [ask, ask_whole])
@pytest.mark.parametrize("script", [gone, garbage])
def test_a_container_without_an_answer_is_a_server_error(script: Any, asking: Any) -> None:
    """A model server that breaks off, or speaks no HTTP, is a ModelError of status 0."""
    with in_service(scripted(script)) as fake:
        client = boto(fake, RUNTIME)
        with pytest.raises(
            client.exceptions.ModelError, match="could not get a response"
        ) as caught:
            asking(client)

    assert caught.value.response["OriginalStatusCode"] == 0


def test_a_container_that_nobody_can_reach_is_a_server_error() -> None:
    """A model server that refuses connections is a ModelError of status 0."""

    @contextmanager
    def serve(_: Deployed) -> Iterator[str | Endpoint]:
        yield "http://127.0.0.1:1"

    with in_service(serve) as fake:
        client = boto(fake, RUNTIME)
        with pytest.raises(client.exceptions.ModelError, match="could not get a response"):
            ask_whole(client)


def test_a_body_may_end_with_its_connection() -> None:
    """A model server may announce no length, and close."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nwhole")

    with in_service(scripted(script)) as fake:
        assert ask_whole(boto(fake, RUNTIME))["Body"] == b"whole"


def test_a_long_answer_waits_for_its_reader() -> None:
    """What the client's kernel does not take at once comes as the client reads."""
    body = bytes(range(256)) * (1 << 16)
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    with in_service(scripted(answering(answer))) as fake:
        assert ask_whole(boto(fake, RUNTIME))["Body"] == body


def test_a_whole_answer_may_take_too_long() -> None:
    """A container that does not answer in time is given up, as the service words it."""
    timing = Timing(creating_s=0, deleting_s=0, invocation_s=0.2)
    with in_service(scripted(Peer.until_gone), timing=timing) as fake:
        client = boto(fake, RUNTIME)
        with pytest.raises(client.exceptions.ModelError, match="invocation timed out"):
            ask_whole(client)


def test_an_invocation_takes_its_time_to_the_container() -> None:
    """What a gateway adds is there before the container is asked."""
    asked_at_s = []

    def script(peer: Peer) -> None:
        peer.request()
        asked_at_s.append(time.monotonic())
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole")

    timing = Timing(creating_s=0, deleting_s=0, overhead_s=0.2)
    with in_service(scripted(script), timing=timing) as fake:
        client = boto(fake, RUNTIME)
        before_s = time.monotonic()
        assert ask_whole(client)["Body"] == b"whole"

    assert asked_at_s[0] - before_s >= 0.19, "a timer may wake early"


def test_a_client_that_leaves_ends_the_request() -> None:
    """When the client goes away, so does the connection to the model."""
    left = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM + chunk(b"first"))
        peer.until_gone()
        left.set()

    with in_service(scripted(script)) as fake:
        answer = ask(boto(fake, RUNTIME))
        next(iter(answer["Body"]))
        answer["Body"].close()

        assert left.wait(LIMIT_S)


def test_a_call_of_the_runtime_is_refused_as_planted() -> None:
    """Throttling can be planted for the nth stream alone."""
    throttled = RefusedCall(operation="InvokeEndpointWith*", nth=1, status=429)
    with in_service(scripted(answering(SMALL)), failures=[throttled]) as fake:
        client = boto(fake, RUNTIME)
        ask_whole(client)
        with refused("ThrottlingException", "Rate exceeded"):
            ask(client)
        assert parts(ask(client)) == [b"ok"]


def test_an_endpoint_must_be_in_service(client: Any) -> None:
    """An endpoint that is not there is named, as the runtime names it."""
    with refused("ValidationError", "Endpoint other of account 123456789012 not found."):
        ask(client, endpoint="other")


def test_a_body_has_a_limit(client: Any) -> None:
    """A body of more than 6 MiB is refused."""
    with refused("413", "exceeded 6291456 bytes"):
        ask_whole(client, bytes(6 * 1024 * 1024 + 1))


def test_what_an_endpoint_does_not_have_is_refused(client: Any) -> None:
    """Neither a variant nor a component may be named that the endpoint does not have."""
    with refused("ValidationError", "Variant other"):
        ask(client, TargetVariant="other")
    with refused("ValidationError", "Please remove the Inference Component Name header"):
        ask(client, InferenceComponentName="i")
    assert parts(ask(client, prompt(), TargetVariant="AllTraffic"))


def test_without_a_model_server_invocations_are_refused() -> None:
    """A fake without `serve` has a control plane, and says what it lacks."""
    with in_service(None) as fake, refused("ServiceUnavailable", "serve"):
        ask(boto(fake, RUNTIME))


def test_each_variant_has_its_model_server() -> None:
    """What is deployed is told apart: each variant gets a server, and requests go where asked."""
    deployed: list[Deployed] = []

    @asynccontextmanager
    async def serve(one: Deployed) -> AsyncIterator[str | Endpoint]:
        deployed.append(one)
        body = one.variant.encode()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        with scripted(answering(answer))(one) as url:
            yield url

    with FakeSageMaker(serve=serve, timing=AT_ONCE) as fake:
        client = boto(fake)
        create_model(client)
        variant = {"ModelName": "m", "InitialInstanceCount": 1, "InitialVariantWeight": 0.0}
        client.create_endpoint_config(
            EndpointConfigName="c",
            ProductionVariants=[
                {**variant, "VariantName": "a", "InstanceType": "ml.g5.xlarge"},
                {**variant, "VariantName": "b", "InstanceType": "ml.g6.xlarge"},
            ],
        )
        create_endpoint(client)
        wait(client, "endpoint_in_service")
        runtime = boto(fake, RUNTIME)
        answers = [ask_whole(runtime, TargetVariant=name) for name in ("a", "b")]
        untold = ask_whole(runtime)

        assert [answer["Body"] for answer in answers] == [b"a", b"b"]
        assert untold["InvokedProductionVariant"] == "a"
    first, second = deployed
    assert (first.instance_type, second.instance_type) == ("ml.g5.xlarge", "ml.g6.xlarge")
    assert first.environment == {"HF_MODEL_ID": "m", "SM_NUM_GPUS": "4"}
    assert first.image.endswith("tgi:3.3.6")
    assert (first.model, first.component, first.instances) == ("m", None, 1)
    assert "HF_MODEL_ID" not in repr(first)


@pytest.mark.usefixtures("deadline")
def test_a_component_has_its_model_server() -> None:
    """Requests to an endpoint with components must name one, and go to its server."""
    with FakeSageMaker(serve=scripted(answering(SMALL)), timing=AT_ONCE) as fake:
        client = boto(fake)
        create_model(client)
        create_config(client, model=None)
        for name in ("e", "other"):
            create_endpoint(client, name)
            wait(client, "endpoint_in_service", name)
        create_component(client)
        until(client, "InService")
        runtime = boto(fake, RUNTIME)

        assert parts(ask(runtime, InferenceComponentName="i")) == [b"ok"]
        with refused("ValidationError", "Inference Component Name header is required"):
            ask(runtime)
        with refused("ValidationError", "Inference Component j of account"):
            ask(runtime, InferenceComponentName="j")
        with refused("ValidationError", "not on endpoint other"):
            ask(runtime, endpoint="other", InferenceComponentName="i")


@pytest.mark.usefixtures("deadline")
def test_an_error_of_a_component_names_its_log() -> None:
    """The log of a component is not that of its endpoint."""
    with FakeSageMaker(serve=scripted(gone), timing=AT_ONCE) as fake:
        client = boto(fake)
        create_model(client)
        create_config(client, model=None)
        create_endpoint(client)
        wait(client, "endpoint_in_service")
        create_component(client)
        until(client, "InService")
        runtime = boto(fake, RUNTIME)
        with pytest.raises(runtime.exceptions.ModelError) as caught:
            ask_whole(runtime, InferenceComponentName="i")

    assert caught.value.response["LogStreamArn"].endswith(":/aws/sagemaker/InferenceComponents/i")


def test_a_model_server_is_there_while_its_endpoint_is() -> None:
    """It is entered once, and left before the endpoint is gone."""
    events: list[str] = []

    @contextmanager
    def serve(_: Deployed) -> Iterator[str | Endpoint]:
        events.append("entered")
        yield "http://127.0.0.1:1"
        events.append("left")

    with in_service(serve) as fake:
        client = boto(fake)
        held = list(events)
        client.delete_endpoint(EndpointName="e")
        wait(client, "endpoint_deleted")

        assert (held, events) == (["entered"], ["entered", "left"])


def test_a_model_server_is_left_when_the_fake_ends() -> None:
    """Nothing that was brought up stays, whatever was not deleted."""
    left: list[str] = []

    @contextmanager
    def serve(deployed: Deployed) -> Iterator[str | Endpoint]:
        try:
            yield "http://127.0.0.1:1"
        finally:
            left.append(deployed.endpoint)

    with in_service(serve):
        pass

    assert left == ["e"]


def test_a_model_server_that_does_not_come_up_fails_the_endpoint() -> None:
    """Whatever bringing it up raises is the endpoint's reason to fail."""

    @contextmanager
    def serve(_: Deployed) -> Iterator[str | Endpoint]:
        raise OSError("no such image")
        yield

    with FakeSageMaker(serve=serve, timing=AT_ONCE) as fake:
        client = boto(fake)
        deploy(client)

        assert why_failed(client) == "OSError: no such image"
