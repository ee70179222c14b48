"""What AWS's own settings, or the environment, say where the user does not: region and role."""

import os

from llmperf_core.errors import UsageError
from llmperf_sagemaker.account import Account, explained

ROLE_ENV = "LLMPERF_SAGEMAKER_ROLE"
"""The environment variable that names the execution role."""


def environment_region(account: Account) -> str | None:
    """Return the region, as far as it is known without AWS's files."""
    return account.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


def region_of(account: Account) -> str:
    """Return the region. Reads files.

    Raises:
        UsageError: nothing names one.
    """
    region = environment_region(account) or account.session().region_name
    if region is None:
        raise UsageError("no AWS region: name one with ?region=us-west-2, or AWS_REGION")
    return str(region)


def role_of(account: Account, role: str | None) -> str:
    """Return the ARN of the execution role. Blocks, if it is given by its name.

    Args:
        account: that has it.
        role: its ARN or its name; None takes that of the environment.

    Raises:
        UsageError: nothing names one.
        AwsError: there is none of this name, or it may not be looked up.
    """
    role = role or os.environ.get(ROLE_ENV)
    if not role:
        raise UsageError(
            f"no execution role for SageMaker: name one with role, or in {ROLE_ENV}; it is what "
            "the endpoint may do, such as reading its image"
        )
    if role.startswith("arn:"):
        return role
    client = account.client("iam")
    with explained("GetRole"):
        return str(client.get_role(RoleName=role)["Role"]["Arn"])
