"""What the fake answers beside SageMaker, and the variables that lead there."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from llmperf_sagemaker.testing import Account, FakeSageMaker, Key
from tests.sagemaker.clients import boto, refused

PRICES = {"ml.g5.2xlarge": 1.515, "ml.p4d.24xlarge": 25.2513}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeSageMaker]:
    """A fake with a few prices and a quota, whose keys are temporary."""
    account = Account(
        prices=PRICES, quotas={"ml.g5.12xlarge": 4}, other_quota=0, keys=(Key(token="token/of+it"),)
    )
    with FakeSageMaker(account=account) as fake:
        yield fake


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of a moto server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_quotas_are_listed_by_type(fake: FakeSageMaker) -> None:
    """boto3's paginator finds the quota of each type, under its real name."""
    pages = boto(fake, "service-quotas").get_paginator("list_service_quotas")
    found = {
        quota["QuotaName"]: quota["Value"]
        for page in pages.paginate(ServiceCode="sagemaker", PaginationConfig={"PageSize": 50})
        for quota in page["Quotas"]
    }

    assert found["ml.g5.12xlarge for endpoint usage"] == 4.0
    assert found["ml.p5.48xlarge for endpoint usage"] == 0.0
    assert len(found) > 250


def test_quotas_of_other_services_are_not_there(fake: FakeSageMaker) -> None:
    """The fake has SageMaker's quotas and no others, and lists only."""
    client = boto(fake, "service-quotas")

    with refused("NoSuchResourceException"):
        client.list_service_quotas(ServiceCode="vpc")
    with refused("UnknownOperationException"):
        client.list_services()


def products(fake: FakeSageMaker, **fields: str) -> list[dict[str, object]]:
    """Return what the Price List has with these fields; its API is in a few regions only."""
    client = boto(fake, "pricing", region="us-east-1")
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": fields[name]} for name in fields]
    pages = client.get_paginator("get_products").paginate(
        ServiceCode="AmazonSageMaker", Filters=filters, PaginationConfig={"PageSize": 1}
    )
    return [json.loads(product) for page in pages for product in page["PriceList"]]


def test_a_price_is_found(fake: FakeSageMaker) -> None:
    """The price of hosting on a type is one product, JSON in a string, with its date."""
    (product,) = products(
        fake, component="Hosting", instanceName="ml.p4d.24xlarge", regionCode="us-west-2"
    )
    terms = product["terms"]
    assert isinstance(terms, dict)
    (term,) = terms["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()

    assert dimension["unit"] == "Hrs"
    assert dimension["pricePerUnit"] == {"USD": "25.2513000000"}
    assert product["publicationDate"]


def test_a_careless_filter_finds_other_prices(fake: FakeSageMaker) -> None:
    """Without `component` there is more than hosting, and some of it is not by the hour."""
    client = boto(fake, "pricing", region="us-east-1")

    assert len(products(fake, instanceName="ml.g5.2xlarge")) == 3
    assert products(fake, instanceName="ml.g5.2xlarge", regionCode="eu-west-1") == []
    with refused("InvalidParameterException", "TERM_MATCH"):
        client.get_products(
            ServiceCode="AmazonSageMaker",
            Filters=[{"Type": "CONTAINS", "Field": "instanceName", "Value": "ml"}],
        )
    with refused("UnknownOperationException"):
        client.describe_services()


def test_the_caller_is_named(fake: FakeSageMaker) -> None:
    """STS says which account asks, and does nothing else."""
    client = boto(fake, "sts")

    assert client.get_caller_identity()["Account"] == "123456789012"
    with refused("InvalidAction"):
        client.get_session_token()


def test_other_services_are_refused(fake: FakeSageMaker) -> None:
    """A call that the fake does not answer never goes to AWS: it ends here."""
    with refused("UnknownOperationException", "Logs"):
        boto(fake, "logs").describe_log_groups()
    with pytest.raises(ClientError):
        boto(fake, "s3").list_buckets()


def test_a_token_of_ones_own_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session token in the environment does not go along with the fake's key."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of somebody else")
    with FakeSageMaker() as without_token:
        assert boto(without_token).list_models()["Models"] == []


_ELSEWHERE = """
import json, boto3
clients = {name: boto3.client(name) for name in json.loads(input())}
clients["sagemaker"].list_endpoints()
clients["service-quotas"].list_service_quotas(ServiceCode="sagemaker")
clients["pricing"].get_products(ServiceCode="AmazonSageMaker")
clients["sts"].get_caller_identity()
clients["iam"].list_roles()
clients["logs"].describe_log_groups()
clients["cloudwatch"].list_metrics()
clients["resourcegroupstaggingapi"].get_resources()
clients["scheduler"].list_schedules()
print(json.dumps({name: client.meta.endpoint_url for name, client in clients.items()}))
"""


def test_one_environment_suffices_for_another_process(fake: FakeSageMaker, moto: str) -> None:
    """Real boto3 in another process obeys each variable: ours come here, the others go to moto."""
    ours = ["sagemaker", "sagemaker-runtime", "service-quotas", "pricing", "sts"]
    others = ["iam", "logs", "cloudwatch", "resourcegroupstaggingapi", "scheduler"]
    ran = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        input=json.dumps([*ours, *others]),
        env=dict(fake.environment(elsewhere=moto)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.stderr == ""
    assert json.loads(ran.stdout) == dict.fromkeys(ours, fake.url) | dict.fromkeys(others, moto)
