"""Who asks AWS, and whether its policies allow what a deployment does."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmperf_core.bringup import Finding

if TYPE_CHECKING:
    import boto3

    from llmperf_sagemaker.account import Account

DEPLOYING = (
    "sagemaker:CreateModel",
    "sagemaker:CreateEndpointConfig",
    "sagemaker:CreateEndpoint",
    "sagemaker:DescribeEndpoint",
    "sagemaker:InvokeEndpoint",
    "sagemaker:InvokeEndpointWithResponseStream",
    "sagemaker:DeleteEndpoint",
    "sagemaker:DeleteEndpointConfig",
    "sagemaker:DeleteModel",
    "sagemaker:AddTags",
    "sagemaker:ListTags",
)
"""What a deployment does, from its beginning to its end."""


def permission_findings(
    account: "Account | boto3.Session", *, actions: Sequence[str] = DEPLOYING
) -> Sequence[Finding]:
    """Return what the credentials lack; nothing if they can do it all, as far as is known. Blocks.

    Args:
        account: the `Account`, or a session of boto3, whose credentials are asked about.
        actions: what they are to be allowed.

    Returns:
        One that refuses if AWS does not know the credentials, or one that names the actions that
        the policies do not allow. That is a warning: the simulation of policies does not see all.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        caller = account.client("sts").get_caller_identity()["Arn"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        return [Finding(detail=f"AWS refuses the credentials: {code}; sign in anew", refused=True)]
    except BotoCoreError as error:
        why = f"who asks could not be found out: {type(error).__name__}"
        return [Finding(detail=f"{why}; are there credentials, and is AWS reached?", refused=True)]
    try:
        pages = (
            account.client("iam")
            .get_paginator("simulate_principal_policy")
            .paginate(PolicySourceArn=_policies_of(caller), ActionNames=list(actions))
        )
        denied = [
            result["EvalActionName"]
            for page in pages
            for result in page["EvaluationResults"]
            if result["EvalDecision"] != "allowed"
        ]
    except (BotoCoreError, ClientError):
        return []  # few may ask it, and whoever may not can often deploy all the same
    if not denied:
        return []
    return [Finding(detail=f"the caller's policies do not seem to allow {', '.join(denied)}")]


def _policies_of(caller: str) -> str:
    """Return the ARN of who holds the policies: of a session's role, where the caller is one."""
    assumed = re.fullmatch(
        r"arn:(?P<partition>[^:]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.+", caller
    )
    if assumed is None:
        return caller
    return "arn:{partition}:iam::{account}:role/{role}".format(**assumed.groupdict())
