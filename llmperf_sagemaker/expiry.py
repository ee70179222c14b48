"""A deletion that happens in the cloud, though we are gone: EventBridge Scheduler."""

import json
from datetime import datetime, timedelta
from typing import Any

from attrs import define

from llmperf_sagemaker.account import Account, AwsError, explained

# An endpoint that is being created refuses its deletion, so it is asked for a second time.
_TIMES = {"": timedelta(0), "-2": timedelta(hours=1)}
_MISSING = "ResourceNotFoundException"


@define
class Expiry:
    """The schedules that delete one endpoint at the end of its lease. Blocks."""

    _client: Any

    @classmethod
    def of(cls, account: Account) -> "Expiry":
        """Return what schedules in an account."""
        return cls(account.client("scheduler"))

    def set(self, endpoint: str, expires: str, role: str) -> None:
        """Have an endpoint deleted when its lease ends.

        Args:
            endpoint: its name, which the schedules get, too.
            expires: ISO 8601, UTC.
            role: the ARN of a role that EventBridge Scheduler may take, and which may delete it.

        Raises:
            LLMPerfError: AWS refused, or did not answer.
        """
        at = datetime.fromisoformat(expires)
        for suffix, later in _TIMES.items():
            with explained("CreateSchedule"):
                self._client.create_schedule(
                    Name=f"{endpoint[:62]}{suffix}",
                    ScheduleExpression=f"at({at + later:%Y-%m-%dT%H:%M:%S})",
                    ScheduleExpressionTimezone="UTC",
                    FlexibleTimeWindow={"Mode": "OFF"},
                    ActionAfterCompletion="DELETE",
                    Target={
                        "Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
                        "RoleArn": role,
                        "Input": json.dumps({"EndpointName": endpoint}),
                    },
                )

    def cancel(self, endpoint: str) -> None:
        """Remove the schedules; those that have run are gone already.

        Raises:
            LLMPerfError: AWS refused, or did not answer.
        """
        for suffix in _TIMES:
            try:
                with explained("DeleteSchedule"):
                    self._client.delete_schedule(Name=f"{endpoint[:62]}{suffix}")
            except AwsError as error:
                if error.code != _MISSING:
                    raise
