"""What SageMaker says of an endpoint, checked against its model by botocore's stubber."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from botocore.stub import Stubber

from llmperf_core.errors import UnreachableError, UsageError
from llmperf_core.target import Json
from llmperf_sagemaker.account import Account, AwsError
from llmperf_sagemaker.codec import Route
from llmperf_sagemaker.description import Description, NotInServiceError, describe
from tests.sagemaker.keys import forget_account, take_keys

Client: TypeAlias = Any
"""boto3 has no types."""
NOW = datetime(2026, 11, 25, tzinfo=UTC)
IMAGE = "123456789012.dkr.ecr.us-west-2.amazonaws.com/tgi-inference:2.7.0-tgi3.3.6"
ARN = "arn:aws:sagemaker:us-west-2:123456789012:"
WHEN = {"CreationTime": NOW, "LastModifiedTime": NOW}
ENDPOINT: dict[str, Any] = {
    "EndpointName": "llama",
    "EndpointArn": f"{ARN}endpoint/llama",
    "EndpointConfigName": "llama-config",
    "EndpointStatus": "InService",
    "ProductionVariants": [
        {
            "VariantName": "blue",
            "CurrentInstanceCount": 2,
            "DeployedImages": [{"SpecifiedImage": IMAGE, "ResolvedImage": f"{IMAGE}@sha256:abc"}],
        }
    ],
    **WHEN,
}
VARIANT = {
    "VariantName": "blue",
    "ModelName": "llama-model",
    "InstanceType": "ml.g5.2xlarge",
    "InitialInstanceCount": 2,
    "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-2",
}
CONFIG = {
    "EndpointConfigName": "llama-config",
    "EndpointConfigArn": f"{ARN}endpoint-config/llama-config",
    "ProductionVariants": [VARIANT],
    "CreationTime": NOW,
}
ENVIRONMENT = {
    "HF_MODEL_ID": "meta-llama/Llama-2-7b-hf",
    "HF_TOKEN": "hf_planted_secret",
    "MAX_TOTAL_TOKENS": "2048",
    "EXTRA": "--key hf_planted_secret",
}
MODEL = {
    "ModelName": "llama-model",
    "ModelArn": f"{ARN}model/llama-model",
    "PrimaryContainer": {"Image": IMAGE, "Environment": ENVIRONMENT},
    "CreationTime": NOW,
}
COMPONENT = {
    "InferenceComponentName": "part",
    "InferenceComponentArn": f"{ARN}inference-component/part",
    "EndpointName": "llama",
    "EndpointArn": f"{ARN}endpoint/llama",
    "InferenceComponentStatus": "InService",
    "Specification": {
        "Container": {
            "DeployedImage": {"SpecifiedImage": IMAGE},
            "Environment": {"OPTION_MODEL_ID": "other"},
        }
    },
    **WHEN,
}
SHOWN: dict[str, Json] = {
    "image": "***.dkr.ecr.us-west-2.amazonaws.com/tgi-inference:2.7.0-tgi3.3.6",
    "environment": {
        "EXTRA": "--key ***",
        "HF_MODEL_ID": "meta-llama/Llama-2-7b-hf",
        "HF_TOKEN": "***",
        "MAX_TOTAL_TOKENS": "2048",
    },
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    """Return boto3's client of SageMaker."""
    forget_account(monkeypatch, tmp_path)
    take_keys(monkeypatch)
    return Account(region="us-west-2").client("sagemaker")


@pytest.fixture
def stub(client: Client) -> Iterator[Stubber]:
    """Yield what answers instead of AWS, in order."""
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def answers(stub: Stubber, **said: Mapping[str, object]) -> None:
    """Answer the operations, in this order."""
    for operation, response in said.items():
        stub.add_response(operation, response)


def described(client: Client, **route: str) -> Description:
    """Return what is said of the endpoint."""
    return describe(client, Route(endpoint="llama", **route))


def test_what_may_change_what_is_measured(client: Client, stub: Stubber) -> None:
    """The machines, the image, the container's environment without its secrets, the routing."""
    answers(stub, describe_endpoint=ENDPOINT, describe_endpoint_config=CONFIG, describe_model=MODEL)
    found = described(client)

    assert found == Description(
        server={
            "engine": "SageMaker",
            "endpoint": "llama",
            "region": "us-west-2",
            "variant": "blue",
            "instance_type": "ml.g5.2xlarge",
            "instances": 2,
            "routing": "LEAST_OUTSTANDING_REQUESTS",
            "ami": "al2-ami-sagemaker-inference-gpu-2",
            "image_digest": "sha256:abc",
            **SHOWN,
        },
        image=IMAGE,
        model="meta-llama/Llama-2-7b-hf",
    )
    assert "planted" not in repr(found)


def test_a_component_has_a_container_of_its_own(client: Client, stub: Stubber) -> None:
    """Or that of a model, and its instances are the endpoint's."""
    bare = {"VariantName": "blue", "InstanceType": "ml.g5.2xlarge"}
    config = {**CONFIG, "ProductionVariants": [bare]}
    answers(
        stub,
        describe_endpoint=ENDPOINT,
        describe_endpoint_config=config,
        describe_inference_component=COMPONENT,
    )
    own = described(client, component="part", variant="blue")
    answers(
        stub,
        describe_endpoint=ENDPOINT,
        describe_endpoint_config=config,
        describe_inference_component={
            **COMPONENT,
            "Specification": {"ModelName": "llama-model"},
        },
        describe_model=MODEL,
    )
    of_model = described(client, component="part")

    assert (own.model, own.image, own.server["component"]) == ("other", IMAGE, "part")
    assert own.server["instance_type"] == of_model.server["instance_type"] == "ml.g5.2xlarge"
    assert of_model.server["environment"] == SHOWN["environment"]


def test_an_endpoint_of_components_wants_one(client: Client, stub: Stubber) -> None:
    """It would refuse every request that names none."""
    bare = {"VariantName": "blue", "InstanceType": "ml.g5.2xlarge"}
    answers(
        stub,
        describe_endpoint=ENDPOINT,
        describe_endpoint_config={**CONFIG, "ProductionVariants": [bare]},
    )
    with pytest.raises(NotInServiceError, match=r"has inference components; name one with \?comp"):
        described(client)


def test_variants_are_told_apart(client: Client, stub: Stubber) -> None:
    """All of them may answer, unless one is named."""
    green = {"VariantName": "green", "CurrentInstanceCount": 1}
    endpoint = {**ENDPOINT, "ProductionVariants": [*ENDPOINT["ProductionVariants"], green]}
    other = {**VARIANT, "VariantName": "green", "InstanceType": "ml.g6.xlarge"}
    config = {**CONFIG, "ProductionVariants": [VARIANT, other]}
    answers(stub, describe_endpoint=endpoint, describe_endpoint_config=config)
    for _ in range(2):
        answers(stub, describe_model=MODEL)
    both = described(client)
    answers(stub, describe_endpoint=endpoint, describe_endpoint_config=config, describe_model=MODEL)
    one = described(client, variant="green")

    variants = both.server["variants"]
    assert isinstance(variants, list)
    assert [each["instance_type"] for each in variants] == ["ml.g5.2xlarge", "ml.g6.xlarge"]
    assert (one.server["variant"], one.server["instance_type"]) == ("green", "ml.g6.xlarge")

    answers(stub, describe_endpoint=endpoint, describe_endpoint_config=config)
    with pytest.raises(NotInServiceError, match="has no variant 'red'; there are blue, green"):
        described(client, variant="red")


def test_who_may_not_describe_what_it_is_made_of_measures_all_the_same(
    client: Client,
    stub: Stubber,
) -> None:
    """The images are in what is said of the endpoint itself."""
    stub.add_response("describe_endpoint", ENDPOINT)
    stub.add_client_error("describe_endpoint_config", "AccessDeniedException", "no")
    found = described(client)

    assert found.server["instances"] == 2
    assert "instance_type" not in found.server
    assert (found.image, found.model) == (IMAGE, None)


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("Creating", None, "is Creating; wait until it is InService"),
        (
            "Failed",
            "no role arn:aws:iam::123456789012:role/x",
            r"is Failed \(no role arn:aws:iam::\*\*\*:role/x\); delete it, and deploy it again",
        ),
        ("Deleting", None, "is Deleting; deploy it again"),
        ("OutOfService", None, "is OutOfService; bring it into service"),
    ],
)
def test_a_state_in_which_it_does_not_answer_is_said(
    client: Client,
    stub: Stubber,
    state: str,
    reason: str | None,
    said: str,
) -> None:
    """With the reason that SageMaker gives; and what to do."""
    failure = {} if reason is None else {"FailureReason": reason}
    answers(stub, describe_endpoint={**ENDPOINT, "EndpointStatus": state, **failure})

    with pytest.raises(NotInServiceError, match=f"SageMaker's 'llama' {said}"):
        described(client)


def test_a_component_that_does_not_answer_is_said(client: Client, stub: Stubber) -> None:
    """By its own name."""
    answers(
        stub,
        describe_endpoint=ENDPOINT,
        describe_endpoint_config=CONFIG,
        describe_inference_component={**COMPONENT, "InferenceComponentStatus": "Creating"},
    )
    with pytest.raises(NotInServiceError, match="SageMaker's 'part' is Creating"):
        described(client, component="part")


def test_an_endpoint_that_is_updated_answers(client: Client, stub: Stubber) -> None:
    """The instances from before do."""
    answers(
        stub,
        describe_endpoint={**ENDPOINT, "EndpointStatus": "Updating"},
        describe_endpoint_config=CONFIG,
        describe_model=MODEL,
    )
    assert described(client).image == IMAGE


def test_a_missing_endpoint_is_said(client: Client, stub: Stubber) -> None:
    """The account is not."""
    stub.add_client_error(
        "describe_endpoint",
        "ValidationException",
        f'Could not find endpoint "{ARN}endpoint/llama".',
    )
    with pytest.raises(NotInServiceError, match=r"is not there .*is the region right") as raised:
        described(client)
    assert "123456789012" not in str(raised.value)


@pytest.mark.parametrize("operation", ["describe_endpoint", "describe_endpoint_config"])
def test_anything_else_is_awss_error(client: Client, stub: Stubber, operation: str) -> None:
    """Whoever asks is told the operation, AWS's word and its words."""
    if operation != "describe_endpoint":
        answers(stub, describe_endpoint=ENDPOINT)
    stub.add_client_error(operation, "ThrottlingException", "Rate exceeded")

    with pytest.raises(AwsError, match=r"AWS refused Describe.*: ThrottlingException: Rate exceed"):
        described(client)


@pytest.mark.usefixtures("client")
def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is not reached, and a region that nothing names."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UnreachableError, match=r"cannot reach http://127\.0\.0\.1:9"):
        described(Account(region="us-west-2").client("sagemaker"))
    with pytest.raises(UsageError, match="no AWS region: name one"):
        Account().client("sagemaker")
