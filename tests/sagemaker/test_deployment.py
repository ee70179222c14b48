"""A model is deployed on a fake SageMaker, measured and deleted; what it costs is allowed first."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import boto3
import pytest
from attrs import evolve

from llmperf_core.bringup import CanPlan, Paid, Price
from llmperf_core.errors import BudgetError, HarnessError, StartError, UsageError
from llmperf_core.lease import Lease
from llmperf_core.target import CanReport
from llmperf_sagemaker import VLLM, Deployment
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.budget import OverrunError
from llmperf_sagemaker.holding import Held
from llmperf_sagemaker.leftovers import Note
from llmperf_sagemaker.plane import MODEL, AlreadyThereError
from llmperf_sagemaker.removal import StillThereError
from llmperf_sagemaker.testing import (
    UNHEALTHY,
    Deployed,
    FailedBringUp,
    FakeSageMaker,
    RefusedCall,
    Timing,
)
from llmperf_sagemaker.testing import Account as FakeAccount
from tests.sagemaker.deploying import (
    IMAGE,
    PRICES,
    TYPE,
    a_deployment,
    asked,
    called,
    faked,
    left_behind,
    notes,
)

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeSageMaker]:
    """A fake SageMaker that AWS's clients talk to."""
    with faked(tmp_path) as fake:
        yield fake


async def test_a_model_is_there_while_it_is_open(fake: FakeSageMaker) -> None:
    """It comes into service and says what it is; afterwards nothing of it is there or billed."""
    told: list[str] = []
    async with a_deployment().reporting(told.append).open() as endpoint:
        held, rate = fake.holds(), fake.usd_per_h
        noted = len(notes())
    said = endpoint.server

    assert {kind: len(names) for kind, names in held.items()} == {
        "Model": 1,
        "EndpointConfig": 1,
        "Endpoint": 1,
    }
    assert rate == PRICES[TYPE]
    assert noted == 1
    assert (fake.holds(), fake.usd_per_h, notes()) == ({}, 0, [])
    assert endpoint.model == "meta-llama/Llama-2-7b-hf"
    assert endpoint.codec.name == "tgi"
    assert said["instance_type"] == TYPE
    assert said["price"]["usd_per_h"] == PRICES[TYPE]  # type: ignore[index, call-overload]
    assert said["bring_up_s"] > 0  # type: ignore[operator]
    assert "123456789012" not in f"{said}"
    assert told[0] == "creating"
    assert any(words.startswith("endpoint: InService") for words in told)
    assert "about 0.00 USD" in told[-1]


async def test_the_endpoint_goes_first(fake: FakeSageMaker) -> None:
    """What it is made from is deleted only once it is gone, so that it is never lost from sight."""
    async with a_deployment().open():
        pass

    assert called(fake, "Delete") == ["DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"]
    after = [call.operation for call in fake.calls]
    after = after[after.index("DeleteEndpoint") : after.index("DeleteEndpointConfig")]
    assert "DescribeEndpoint" in after


async def test_everything_is_tagged(fake: FakeSageMaker) -> None:
    """Each resource says whose it is, when it expires and what it may cost."""
    async with a_deployment(label="study").open():
        pass
    tags = {tag["Key"]: tag["Value"] for tag in asked(fake, "CreateEndpoint")["Tags"]}
    names = {asked(fake, f"Create{kind}")[f"{kind}Name"] for kind in ("Model", "Endpoint")}

    assert tags.keys() >= {
        "managed-by",
        *(f"llmperf:{name}" for name in ("run", "owner", "host", "pid", "born")),
        *(f"llmperf:{name}" for name in ("created-at", "expires-at", "max-usd")),
    }
    assert (tags["managed-by"], tags["llmperf:max-usd"]) == ("llmperf", "5.00")
    assert tags["llmperf:created-at"] < tags["llmperf:expires-at"]
    assert asked(fake, "CreateModel")["Tags"] == asked(fake, "CreateEndpointConfig")["Tags"]
    assert len(names) == 1
    assert names.pop().startswith("llmperf-study-")


async def test_nothing_is_deployed_without_a_yes(fake: FakeSageMaker) -> None:
    """Whoever says no sum gets an error that says what it costs an hour, and no call is made."""
    with pytest.raises(UsageError, match=r"nobody has said how much .* say it: max_usd"):
        async with a_deployment(max_usd=None).open():
            pass

    assert called(fake, "Create") == []


async def test_the_worst_case_has_to_be_allowed(fake: FakeSageMaker) -> None:
    """The arithmetic is shown; nothing was created."""
    target = a_deployment(max_usd=None, startup_s=600, provision_s=300)
    dear = target.allowed(max_usd=0.99, measuring_s=1500)
    with pytest.raises(BudgetError) as refused:
        async with dear.open():
            pass
    cheap = target.allowed(max_usd=1.25, measuring_s=1500)
    async with cheap.open():
        pass

    assert "1.25 USD at worst (1.5 USD/h × (15 + 25 + 10) min" in str(refused.value)
    assert called(fake, "CreateEndpoint") == ["CreateEndpointConfig", "CreateEndpoint"]


async def test_what_nobody_can_price_is_not_deployed(fake: FakeSageMaker) -> None:
    """Unless somebody says the price."""
    with pytest.raises(UsageError, match="lists no hosting on ml"):
        async with a_deployment(instance_type="ml.g6.xlarge").open():
            pass
    async with a_deployment(instance_type="ml.g6.xlarge", price=1.127).open() as endpoint:
        price = endpoint.server["price"]

    assert price["source"] == "said by the user"  # type: ignore[index, call-overload]
    assert len(called(fake, "CreateModel")) == 1


async def test_measuring_ends_with_its_budget(fake: FakeSageMaker) -> None:
    """What runs longer than it was allowed is ended, and deleted."""
    with pytest.raises(OverrunError, match=r"longer than the 0.05 s"):
        async with a_deployment(measuring_s=0.05).open():
            await anyio.sleep_forever()

    assert fake.holds() == {}


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (FailedBringUp(), r"no instance of this type free.*InsufficientInstanceCapacity"),
        (FailedBringUp(reason=UNHEALTHY), r"not ready in time \(The primary container for prod"),
        (
            FailedBringUp(reason="CannotPullContainerError: manifest unknown"),
            "image cannot be pulled",
        ),
        (FailedBringUp(reason="Something new."), r"did not start: Something new\."),
        (
            RefusedCall(
                operation="CreateModel",
                code="AccessDeniedException",
                message="User is not authorized to perform: sagemaker:CreateModel",
            ),
            "AWS does not permit it",
        ),
    ],
)
async def test_a_failed_deployment_says_why(
    tmp_path: Path, failure: FailedBringUp | RefusedCall, cause: str
) -> None:
    """In one line, and nothing of it is left."""
    with faked(tmp_path, failures=[failure]) as fake:
        with pytest.raises(StartError, match=cause) as caught:
            async with a_deployment().open():
                pass

        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("; nothing is left running")
        assert (fake.holds(), fake.usd_per_h, notes()) == ({}, 0, [])


async def test_a_quota_is_named(tmp_path: Path) -> None:
    """With what to do about it."""
    with faked(tmp_path, account=FakeAccount(prices=PRICES, other_quota=0)) as fake:
        with pytest.raises(StartError, match=r"quota .* is 0 Instances.*Service Quotas"):
            async with a_deployment().open():
                pass

        assert fake.holds() == {}


async def test_the_logs_last_lines_are_told(tmp_path: Path, moto: str) -> None:
    """What the container wrote says more than SageMaker: here that the model is gated."""
    told: list[str] = []
    with faked(tmp_path, elsewhere=moto, serve=_gated) as fake:
        with pytest.raises(StartError) as caught:
            async with a_deployment().reporting(told.append).open():
                pass

        assert fake.holds() == {}
    assert "the model is gated (" in str(caught.value)
    assert "it wrote: INFO Downloading | GatedRepoError: 401 of ***;" in str(caught.value)
    assert any("GatedRepoError" in words for words in told)


@contextmanager
def _gated(deployed: Deployed) -> Iterator[str]:
    """Be a container that writes its log, with a token in it, and then is not healthy."""
    logs = boto3.client("logs")
    group, stream = f"/aws/sagemaker/Endpoints/{deployed.endpoint}", f"{deployed.variant}/i-1"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    lines = [
        "2026-11-25T00:00:00.0Z \x1b[32mINFO\x1b[0m Downloading",
        "GatedRepoError: 401 of hf_plantedToken12",
    ]
    logs.put_log_events(
        logGroupName=group,
        logStreamName=stream,
        logEvents=[{"timestamp": int(time.time() * 1000), "message": line} for line in lines],
    )
    raise RuntimeError(UNHEALTHY.format(variant=deployed.variant))
    yield ""


async def test_a_limit_ends_the_wait(tmp_path: Path) -> None:
    """An endpoint that takes too long is given up, and deleted once it lets itself be deleted."""
    # It is still being created, for 3 s here, when it is given up, on a busy machine too.
    slow = Timing(creating_s=9000, deleting_s=10)
    with faked(tmp_path, timing=slow, speed=3000.0) as fake:
        hasty = evolve(a_deployment(), options=evolve(a_deployment().options, startup_s=60))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Deployment, "bring_up", evolve(hasty.bring_up, limit_s=0.3))
            with pytest.raises(StartError, match=r"not in service after 0\.3 s"):
                async with hasty.open():
                    pass

        assert fake.holds() == {}
        assert called(fake, "DeleteEndpoint").count("DeleteEndpoint") > 1


async def test_a_config_that_is_not_found_yet_is_waited_for(tmp_path: Path) -> None:
    """AWS's reads are eventually consistent."""
    stale = Timing(creating_s=0, deleting_s=0, config_stale_s=300)
    with faked(tmp_path, timing=stale) as fake:
        async with a_deployment().open():
            pass

        assert called(fake, "CreateEndpoint").count("CreateEndpoint") > 1
        assert fake.holds() == {}


async def test_a_moments_trouble_ends_no_bring_up(tmp_path: Path) -> None:
    """Neither where AWS is too busy to say how it stands, nor where nobody can read the log."""
    told: list[str] = []
    trouble = [RefusedCall(operation="DescribeEndpoint", nth=1) for _ in range(3)]
    nowhere = "http://127.0.0.1:1"
    with faked(tmp_path, failures=trouble, elsewhere=nowhere) as fake:
        async with a_deployment(price=1.5).reporting(told.append).open():
            pass

        assert fake.holds() == {}
    assert any("ThrottlingException" in words for words in told)
    assert any("its log cannot be read" in words for words in told)


async def test_an_inference_component(fake: FakeSageMaker) -> None:
    """Is deployed on its endpoint, addressed, and deleted before that."""
    async with a_deployment(component=True).open() as endpoint:
        kinds = set(fake.holds())

    assert kinds == {"Model", "EndpointConfig", "Endpoint", "InferenceComponent"}
    assert endpoint.server["component"] == endpoint.server["endpoint"]
    assert "ModelName" not in asked(fake, "CreateEndpointConfig")["ProductionVariants"][0]
    assert called(fake, "Delete")[0] == "DeleteInferenceComponent"
    assert fake.holds() == {}


async def test_a_token_is_nowhere_but_in_the_model(
    fake: FakeSageMaker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """It is read where it is used, and no log shows it, not even botocore's at its loudest."""
    monkeypatch.setenv("MY_TOKEN", "planted-token")
    target = a_deployment(token_env="MY_TOKEN")
    caplog.set_level(logging.DEBUG)
    async with target.open() as endpoint:
        kept = [path.read_text() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    written = f"{target!r} {target.name} {endpoint!r} {kept} {caplog.text}"

    assert asked(fake, "CreateModel")["PrimaryContainer"]["Environment"]["HF_TOKEN"] == (
        "planted-token"
    )
    assert kept
    assert "DescribeModel" in caplog.text
    assert "planted" not in written


async def test_a_token_that_is_not_set_is_missed_at_once(fake: FakeSageMaker) -> None:
    """Before anything is created."""
    with pytest.raises(UsageError, match="MY_TOKEN, which is not set"):
        async with a_deployment(token_env="MY_TOKEN").open():
            pass

    assert called(fake, "Create") == []


async def test_what_aws_echoes_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS quotes a request that it does not like; its secrets do not reach the error."""
    monkeypatch.setenv("MY_TOKEN", "planted-token")
    echo = RefusedCall(
        operation="CreateModel",
        code="ValidationException",
        message="Value '{HF_TOKEN=planted-token}' at 'environment' failed",
    )
    with faked(tmp_path, failures=[echo]), pytest.raises(StartError) as caught:
        async with a_deployment(token_env="MY_TOKEN").open():
            pass

    assert "HF_TOKEN=***" in str(caught.value)
    assert "planted" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_weights_may_come_from_s3(fake: FakeSageMaker) -> None:
    """Then nothing is fetched from the hub, and no token is needed."""
    async with a_deployment(weights="s3://bucket/llama/").open():
        pass
    container = asked(fake, "CreateModel")["PrimaryContainer"]

    assert container["ModelDataSource"]["S3DataSource"] == {
        "S3Uri": "s3://bucket/llama/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    assert container["Environment"]["HF_MODEL_ID"] == "/opt/ml/model"
    assert container["Environment"]["HF_HUB_OFFLINE"] == "1"


async def test_an_endpoint_that_cannot_be_deleted_is_an_error(tmp_path: Path) -> None:
    """It names the endpoint, where it is, what it costs and how to delete it; the note stays."""
    denied = RefusedCall(operation="DeleteEndpoint", code="AccessDeniedException", message="no")
    with faked(tmp_path, failures=[denied]) as fake:
        with pytest.raises(StillThereError) as caught:
            async with a_deployment().open():
                pass
        [name] = fake.holds()["Endpoint"]

        assert f"endpoint '{name}' in us-west-2 could not be deleted" in str(caught.value)
        assert "bills 1.5 USD/h" in str(caught.value)
        assert f"aws sagemaker delete-endpoint --endpoint-name {name} --region us-west-2" in str(
            caught.value
        )
        assert set(fake.holds()) == {"Model", "EndpointConfig", "Endpoint"}
        assert len(notes()) == 1


async def test_an_error_of_the_measuring_comes_through(fake: FakeSageMaker) -> None:
    """As it was, after the deletion."""
    with pytest.raises(ZeroDivisionError):
        async with a_deployment().open():
            raise ZeroDivisionError

    assert fake.holds() == {}


def _held(lease: Lease) -> Held:
    account = Account(region="us-west-2")
    note = Note(lease=lease, name=f"llmperf-{lease.run}-0", account=account, bills="1.5 USD/h")
    held = Held(note, patience_s=60)
    held.connect()
    held.write_note()
    return held


def test_a_creation_whose_answer_was_lost_is_found_again(fake: FakeSageMaker) -> None:
    """The name is taken, and the tags say by whom: by ourselves."""
    lease = Lease.new(60)
    it = left_behind(lease)
    held = _held(lease)

    for kind, request in it.requests.items():
        held.create(kind, request)
    held.end()

    assert held.left is None
    assert fake.holds() == {}


def test_a_name_of_somebody_else_is_left_alone(fake: FakeSageMaker) -> None:
    """It is neither used nor deleted."""
    lease, other = Lease.new(60), Lease.new(60)
    it = left_behind(other, name=f"llmperf-{lease.run}-0")
    held = _held(lease)

    with pytest.raises(AlreadyThereError):
        held.create(MODEL, it.requests[MODEL])
    held.end()

    assert "not tagged as llmperf's" in str(held.left)
    assert set(fake.holds()) == {"Model", "EndpointConfig", "Endpoint"}


def test_nothing_is_created_after_the_end(fake: FakeSageMaker) -> None:
    """However late a thread comes to its turn."""
    lease = Lease.new(60)
    held = _held(lease)
    held.end()

    with pytest.raises(HarnessError, match="given up"):
        held.create(MODEL, {})

    assert called(fake, "Create") == []


def test_nothing_is_created_that_is_not_noted(
    fake: FakeSageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no note can be kept, a crash would leave an endpoint that nobody knows of."""
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))

    with pytest.raises(HarnessError, match="no note of the endpoint can be kept"):
        _held(Lease.new(60))

    assert called(fake, "Create") == []


def test_a_fork_deletes_nothing(fake: FakeSageMaker) -> None:
    """A process that was forked from ours and ends has inherited what we do at our end."""
    lease = Lease.new(60)
    left_behind(lease)
    held = _held(evolve(lease, pid=1))

    held.end()

    assert "Endpoint" in fake.holds()


async def test_it_is_what_studies_and_budgets_take(fake: FakeSageMaker) -> None:
    """It is paid for, can say how it stands, and can be checked beforehand."""
    target = a_deployment()
    findings = await target.check()

    assert isinstance(target, Paid)
    assert isinstance(target, CanPlan)
    assert isinstance(target, CanReport)
    assert target.bring_up.limit_s == 2100
    assert [finding for finding in findings if finding.refused] == []
    assert called(fake, "Create") == []


async def test_a_quota_is_found_before(tmp_path: Path) -> None:
    """A check refuses what the account may not have."""
    with faked(tmp_path, account=FakeAccount(prices=PRICES, other_quota=0)):
        findings = await a_deployment().check()

    assert any(finding.refused and "quota" in finding.detail for finding in findings)


def test_a_price_is_known_without_asking() -> None:
    """From what is shipped, with its day; what is said by the user comes first."""
    shipped = a_deployment(region="us-west-2").price

    assert isinstance(shipped, Price)
    assert shipped.usd_per_h == 1.515
    assert a_deployment(price=2.0).price.usd_per_h == 2.0  # type: ignore[union-attr]
    assert a_deployment(instance_type="ml.unknown.large", region="us-west-2").price is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: a_deployment(instance_type="g5.xlarge"), "instance_type"),
        (lambda: a_deployment(volume_gb=100), "a disk of its own"),
        (lambda: a_deployment(engine=VLLM, tgi_version="3.3.6"), "tgi_version is for TGI"),
        (lambda: a_deployment(engine=VLLM).allowed(max_usd=0, measuring_s=1), "max_usd"),
        (lambda: a_deployment(environment={"A-B": "1"}), "'A-B' is no name"),
        (lambda: a_deployment(environment={"A": "x" * 1025}), "too long"),
        (lambda: a_deployment(startup_s=30), "startup_s"),
        (lambda: a_deployment(weights="/folder"), "weights"),
        (lambda: a_deployment(label="not_a_name"), "label"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Deployment], message: str) -> None:
    """When it is made, before anything is spent."""
    with pytest.raises(ValueError, match=message):
        make()


def test_its_image_has_no_account_in_its_name() -> None:
    """A result names the deployment, and whose account that was is nobody's business."""
    assert "763104351884" in IMAGE
    assert "763104351884" not in a_deployment().name
