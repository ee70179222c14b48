"""Whether the account may run one more instance of a type: its quota, and what is in use of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from llmperf_core import bringup
from llmperf_core.bringup import Finding

if TYPE_CHECKING:
    import boto3

    from llmperf_sagemaker.account import Account

_GONE = ("Deleting", "Failed")
"""States of endpoints that hold no instance any more."""


@frozen(kw_only=True)
class Quota:
    """How many instances of one type may serve endpoints at a time in one region."""

    name: str
    code: str
    """By which more of it is asked for."""
    instances: int
    region: str


def quota_of(instance_type: str, account: "Account | boto3.Session") -> Quota | None:
    """Return the account's own quota of a type, else AWS's default; None if there is none. Blocks.

    Raises:
        botocore.exceptions.ClientError: it may not be asked.
        botocore.exceptions.BotoCoreError: it cannot be asked.
    """
    client = account.client("service-quotas")
    name = f"{instance_type} for endpoint usage"
    # A quota that was never changed may be among the defaults alone.
    for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
        for page in client.get_paginator(operation).paginate(ServiceCode="sagemaker"):
            for quota in page["Quotas"]:
                if quota["QuotaName"] == name:
                    return Quota(
                        name=name,
                        code=quota["QuotaCode"],
                        instances=int(quota["Value"]),
                        region=client.meta.region_name,
                    )
    return None


def instances_in_use(instance_type: str, account: "Account | boto3.Session") -> int:
    """Return how many instances of a type the region's endpoints have or are getting. Blocks.

    Raises:
        botocore.exceptions.ClientError: it may not be asked.
        botocore.exceptions.BotoCoreError: it cannot be asked.
    """
    client = account.client("sagemaker")
    return sum(
        _instances(variant)
        for page in client.get_paginator("list_endpoints").paginate()
        for endpoint in page["Endpoints"]
        if endpoint["EndpointStatus"] not in _GONE
        for variant in _variants(client, endpoint["EndpointName"])
        if variant["InstanceType"] == instance_type
    )


def _variants(client: Any, endpoint: str) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 -- boto3's
    """Yield an endpoint's variants, as it runs them, each with the type that its config names."""
    from botocore.exceptions import ClientError

    try:
        running = client.describe_endpoint(EndpointName=endpoint)
        config = client.describe_endpoint_config(EndpointConfigName=running["EndpointConfigName"])
    except ClientError as error:
        # It was deleted since it was listed.
        if error.response["Error"]["Code"] == "ValidationException":
            return
        raise
    counts = {variant["VariantName"]: variant for variant in running.get("ProductionVariants", ())}
    for variant in config["ProductionVariants"]:
        if "InstanceType" in variant:  # not where it is serverless
            yield {**variant, **counts.get(variant["VariantName"], {})}


def _instances(variant: Mapping[str, Any]) -> int:
    """Return how many instances a variant has or will have, whichever is more."""
    if "DesiredInstanceCount" not in variant:
        return int(variant.get("InitialInstanceCount", 0))
    return max(int(variant["DesiredInstanceCount"]), int(variant.get("CurrentInstanceCount", 0)))


def quota_findings(
    instance_type: str, *, account: "Account | boto3.Session", instances: int = 1
) -> Sequence[Finding]:
    """Return what the quota has against so many more instances, or how many it allows. Blocks.

    Args:
        instance_type: `ml.g5.2xlarge`, for one.
        account: the `Account`, or a session of boto3, whose region they are to run in.
        instances: how many.

    Returns:
        One that refuses if there are too few, one that says how many targets can be up at a time
        if there are enough, or one that says what could not be asked.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    asked = f"the quota of {instance_type}"
    try:
        quota = quota_of(instance_type, account)
        if quota is None:
            detail = f"there is no quota '{instance_type} for endpoint usage'; is it a host there?"
            return [Finding(detail=detail)]
        # Of nothing, nothing can be in use: no need to ask about each endpoint.
        asked = f"how much of the quota {quota.name!r} of {quota.instances} is in use"
        used = instances_in_use(instance_type, account) if quota.instances else 0
    except ClientError as error:
        return [_unknown(asked, error.response["Error"]["Code"])]
    except BotoCoreError as error:
        return [_unknown(asked, type(error).__name__)]
    if used + instances <= quota.instances:
        shared = bringup.Quota(
            name=f"{quota.name} in {quota.region}",
            available=(quota.instances - used) // instances,
        )
        detail = f"the quota {quota.name!r} in {quota.region} is {quota.instances}, {used} in use"
        return [Finding(detail=detail, quota=shared)]
    detail = (
        f"the quota {quota.name!r} in {quota.region} is {quota.instances}, {used} in use "
        f"and {instances} needed; ask AWS for more (Service Quotas, {quota.code})"
        + ("" if used == 0 else ", or delete endpoints")
    )
    return [Finding(detail=detail, refused=True)]


def _unknown(asked: str, why: str) -> Finding:
    return Finding(detail=f"{asked} could not be asked: {why}; the deployment may be refused")
