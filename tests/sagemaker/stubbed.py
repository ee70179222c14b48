"""Real clients of boto3 whose answers are written beforehand, and whose requests are checked."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import boto3
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

Said: TypeAlias = Mapping[str, Any] | str | None
"""An answer; the code of an error; or None where nothing answers."""
Call: TypeAlias = tuple[str, Mapping[str, Any] | None, Said]
"""An operation, what it must be asked, and what it says."""
ANYTHING = None
"""In place of what an operation must be asked."""


class StubbedSession:
    """A session whose services answer these calls, each in its order, and nothing else.

    Botocore checks answers and requests against its models of the services.
    """

    def __init__(self, calls: Mapping[str, Sequence[Call]], *, region: str = "us-west-2") -> None:
        self._calls, self.region_name = calls, region
        self.asked: list[tuple[str, str]] = []

    def client(self, service: str, *, region_name: str | None = None, config: object = None) -> Any:
        """Return a client of a service."""
        region = region_name or self.region_name
        self.asked.append((service, region))
        keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "planted"}
        client = boto3.client(service, region_name=region, config=config, **keys)
        stubber = Stubber(client)
        for operation, request, said in self._calls.get(service, ()):
            if said is None:
                raise EndpointConnectionError(endpoint_url=client.meta.endpoint_url)
            if isinstance(said, str):
                stubber.add_client_error(operation, said, expected_params=request)
            else:
                stubber.add_response(operation, said, request)
        stubber.activate()
        return client
