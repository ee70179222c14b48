"""The scheme `sagemaker:`, and where its requests go."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from llmperf_core import target_of
from llmperf_core.errors import MissingExtraError, ProtocolError, TargetUrlError
from llmperf_core.target import Options, Prompt
from llmperf_core.testing import conformance
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.tgi import Tgi
from llmperf_sagemaker import Endpoint
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.backend import backend
from llmperf_sagemaker.codec import Route
from llmperf_sagemaker.description import Description
from llmperf_sagemaker.invoking import authorities, codec_of, runtime_of
from tests.sagemaker.keys import forget_account, take_keys

REFUSED = [
    "sagemaker:",
    "sagemaker://llama",
    "sagemaker:llama#x",
    "sagemaker:bad_name",
    "sagemaker:llama?zone=a",
    "sagemaker:llama?region=west",
    "sagemaker:llama?region=us-west-2&region=us-east-1",
    "sagemaker:llama?component=bad_name",
    "sagemaker:llama?protocol=grpc",
    "sagemaker:llama?profile=",
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_account(monkeypatch, tmp_path)
    take_keys(monkeypatch)


def test_the_backend_owes_what_every_backend_owes() -> None:
    """It is pure, and refuses what it does not understand."""
    conformance.check_backend(
        backend, "sagemaker:llama?region=us-west-2&variant=blue", refuses=REFUSED
    )


@pytest.mark.parametrize("url", REFUSED)
def test_a_refusal_says_what_to_write(url: str) -> None:
    """One line, with an example."""
    with pytest.raises(TargetUrlError, match=r"write sagemaker:ENDPOINT\?region="):
        target_of(url)


def test_a_url_says_all_that_there_is_to_say() -> None:
    """Through the entry point, as for any backend."""
    url = "sagemaker:llama?region=us-west-2&profile=lab&component=part&variant=blue&protocol=tgi"
    options = Options(stream=False)

    assert target_of(url, options) == Endpoint(
        "llama",
        region="us-west-2",
        profile="lab",
        component="part",
        variant="blue",
        options=evolve(options, protocol="tgi"),
    )
    assert target_of(url).name == "sagemaker:llama"


def test_a_key_has_no_place_here() -> None:
    """Requests are signed."""
    with pytest.raises(TargetUrlError, match="no key: leave api_key_env out"):
        target_of("sagemaker:llama", Options(api_key_env="KEY"))


async def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is opened; the URL is understood all the same."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llmperf-toolkit\[sagemaker\]'"):
        async with target_of("sagemaker:llama?region=us-west-2").open():
            pass


@contextmanager
def urls_of_real_client(client: Any) -> Iterator[list[str]]:
    """Yield the URLs that botocore's client would have asked; nothing is sent."""
    asked: list[str] = []

    class SentError(Exception):
        pass

    def note(request: Any, **_: object) -> None:
        asked.append(request.url)
        raise SentError

    client.meta.events.register("before-send.sagemaker-runtime", note)
    with pytest.raises(SentError):
        client.invoke_endpoint_with_response_stream(EndpointName="llama", Body=b"{}")
    yield asked


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://127.0.0.1:7/"},
        {"AWS_ENDPOINT_URL": "https://gateway.example/aws"},
    ],
    ids=lambda environment: ",".join(environment) or "plain",
)
@pytest.mark.parametrize("region", ["us-west-2", "cn-north-1", "us-gov-west-1"])
def test_requests_go_where_botocores_go(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], region: str
) -> None:
    """In each partition, with each variable that AWS's own tools heed."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    account = Account(region=region)
    codec = codec_of(Route(endpoint="llama"), TGI, Options())

    with urls_of_real_client(account.client("sagemaker-runtime")) as asked:
        assert [runtime_of(account).url + codec.request(Prompt(text="Hi")).path] == asked
    assert runtime_of(account).region == region


TGI = Description(
    server={}, image="***/huggingface-pytorch-tgi-inference:2.7.0-tgi3.3.6", model="m"
)


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (TGI.image, Options(), Tgi(body={"stream": True})),
        (
            "huggingface/text-generation-inference:3.3",
            Options(stream=False, body={"parameters": {"seed": 1}}),
            Tgi(stream=False, body={"stream": False, "parameters": {"seed": 1}}),
        ),
        ("x/djl-inference:0.36.0-lmi18.0.0-cu128", Options(), OpenAIChat(model="m")),
        ("x/vllm:0.30.0-gpu-py312", Options(model="n"), OpenAIChat(model="n")),
        ("x/sglang:0.5.20", Options(stream=False), OpenAIChat(model="m", stream=False)),
        (
            TGI.image,
            Options(protocol="openai-chat"),
            OpenAIChat(model="m", tgi=True),
        ),
        (
            "of-my-own",
            Options(protocol="openai-completions", body={"seed": 1}),
            OpenAICompletions(model="m", body={"seed": 1}),
        ),
        (None, Options(protocol="tgi"), Tgi(body={"stream": True})),
    ],
)
def test_the_image_says_the_protocol(image: str | None, options: Options, expected: object) -> None:
    """Unless it is named."""
    codec = codec_of(Route(endpoint="llama"), evolve(TGI, image=image), options)

    assert codec.inner == expected


@pytest.mark.parametrize("image", [None, "123456789012.dkr.ecr.us-west-2.amazonaws.com/my-own"])
def test_an_unknown_image_wants_a_protocol(image: str | None) -> None:
    """Rather than a guess; whose registry it is, is not shown."""
    with pytest.raises(ProtocolError, match="name it with --protocol") as raised:
        codec_of(Route(endpoint="llama"), evolve(TGI, image=image), Options())
    assert "123456789012" not in str(raised.value)


def test_certificates_are_checked_as_awss_tools_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the bundle that the environment or the profile names; what is asked goes before."""
    (tmp_path / "config").write_text("[profile lab]\nca_bundle = /lab.pem\n")
    lab = Account(region="us-west-2", profile="lab")

    assert authorities(Account(region="us-west-2"), Options()) is True
    assert authorities(lab, Options()) == "/lab.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", "/mine.pem")
    assert authorities(Account(region="us-west-2"), Options()) == "/mine.pem"
    assert authorities(lab, Options(verify=False)) is False
