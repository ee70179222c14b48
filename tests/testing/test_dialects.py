"""The dialects of the reference server, read by those who know each protocol."""

import re
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import botocore.session
import httpx
import pytest
import trustme
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import EventStreamError
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.target import Options
from llmperf_core.testing import (
    DIALECTS,
    EVENT_STREAM,
    OPENAI_CHAT,
    TGI,
    TGI_2_0,
    Dialect,
    FaultPlan,
    ReferenceServer,
    Script,
)
from llmperf_core.testing.event_stream import frame, payload_part, string_headers
from llmperf_core.wire.server import backend

QUICK = Script(first_token_s=0, gap_s=0)
_STAMP = re.compile(rb'"sent_ns":(\d+)')
ASKED: Mapping[str, object] = {
    "inputs": "x",
    "parameters": {"max_new_tokens": 3},
    "prompt": "x",
    "messages": [{"role": "user", "content": "x"}],
    "max_tokens": 3,
}
each_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())


def ask(
    server: ReferenceServer, *, authority: Path | None = None, **more: object
) -> httpx.Response:
    """Ask with what every dialect understands."""
    verify = ssl.create_default_context(cafile=authority)
    path = server.dialect.path.replace("*", "my-endpoint")
    return httpx.post(
        server.url + path, json={**ASKED, **more}, trust_env=False, verify=verify, timeout=60
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a server's certificate with its key, and the authority to trust."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    return folder / "server.pem", folder / "authority.pem"


@each_dialect
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_stamps_are_handed_over(
    dialect: Dialect,
    tls: bool,  # noqa: FBT001 -- a parameter
    certificate: tuple[Path, Path],
) -> None:
    """Each token says when it left, and the truth says the same, plain and over TLS."""
    pem, authority = certificate
    with ReferenceServer(QUICK, dialect=dialect, certificate=pem if tls else None) as server:
        answer = ask(server, authority=authority if tls else None)

    stamps = [int(stamp) for stamp in _STAMP.findall(answer.content)]
    assert server.truth is not None
    assert server.truth.sent_at_ns == {"x": [stamps]}
    assert len(stamps) == server.truth.send_error.events == 3
    assert answer.headers["content-type"].encode() == dialect.media_type


def test_old_versions_of_tgi_put_no_space() -> None:
    """That is the only difference."""
    with ReferenceServer(QUICK, dialect=TGI_2_0) as old, ReferenceServer(QUICK) as new:
        before, since = ask(old).content, ask(new).content
    assert b"data: " not in before
    assert _STAMP.sub(b"", before) == _STAMP.sub(b"", since).replace(b"data: ", b"data:")


def test_usage_comes_if_it_is_asked_for() -> None:
    """A chat opens with a role, closes with a reason, and counts only when it is asked to."""
    with ReferenceServer(QUICK, dialect=OPENAI_CHAT) as server:
        without = ask(server).content
        counted = ask(server, stream_options={"include_usage": True}).content
    assert b'"usage"' not in without
    assert b'"completion_tokens":3' in counted
    assert counted.index(b'"role"') < counted.index(b" tok") < counted.index(b'"length"')
    assert counted.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("dialect", "found"),
    [
        (DIALECTS["tgi"], "tgi"),
        (DIALECTS["tgi-2.0"], "tgi"),
        (DIALECTS["openai-chat"], "openai-chat"),
        # A server that speaks one of OpenAI's protocols does not say which.
        (DIALECTS["openai-completions"], "openai-chat"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
async def test_its_protocol_is_found(dialect: Dialect, found: str) -> None:
    """Whoever asks the server what it is gets the answer of such a server."""
    with ReferenceServer(QUICK, dialect=dialect) as server:
        async with backend.target(server.url, Options()).open() as endpoint:
            assert (endpoint.codec.name, endpoint.model) == (found, "reference")


def test_what_it_does_not_serve_is_not_found() -> None:
    """The path of another dialect."""
    with ReferenceServer(QUICK) as server:
        assert httpx.get(server.url + "/v1/models", trust_env=False).status_code == 404
        assert httpx.post(server.url + OPENAI_CHAT.path, trust_env=False).status_code == 404


def events_of(fault: FaultPlan) -> Iterator[Mapping[str, Mapping[str, bytes]]]:
    """Yield what AWS's own client reads of an answer."""
    session = botocore.session.Session()
    session.set_credentials("key", "secret")
    with ReferenceServer(QUICK, dialect=EVENT_STREAM, fault=fault) as server:
        client = session.create_client(
            "sagemaker-runtime",
            region_name="us-west-2",
            endpoint_url=server.url,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        with closing(client):
            answer = client.invoke_endpoint_with_response_stream(
                EndpointName="llama",
                Body=b'{"inputs":"x","parameters":{"max_new_tokens":4}}',
                ContentType="application/json",
            )
            with closing(answer["Body"]) as events:
                yield from events


def test_the_client_of_aws_reads_it() -> None:
    """Each part holds the event of a token, as TGI wrote it."""
    parts = [event["PayloadPart"]["Bytes"] for event in events_of(None)]
    assert [part.startswith(b'data: {"index":%d,' % k) for k, part in enumerate(parts, 1)] == [
        True
    ] * 4
    assert b'"generated_tokens":4' in parts[-1]


def test_the_client_of_aws_sees_the_error() -> None:
    """An error in the stream is an exception of the model's."""
    events = events_of("in-band-error")
    assert b'"index":1' in next(events)["PayloadPart"]["Bytes"]
    assert b'"index":2' in next(events)["PayloadPart"]["Bytes"]
    with pytest.raises(EventStreamError, match=r"ModelStreamError.*told to fail"):
        next(events)


@given(payload=st.binary(max_size=300), value=st.text(max_size=20))
def test_messages_are_those_of_aws(payload: bytes, value: str) -> None:
    """AWS's own decoder reads back every message, and finds both checksums right."""
    headers = string_headers((":message-type", "event"), ("x", value))
    buffer = EventStreamBuffer()
    buffer.add_data(frame(headers, payload) + payload_part(payload))
    first, second = buffer
    assert (first.headers, first.payload) == ({":message-type": "event", "x": value}, payload)
    assert second.headers[":event-type"] == "PayloadPart"
    assert second.payload == payload


def test_lengths_of_a_message_are_its_own() -> None:
    """The first bytes say how long it is, big-endian."""
    message = payload_part(b"data: {}\n\n")
    assert struct.unpack("!I", message[:4]) == (len(message),)


def test_a_dialect_is_one_of_the_catalogue() -> None:
    """Another could not travel to the server's process."""
    with pytest.raises(ValueError, match="dialect"):
        ReferenceServer(dialect=Dialect(
            name="x", protocol=None, path="/", token=b"", last=b"", error=b"", refusal=b""
        ))  # fmt: skip
    assert DIALECTS["tgi"] is TGI
