"""A fake SageMaker endpoint with a model server behind it, and what its streams say."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from typing import Any

import llmperf_core as lp
from llmperf_core.target import Endpoint
from llmperf_sagemaker.testing import Deployed, FakeSageMaker, Serve
from tests.sagemaker.clients import AT_ONCE, boto, deploy, wait
from tests.wire.scripted_server import Script, serving

SIMULATED = "sim:llama-2-7b@ml.g5.2xlarge?decode=0.1&prefill=0.1"
"""A quick one."""
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"x-total-time: 1\r\nx-amzn-sagemaker-custom-attributes: seen\r\n\r\n"
)
"""The head of a scripted model server's stream."""


def simulated(_: Deployed) -> AbstractAsyncContextManager[Endpoint]:
    """Serve a simulated TGI."""
    return lp.target_of(SIMULATED).open()


def scripted(script: Script) -> Callable[[Deployed], AbstractContextManager[str | Endpoint]]:
    """Return what serves a script."""

    @contextmanager
    def serve(_: Deployed) -> Iterator[str | Endpoint]:
        with serving(script) as server:
            yield server.url

    return serve


@contextmanager
def in_service(serve: Serve | None = simulated, **more: Any) -> Iterator[FakeSageMaker]:
    """Run a fake with the endpoint `e` in service while the block lasts."""
    with FakeSageMaker(serve=serve, **{"timing": AT_ONCE, **more}) as fake:
        client = boto(fake)
        deploy(client)
        wait(client, "endpoint_in_service")
        yield fake


def prompt(text: str = "Hello", *, tokens: int = 5, stream: bool = True) -> bytes:
    """Return TGI's request for so many tokens."""
    parameters = {"max_new_tokens": tokens, "details": True}
    return json.dumps({"inputs": text, "parameters": parameters, "stream": stream}).encode()


def ask(client: Any, body: bytes = b"{}", *, endpoint: str = "e", **more: str) -> Mapping[str, Any]:
    """Ask for a stream."""
    answer: Mapping[str, Any] = client.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, ContentType="application/json", Body=body, **more
    )
    return answer


def ask_whole(
    client: Any, body: bytes = b"{}", *, endpoint: str = "e", **more: str
) -> Mapping[str, Any]:
    """Ask for an answer that comes whole; its body is read."""
    answer = client.invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=body, **more
    )
    return {**answer, "Body": answer["Body"].read()}


def parts(answer: Mapping[str, Any]) -> list[bytes]:
    """Return the payloads of a stream, as boto3's own client reads it."""
    with closing(answer["Body"]) as events:
        return [event["PayloadPart"]["Bytes"] for event in events]


def tokens(stream: bytes) -> list[str]:
    """Return the texts of the tokens in TGI's events."""
    lines = [line.removeprefix(b"data:") for line in stream.splitlines() if line]
    return [json.loads(line)["token"]["text"] for line in lines]
