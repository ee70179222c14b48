"""Real boto3 clients of a fake SageMaker, and what they create there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import httpx
import pytest
from botocore import session as botocore_session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, WaiterError
from botocore.loaders import Loader

from llmperf_sagemaker.testing import FakeSageMaker, SeparateFake, Timing

ROLE = "arn:aws:iam::123456789012:role/llmperf"
QUICK = Timing(creating_s=60, deleting_s=30)
AT_ONCE = Timing(creating_s=0, deleting_s=0)
FAST = 600.0
"""A speed at which that takes 0.1 s and 0.05 s."""
ONCE = Config(retries={"total_max_attempts": 1})

_LOADER = Loader()
"""Reading SageMaker's model takes longer than most tests."""


def boto(
    fake: FakeSageMaker | SeparateFake, service: str = "sagemaker", *, region: str | None = None
) -> Any:
    """Return boto3's own client of a service, which the environment alone sends to the fake.

    Variables are put back when it is made: what it was told then is what it keeps.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in fake.environment().items():
            patch.setenv(name, value)
        botocore = botocore_session.Session()
        botocore.register_component("data_loader", _LOADER)
        session = boto3.session.Session(botocore_session=botocore)
        return session.client(service, region_name=region, config=ONCE)


def create_model(client: Any, name: str = "m") -> str:
    """Create a model, and return its ARN."""
    container = {"Image": "763104351884.dkr.ecr.us-west-2.amazonaws.com/tgi:3.3.6"}
    created = client.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={**container, "Environment": {"HF_MODEL_ID": "m", "SM_NUM_GPUS": "4"}},
    )
    return str(created["ModelArn"])


def create_config(
    client: Any,
    name: str = "c",
    *,
    model: str | None = "m",
    instance_type: str = "ml.g5.12xlarge",
    count: int = 1,
) -> str:
    """Create an endpoint config with one variant, and return its ARN."""
    variant: dict[str, object] = {
        "VariantName": "AllTraffic",
        "InstanceType": instance_type,
        "InitialInstanceCount": count,
    }
    if model is not None:
        variant["ModelName"] = model
    created = client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    return str(created["EndpointConfigArn"])


def create_endpoint(client: Any, name: str = "e", *, config: str = "c") -> str:
    """Create an endpoint, and return its ARN."""
    created = client.create_endpoint(EndpointName=name, EndpointConfigName=config)
    return str(created["EndpointArn"])


def deploy(client: Any, name: str = "e", **variant: Any) -> None:
    """Create all three; the endpoint is not awaited."""
    create_model(client)
    create_config(client, **variant)
    create_endpoint(client, name)


def wait(client: Any, waiter: str, name: str = "e") -> None:
    """Wait with boto3's own waiter, which asks more often than in earnest."""
    client.get_waiter(waiter).wait(
        EndpointName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 3000}
    )


def why_failed(client: Any, name: str = "e") -> str:
    """Wait until an endpoint has failed, as boto3's own waiter sees it, and return the reason."""
    with pytest.raises(WaiterError, match="Failed"):
        wait(client, "endpoint_in_service", name)
    return str(client.describe_endpoint(EndpointName=name)["FailureReason"])


def create_component(client: Any, **specification: object) -> None:
    """Create an inference component `i` on the endpoint `e`."""
    client.create_inference_component(
        InferenceComponentName="i",
        EndpointName="e",
        VariantName="AllTraffic",
        Specification={
            **(specification or {"ModelName": "m"}),
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
        },
        RuntimeConfig={"CopyCount": 1},
    )


def until(client: Any, state: str) -> None:
    """Wait for the component `i` to be in a state."""
    found = None
    while found != state:
        said = client.describe_inference_component(InferenceComponentName="i")
        found = said["InferenceComponentStatus"]


def call(fake: FakeSageMaker, target: str, body: bytes) -> httpx.Response:
    """Call the control plane with what boto3 would not send."""
    key = fake.account.keys[0]
    headers = {"x-amz-target": target, "host": fake.url.removeprefix("http://")}
    request = AWSRequest("POST", fake.url, data=body, headers=headers)
    credentials = Credentials(key.id, key.secret, key.token)
    SigV4Auth(credentials, "sagemaker", fake.account.region).add_auth(request)
    return httpx.post(fake.url, content=body, headers=dict(request.headers), trust_env=False)


@contextmanager
def refused(code: str, *words: str) -> Iterator[None]:
    """Expect a call to be refused with this error, in these words."""
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value.response["Error"]
    assert error["Code"] == code
    assert [word for word in words if word not in error["Message"]] == []
