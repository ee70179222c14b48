"""Where AWS is reached: the region and the profile, credentials, clients, and what goes wrong."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import field, frozen
from attrs.validators import matches_re, min_len, optional

from llmperf_core._version import __version__
from llmperf_core.errors import MissingExtraError, TargetError, UnreachableError, UsageError
from llmperf_sagemaker.redaction import redacted

_CONNECT_S, _READ_S = 10, 60
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]+)+-\d+")
SIGN_IN = (
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or sign in: aws sso login"
)
"""What to do without credentials."""


class AwsError(TargetError):
    """AWS did not do what it was asked.

    Args:
        operation: what it was asked.
        code: AWS's word for what is wrong, such as `AccessDeniedException`.
        message: what it said.
    """

    operation: str
    code: str
    message: str

    def __init__(self, operation: str, code: str, message: str) -> None:
        self.operation, self.code, self.message = operation, code, redacted(message)
        super().__init__(f"AWS refused {operation}: {code}: {self.message}")


@frozen(kw_only=True)
class Account:
    """Whose AWS account, and which region. What is None is found as AWS's own tools find it.

    It holds no secret: credentials are looked up where they are used, by botocore's chain.

    Raises:
        ValueError: that is no region, or the profile has no name.
    """

    region: str | None = field(default=None, validator=optional(matches_re(_REGION)))
    profile: str | None = field(default=None, validator=optional(min_len(1)))

    def session(self) -> Any:  # noqa: ANN401 -- boto3 has no types
        """Return a `boto3.Session`. Reads files; takes some milliseconds.

        Raises:
            MissingExtraError: boto3 is not installed.
            UsageError: there is no such profile.
        """
        try:
            import boto3
        except ImportError as error:
            raise MissingExtraError("sagemaker", "boto3") from error
        with explained("to read its settings"):
            return boto3.Session(profile_name=self.profile, region_name=self.region)

    def client(self, service: str) -> Any:  # noqa: ANN401 -- boto3 has no types
        """Return boto3's client of a service. Blocks when used, so use it in a thread.

        Raises:
            MissingExtraError: boto3 is not installed.
            UsageError: there is no such profile, or nothing names a region.
        """
        session = self.session()
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            user_agent_extra=f"llmperf/{__version__}",
        )
        with explained(f"for a client of {service}"):
            return session.client(service, config=config)


@contextmanager
def explained(operation: str) -> Iterator[None]:
    """Raise what botocore raises as our errors.

    Args:
        operation: what AWS is asked: `DescribeEndpoint`.

    Raises:
        AwsError: AWS refused.
        UnreachableError: it did not answer.
        UsageError: credentials, profile or region are missing.
    """
    from botocore import exceptions as aws

    try:
        yield
    except aws.ClientError as error:
        said = error.response.get("Error", {})
        raise AwsError(
            error.operation_name, said.get("Code") or "without a code", said.get("Message") or ""
        ) from error
    except (aws.ConnectionError, aws.HTTPClientError) as error:
        url = str(getattr(error, "kwargs", {}).get("endpoint_url", "AWS"))
        raise UnreachableError(url, redacted(str(error)).rstrip(".")) from error
    except aws.NoRegionError as error:
        raise UsageError("no AWS region: name one with ?region=us-west-2, or AWS_REGION") from error
    except aws.ProfileNotFound as error:
        raise UsageError(f"{error}; see: aws configure list-profiles") from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
        raise UsageError(f"no AWS credentials ({error}); {SIGN_IN}") from error
    except aws.BotoCoreError as error:  # credentials that cannot be had or renewed, and the rest
        raise UsageError(f"AWS could not be asked {operation}: {redacted(str(error))}") from error
