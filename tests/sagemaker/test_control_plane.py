"""The fake's control plane, as boto3's own client sees it."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError

from llmperf_sagemaker.testing import (
    UNHEALTHY,
    Account,
    FailedBringUp,
    FakeSageMaker,
    RefusedCall,
    Timing,
)
from llmperf_sagemaker.testing.shapes import instance_types
from tests.sagemaker.clients import (
    AT_ONCE,
    FAST,
    QUICK,
    ROLE,
    boto,
    call,
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

FOREVER = Timing(creating_s=1e9, deleting_s=1e9)
"""No state is ever left."""


@pytest.fixture
def fake() -> Iterator[FakeSageMaker]:
    """A fake whose endpoints are quickly up and quickly gone."""
    with FakeSageMaker(speed=FAST, timing=QUICK) as fake:
        yield fake


@pytest.fixture
def client(fake: FakeSageMaker) -> Any:
    """boto3's client of it."""
    return boto(fake)


def status(client: Any) -> str:
    """Return the state of the endpoint `e`."""
    return str(client.describe_endpoint(EndpointName="e")["EndpointStatus"])


def test_an_endpoint_lives_from_creating_to_gone(fake: FakeSageMaker, client: Any) -> None:
    """boto3's waiters see an endpoint come into service and go, and then nothing is held."""
    deploy(client)
    wait(client, "endpoint_in_service")
    held = fake.holds()
    client.delete_endpoint(EndpointName="e")
    wait(client, "endpoint_deleted")
    client.delete_endpoint_config(EndpointConfigName="c")
    client.delete_model(ModelName="m")

    assert held == {"Model": ["m"], "EndpointConfig": ["c"], "Endpoint": ["e"]}
    assert fake.holds() == {}


def test_what_is_not_there_is_not_found(client: Any) -> None:
    """Each kind that is not there is named, with its ARN, when it is asked for or deleted."""
    with refused("ValidationException", "Could not find endpoint", ":endpoint/e"):
        client.describe_endpoint(EndpointName="e")
    with refused("ValidationException", "Could not find endpoint configuration"):
        client.delete_endpoint_config(EndpointConfigName="c")
    with refused("ValidationException", "Could not find model"):
        client.delete_model(ModelName="m")
    with refused("ValidationException", "Could not find inference component"):
        client.describe_inference_component(InferenceComponentName="i")


def test_an_endpoint_that_is_created_refuses_deletion() -> None:
    """While it is created an endpoint cannot be deleted."""
    with FakeSageMaker(timing=FOREVER) as fake:
        client = boto(fake)
        deploy(client)
        with refused("ValidationException", "Cannot update in-progress endpoint"):
            client.delete_endpoint(EndpointName="e")

        assert status(client) == "Creating"


def test_an_endpoint_that_is_deleted_refuses_deletion() -> None:
    """While it is deleted an endpoint is still there, and cannot be deleted again."""
    with FakeSageMaker(timing=Timing(creating_s=0, deleting_s=1e9)) as fake:
        client = boto(fake)
        deploy(client)
        wait(client, "endpoint_in_service")
        client.delete_endpoint(EndpointName="e")
        with refused("ValidationException", "Cannot update in-progress endpoint"):
            client.delete_endpoint(EndpointName="e")

        assert status(client) == "Deleting"


def test_nothing_is_created_twice(client: Any) -> None:
    """A second resource of the same kind and name is refused."""
    deploy(client)

    with refused("ValidationException", "Cannot create already existing model"):
        create_model(client)
    with refused("ValidationException", "Cannot create already existing endpoint configuration"):
        create_config(client)
    with refused("ValidationException", "Cannot create already existing endpoint"):
        create_endpoint(client)


def test_what_is_referred_to_must_exist(client: Any) -> None:
    """A config needs its model, and an endpoint its config."""
    with refused("ValidationException", "Could not find model"):
        create_config(client)
    with refused("ValidationException", "Could not find endpoint configuration"):
        create_endpoint(client)


def test_a_description_says_what_was_asked(client: Any) -> None:
    """A description has what the creation said, the environment of the container among it."""
    deploy(client, count=2)
    model = client.describe_model(ModelName="m")
    config = client.describe_endpoint_config(EndpointConfigName="c")
    endpoint = client.describe_endpoint(EndpointName="e")

    assert model["PrimaryContainer"]["Environment"] == {"HF_MODEL_ID": "m", "SM_NUM_GPUS": "4"}
    assert model["ExecutionRoleArn"] == ROLE
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 2
    assert endpoint["EndpointConfigName"] == "c"
    assert endpoint["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert endpoint["CreationTime"] <= endpoint["LastModifiedTime"]


def test_an_endpoint_outlives_its_config(fake: FakeSageMaker, client: Any) -> None:
    """The config of a running endpoint may be deleted: one loses sight of what it costs."""
    deploy(client)
    client.delete_endpoint_config(EndpointConfigName="c")
    wait(client, "endpoint_in_service")

    assert fake.holds() == {"Model": ["m"], "Endpoint": ["e"]}


@pytest.mark.parametrize("name", ["under_score", "-hyphen", "hyphen-", "a" * 64])
def test_a_bad_name_is_refused(client: Any, name: str) -> None:
    """A name that breaks the service's pattern or is longer than 63 characters is refused."""
    with refused("ValidationException", "failed to satisfy constraint", "endpointName"):
        client.create_endpoint(EndpointName=name, EndpointConfigName="c")


def test_an_instance_type_must_be_one_of_the_services(client: Any) -> None:
    """Types of botocore's own model are taken, g6 and p5 among them, and no others."""
    create_model(client)
    create_config(client, "g6", instance_type="ml.g6.12xlarge")
    create_config(client, "p5", instance_type="ml.p5.48xlarge")

    assert len(instance_types()) > 250
    with refused("ValidationException", "instanceType", "enum value set"):
        create_config(client, instance_type="ml.g5.13xlarge")


def test_a_value_out_of_range_is_refused(client: Any) -> None:
    """A startup limit above an hour is refused, as the service's model says."""
    create_model(client)
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.g5.xlarge"}

    with refused("ValidationException", "less than or equal to 3600"):
        client.create_endpoint_config(
            EndpointConfigName="c",
            ProductionVariants=[{**variant, "ContainerStartupHealthCheckTimeoutInSeconds": 3601}],
        )


def test_boto3_checks_shapes_itself(fake: FakeSageMaker, client: Any) -> None:
    """What boto3 finds wrong by itself never comes here."""
    with pytest.raises(ParamValidationError, match="ExecutionRoleArn"):
        client.create_model(ModelName="m", ExecutionRoleArn=1)

    assert fake.calls == ()


@pytest.mark.parametrize(
    ("target", "body", "code", "said"),
    [
        ("SageMaker.CreateModel", b'{"ModelName": 1}', "ValidationException", "ModelName"),
        ("SageMaker.CreateModel", b"{}", "ValidationException", "Missing"),
        ("SageMaker.CreateModel", b"[]", "SerializationException", "no JSON object"),
        ("SageMaker.CreateModel", b"{", "SerializationException", "no JSON object"),
        ("SageMaker.CreateUnicorn", b"{}", "UnknownOperationException", "CreateUnicorn"),
        ("Unicorns.List", b"{}", "UnknownOperationException", "Unicorns"),
    ],
)
def test_other_clients_are_checked(
    fake: FakeSageMaker, target: str, body: bytes, code: str, said: str
) -> None:
    """What a client sends that checks nothing itself is held against the service's model."""
    response = call(fake, target, body)

    assert response.status_code == 400
    assert response.json()["__type"] == code
    assert said in response.json()["message"]


def test_an_endpoint_fails_as_planted() -> None:
    """A region without instances of a type shows in the failure's reason, and deleting works."""
    failures = [FailedBringUp(instance_type="ml.p4d.*")]
    with FakeSageMaker(speed=FAST, timing=QUICK, failures=failures) as fake:
        client = boto(fake)
        deploy(client, instance_type="ml.p4d.24xlarge")
        reason = why_failed(client)
        client.delete_endpoint(EndpointName="e")
        wait(client, "endpoint_deleted")

        assert "InsufficientInstanceCapacity" in reason
        assert "Endpoint" not in fake.holds()


def test_only_the_nth_bring_up_fails() -> None:
    """A failure may be planted for one of several endpoints, and names the variant."""
    failures = [FailedBringUp(reason=UNHEALTHY, model="m", nth=1)]
    with FakeSageMaker(timing=AT_ONCE, failures=failures) as fake:
        client = boto(fake)
        deploy(client)
        reason = why_failed(client)
        create_endpoint(client, "second")
        wait(client, "endpoint_in_service", "second")

        assert "AllTraffic did not pass the ping health check" in reason


def test_a_call_is_refused_as_planted() -> None:
    """A call may be refused before it does anything, and its repetition not."""
    with FakeSageMaker(failures=[RefusedCall(operation="Create*", nth=1)]) as fake:
        client = boto(fake)
        with refused("ThrottlingException", "Rate exceeded"):
            create_model(client)
        held = fake.holds()
        create_model(client)

        assert held == {}
        assert fake.holds() == {"Model": ["m"]}
        assert [call.operation for call in fake.calls] == ["CreateModel", "CreateModel"]


def test_a_quota_is_kept() -> None:
    """Endpoints may not have more instances of a type than its quota, in the service's words."""
    quotas = {"ml.g5.12xlarge": 3, "ml.p5.48xlarge": 0}
    with FakeSageMaker(account=Account(quotas=quotas)) as fake:
        client = boto(fake)
        deploy(client, count=2)
        with refused(
            "ResourceLimitExceeded",
            "'ml.g5.12xlarge for endpoint usage' is 3 Instances, with current utilization of 2 "
            "Instances and a request delta of 2 Instances.",
        ):
            create_endpoint(client, "second")
        create_config(client, "p5", instance_type="ml.p5.48xlarge")
        with refused("ResourceLimitExceeded", "is 0 Instances, with current utilization of 0"):
            create_endpoint(client, "third", config="p5")

        assert fake.holds()["Endpoint"] == ["e"]


def test_a_new_config_may_not_be_found_yet(deadline: None) -> None:  # noqa: ARG001
    """A config that was just created may not be seen by the next call, and later is."""
    with FakeSageMaker(speed=FAST, timing=Timing(config_stale_s=300)) as fake:
        client = boto(fake)
        create_model(client)
        create_config(client)
        with refused("ValidationException", "Could not find endpoint configuration"):
            create_endpoint(client)
        while "Endpoint" not in fake.holds():
            try:
                create_endpoint(client)
            except client.exceptions.ClientError as error:
                assert "Could not find" in str(error)  # noqa: PT017 -- until it is found


def test_lists_are_paged_and_filtered() -> None:
    """Listings have pages, and may be asked for names, states and an order."""
    failures = [FailedBringUp(instance_type="ml.g5.xlarge")]
    with FakeSageMaker(timing=AT_ONCE, failures=failures) as fake:
        client = boto(fake)
        deploy(client, "run-1")
        create_config(client, "failing", instance_type="ml.g5.xlarge")
        create_endpoint(client, "run-2", config="failing")
        create_endpoint(client, "other")
        for name in ("run-1", "other"):
            wait(client, "endpoint_in_service", name)
        why_failed(client, "run-2")
        paginator = client.get_paginator("list_endpoints")

        def names(**asked: object) -> list[str]:
            pages = paginator.paginate(**asked, PaginationConfig={"PageSize": 1})
            return [found["EndpointName"] for page in pages for found in page["Endpoints"]]

        assert names() == ["other", "run-2", "run-1"]  # the latest first
        assert names(NameContains="run", SortOrder="Ascending") == ["run-1", "run-2"]
        assert names(StatusEquals="Failed") == ["run-2"]
        assert names(SortBy="Name", SortOrder="Ascending") == ["other", "run-1", "run-2"]
        assert names(CreationTimeAfter=0, CreationTimeBefore=1) == []
        with refused("ValidationException", "token"):
            client.list_endpoints(NextToken="none of ours")


def test_tags_stay_with_what_they_are_on(client: Any) -> None:
    """Tags of the creation and those added later are listed, and those removed are not."""
    arn = create_model(client)
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "owner", "Value": "me"}])
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "run", "Value": "1"}])
    client.delete_tags(ResourceArn=arn, TagKeys=["owner"])
    listed = client.list_tags(ResourceArn=arn)["Tags"]
    tagged = client.create_model(
        ModelName="n", ExecutionRoleArn=ROLE, Tags=[{"Key": "a", "Value": ""}]
    )["ModelArn"]

    assert listed == [{"Key": "run", "Value": "1"}]
    assert client.list_tags(ResourceArn=tagged)["Tags"] == [{"Key": "a", "Value": ""}]
    with refused("ValidationException", "Could not find"):
        client.list_tags(ResourceArn=f"{arn}-not")
    with refused("ValidationException", "at most 50"):
        client.add_tags(ResourceArn=arn, Tags=[{"Key": str(n), "Value": ""} for n in range(50)])


@pytest.mark.usefixtures("deadline")
def test_a_component_lives_on_an_endpoint(fake: FakeSageMaker, client: Any) -> None:
    """A component comes up on an endpoint without models, which then cannot be deleted first."""
    create_model(client)
    create_config(client, model=None)
    create_endpoint(client)
    with refused("ValidationException", "not InService"):
        create_component(client)
    wait(client, "endpoint_in_service")
    create_component(client)
    with refused("ValidationException", "Cannot update in-progress inference component"):
        client.delete_inference_component(InferenceComponentName="i")
    until(client, "InService")
    said = client.describe_inference_component(InferenceComponentName="i")
    listed = client.list_inference_components(EndpointNameEquals="e")["InferenceComponents"]
    none = client.list_inference_components(EndpointNameEquals="f")["InferenceComponents"]
    with refused("ValidationException", "inference components"):
        client.delete_endpoint(EndpointName="e")
    client.delete_inference_component(InferenceComponentName="i")
    with refused("ValidationException", "Could not find inference component"):
        until(client, "")
    client.delete_endpoint(EndpointName="e")
    wait(client, "endpoint_deleted")

    assert said["Specification"]["ModelName"] == "m"
    assert said["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    assert said["EndpointArn"].endswith(":endpoint/e")
    assert [one["InferenceComponentName"] for one in listed] == ["i"]
    assert none == []
    assert fake.holds() == {"Model": ["m"], "EndpointConfig": ["c"]}


@pytest.mark.usefixtures("deadline")
def test_a_component_may_bring_its_container(client: Any) -> None:
    """A component needs no SageMaker model if it names an image."""
    create_config(client, model=None)
    create_endpoint(client)
    wait(client, "endpoint_in_service")
    create_component(client, Container={"Image": "tgi:3.3.6"})
    until(client, "InService")
    said = client.describe_inference_component(InferenceComponentName="i")

    assert said["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == "tgi:3.3.6"


def test_a_component_needs_a_variant_without_a_model(client: Any) -> None:
    """An endpoint that serves models itself takes no components."""
    deploy(client)
    wait(client, "endpoint_in_service")

    with refused("ValidationException", "no variant for inference components"):
        create_component(client)


def test_what_the_fake_does_not_do_is_refused(client: Any) -> None:
    """An operation of SageMaker that the fake lacks, and a variant without instances, say so."""
    with refused("UnknownOperationException", "the fake does not do"):
        client.list_training_jobs()
    create_model(client)
    with refused("ValidationException", "on instances only"):
        client.create_endpoint_config(
            EndpointConfigName="c", ProductionVariants=[{"VariantName": "v", "ModelName": "m"}]
        )
