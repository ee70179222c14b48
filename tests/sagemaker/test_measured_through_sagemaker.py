"""Endpoints of the fake SageMaker, opened and measured as anybody's: outcomes, and what is kept."""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import llmperf_core as lp
from llmperf_core import target
from llmperf_core.errors import UsageError
from llmperf_core.target import Options, Prompt
from llmperf_core.testing import conformance
from llmperf_core.timeline import Timeline
from llmperf_sagemaker import Endpoint
from llmperf_sagemaker.account import AwsError
from llmperf_sagemaker.description import NotInServiceError
from llmperf_sagemaker.testing import (
    Account,
    BrokenStream,
    Deployed,
    FakeSageMaker,
    Key,
    RefusedCall,
    Streams,
)
from llmperf_sagemaker.testing.planted import StreamFault
from tests.run.asking import asking_at, failure
from tests.sagemaker.serving import in_service
from tests.sagemaker.test_sagemaker_faults import endpoint_at

pytestmark = pytest.mark.usefixtures("deadline")

SECRETS = ("planted-secret-key", "planted-session-token")
SESSION = Account(keys=(Key(id="ASIAPLANTED", secret=SECRETS[0], token=SECRETS[1]),))
PROMPT = Prompt(text="Write of llamas", max_new_tokens=20)


@contextmanager
def endpoint_in_service(**setting: Any) -> Iterator[FakeSageMaker]:
    """Run the fake with the endpoint `e` in service, where our own code looks for AWS."""
    with in_service(**setting) as fake, as_aws(fake):
        yield fake


@contextmanager
def as_aws(fake: FakeSageMaker) -> Iterator[None]:
    """Let our own code, here and in the measuring process, find the fake."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fake.environment().items():
            patch.setenv(name, value)
        yield


def one_by_one(_: Deployed) -> AbstractAsyncContextManager[target.Endpoint]:
    """Serve a simulated TGI whose tokens come one by one."""
    return lp.target_of("sim:llama-2-7b@ml.g5.2xlarge").open()


async def asked(measured: Endpoint, prompt: Prompt = PROMPT) -> Timeline:
    """Return what became of one request."""
    async with measured.open() as endpoint, asking_at(endpoint) as asker:
        return await asker.ask(prompt=prompt)


async def test_the_target_owes_what_every_target_owes() -> None:
    """Opened twice, its endpoint travels; and nothing is created or deleted."""
    with endpoint_in_service() as fake:
        held, before = fake.holds(), len(fake.calls)
        await conformance.check_target(Endpoint("e"))
        async with Endpoint("e").open() as endpoint:
            assert endpoint.simulated  # as every answer of the fake says
        after = [call.operation for call in fake.calls[before:]]

        assert fake.holds() == held
        assert {name.removeprefix("Describe") for name in after} == {
            "Endpoint",
            "EndpointConfig",
            "Model",
        }


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_comes_whole(*, stream: bool) -> None:
    """With a stream and without, where TGI answers with a list."""
    with endpoint_in_service():
        timeline = await asked(Endpoint("e", options=Options(stream=stream)))

    assert timeline.completed
    assert timeline.tokens.output == 20
    assert len(timeline.token_at_ns) == (20 if stream else 0)
    assert timeline.stamps == "kernel"


@pytest.mark.parametrize("protocol", ["openai-chat", "openai-completions"])
async def test_other_protocols_are_spoken_through_it(protocol: str) -> None:
    """TGI tells them apart by the body."""
    with endpoint_in_service():
        timeline = await asked(Endpoint("e", options=Options(protocol=protocol)))

    assert timeline.completed
    assert timeline.tokens.output == len(timeline.token_at_ns) == 20


async def test_a_broken_stream_is_a_named_outcome() -> None:
    """The tokens before it are kept, and the next request is none the worse."""
    faults: Mapping[StreamFault, str] = {
        "model-stream-error": "model_stream_error",
        "internal-stream-failure": "internal_stream_failure",
        "truncated": "truncated",
        "flipped-bit": "corrupted",
        "abort": "truncated",
    }
    streams = Streams(faults=[*(BrokenStream(fault=fault) for fault in faults), None])
    with endpoint_in_service(streams=streams, serve=one_by_one):
        async with Endpoint("e").open() as endpoint, asking_at(endpoint) as asker:
            *broken, whole = [await asker.ask(prompt=PROMPT) for _ in (*faults, None)]

    assert [failure(timeline).error for timeline in broken] == [*faults.values()]
    assert {1 <= len(timeline.token_at_ns) < PROMPT.max_new_tokens for timeline in broken} == {True}
    assert "StreamBroken: " in failure(broken[0]).detail
    assert whole.completed


async def test_a_refusal_is_a_named_outcome() -> None:
    """And it is asked once: the call that follows is the next request's."""
    refusals = {
        ("ThrottlingException", 400): "throttled",
        ("ThrottlingException", 429): "throttled",
        ("ServiceUnavailable", 503): "service_unavailable",
        ("ModelNotReadyException", 429): "model_not_ready",
        ("ExpiredTokenException", 403): "expired_token",
        ("InternalDependencyException", 530): "internal_dependency",
    }
    failures = tuple(
        RefusedCall(operation="InvokeEndpoint*", code=code, status=status, nth=1)
        for code, status in refusals
    )
    with endpoint_in_service(failures=failures):
        async with Endpoint("e").open() as endpoint, asking_at(endpoint) as asker:
            *refused, answered = [await asker.ask() for _ in (*refusals, None)]

    assert [failure(timeline).error for timeline in refused] == [*refusals.values()]
    assert answered.completed


@pytest.mark.parametrize(("stream", "name"), [(True, "in_band_error"), (False, "http_422")])
async def test_the_models_own_refusal_is_its_own(*, stream: bool, name: str) -> None:
    """TGI refuses a prompt that is too long: in a stream within it, else with 422."""
    with endpoint_in_service():
        endpoint = Endpoint("e", options=Options(stream=stream))
        timeline = await asked(endpoint, Prompt(text="llama " * 9000))

    assert failure(timeline).error == name
    assert "inputs" in failure(timeline).detail


@pytest.mark.parametrize("skew_s", [-1000.0, 1000.0])
async def test_a_wrong_clock_is_named_with_its_error(skew_s: float) -> None:
    """By the dates of both; who opens an endpoint then is told what AWS says."""
    with FakeSageMaker(account=Account(skew_s=skew_s)) as fake, as_aws(fake):
        async with asking_at(endpoint_at(fake.url)) as asker:
            failed = failure(await asker.ask())
        with pytest.raises(AwsError, match="InvalidSignatureException: Signature"):
            await asked(Endpoint("e"))

    off_s, way = re.findall(r"clock is (\d+) s (behind|ahead of) AWS's", failed.detail)[0]
    assert failed.error == "clock_skew"
    assert way == ("ahead of" if skew_s < 0 else "behind")
    assert abs(int(off_s) - abs(skew_s)) < 100


async def test_what_is_not_there_is_said() -> None:
    """An endpoint when it is opened; one that goes later, as an outcome."""
    with endpoint_in_service() as fake:
        with pytest.raises(NotInServiceError, match="'other' is not there"):
            await asked(Endpoint("other"))
        with pytest.raises(NotInServiceError, match="no variant 'blue'; there are AllTraffic"):
            await asked(Endpoint("e", variant="blue"))
        assert (await asked(Endpoint("e", variant="AllTraffic"))).completed
        assert fake.holds()["Endpoint"] == ["e"]


def test_nothing_that_is_kept_shows_a_secret(tmp_path: Path) -> None:
    """Nor an account number; the run says which instances it was measured on."""
    with endpoint_in_service(account=SESSION):
        run = lp.sweep(
            Endpoint("e"),
            [lp.Concurrency(2)],
            workload=lp.Fixed("Write of llamas", max_new_tokens=5),
            settings=lp.Settings(duration_s=None, requests=4, warmup_s=0, folder=tmp_path / "run"),
        )
    assert run.stages[0].summary.requests.completed == 4
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    shown = f"{run!r}{run.to_dict()}{kept.decode(errors='replace')}"

    for secret in (*SECRETS, "ASIAPLANTED", SESSION.id):
        assert secret not in shown
    assert "ml.g5.12xlarge" in shown
    assert "HF_MODEL_ID" in shown


def test_no_keys_are_an_error_before_anything_is_measured() -> None:
    """Of the caller: nothing is asked without a signature."""
    with endpoint_in_service() as fake, pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        before = len(fake.calls)
        with pytest.raises(UsageError, match="no AWS credentials"):
            lp.bench("sagemaker:e", lp.Concurrency(1))
        assert len(fake.calls) == before
