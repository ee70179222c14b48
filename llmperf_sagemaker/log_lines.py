"""The lines that an endpoint's containers wrote, from CloudWatch Logs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmperf_core.units import NS_PER_MS, ns_from_s, s_from_ms

if TYPE_CHECKING:
    import boto3

    from llmperf_sagemaker.account import Account


def log_group_of(endpoint: str, component: str | None = None) -> str:
    """Return the name of the log group of an endpoint, or of an inference component on it."""
    if component is not None:
        return f"/aws/sagemaker/InferenceComponents/{component}"
    return f"/aws/sagemaker/Endpoints/{endpoint}"


def log_lines(
    account: "Account | boto3.Session",
    group: str,
    *,
    variant: str,
    open_at: datetime,
    close_at: datetime,
) -> Iterator[tuple[datetime, str]]:
    """Yield each line of an interval and when it was taken in. Blocks.

    Args:
        account: the `Account`, or a session of boto3, whose region the endpoint is in.
        group: as `log_group_of` names it.
        variant: of whose instances the lines are.
        open_at: the beginning of the interval, with its time zone.
        close_at: its end; both in whole milliseconds, and inclusive.

    Raises:
        botocore.exceptions.ClientError: there is no such group, or it may not be read.
        botocore.exceptions.BotoCoreError: it cannot be asked.
    """
    pages = (
        account.client("logs")
        .get_paginator("filter_log_events")
        .paginate(
            logGroupName=group,
            logStreamNamePrefix=f"{variant}/",
            startTime=_ms(open_at),
            endTime=_ms(close_at),
        )
    )
    for page in pages:
        for event in page["events"]:
            yield datetime.fromtimestamp(s_from_ms(event["timestamp"]), UTC), event["message"]


def _ms(at: datetime) -> int:
    return ns_from_s(at.timestamp()) // NS_PER_MS
