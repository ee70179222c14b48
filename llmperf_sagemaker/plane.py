"""SageMaker's control plane: four kinds of resources, and the few things that we do with them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from attrs import define, frozen

from llmperf_core.target import Json
from llmperf_sagemaker.account import Account, AwsError, explained


@frozen
class Kind:
    """A kind of resource."""

    name: str
    """As operations call it: `EndpointConfig`."""
    call: str
    """As boto3's methods call it: `endpoint_config`."""
    words: str
    """As AWS's command line calls it: `endpoint-config`."""
    bills: bool = False


ENDPOINT = Kind("Endpoint", "endpoint", "endpoint", bills=True)
COMPONENT = Kind("InferenceComponent", "inference_component", "inference-component")
CONFIG = Kind("EndpointConfig", "endpoint_config", "endpoint-config")
MODEL = Kind("Model", "model", "model")
KINDS = (COMPONENT, ENDPOINT, CONFIG, MODEL)
"""All, in the order in which they are deleted."""

_BUSY = "in-progress"
# Source: SageMaker's messages for a resource that does not exist, by operation and age of the API.
_MISSING = ("could not find", "does not exist", "not found")


class AlreadyThereError(AwsError):
    """A name is taken: by somebody, or by an earlier request of ours whose answer was lost."""


class MissingError(AwsError):
    """There is no such thing."""


class BusyError(AwsError):
    """It cannot be deleted now: it is being created, updated or deleted."""


@define
class Plane:
    """The control plane of one region. Its methods block, so they are called in threads."""

    _client: Any

    @classmethod
    def of(cls, account: Account) -> "Plane":
        """Return the control plane of an account.

        Raises:
            LLMPerfError: boto3, credentials or the region are missing.
        """
        return cls(account.client("sagemaker"))

    @property
    def region(self) -> str:
        """The region's name."""
        return str(self._client.meta.region_name)

    def create(self, kind: Kind, asked: Mapping[str, Json]) -> None:
        """Create a resource.

        Raises:
            AlreadyThereError: its name is taken.
            LLMPerfError: AWS refused, or did not answer.
        """
        with _told_apart():
            self._call(f"create_{kind.call}", **self._known(asked))

    def describe(self, kind: Kind, name: str) -> Mapping[str, Any] | None:
        """Return what AWS says of it; None if it does not exist."""
        try:
            with _told_apart():
                return self._call(f"describe_{kind.call}", **{f"{kind.name}Name": name})
        except MissingError:
            return None

    def delete(self, kind: Kind, name: str) -> None:
        """Ask for its deletion; what does not exist is no error.

        Raises:
            BusyError: it cannot be deleted yet.
            LLMPerfError: AWS refused, or did not answer.
        """
        with suppress(MissingError), _told_apart():
            self._call(f"delete_{kind.call}", **{f"{kind.name}Name": name})

    def tags(self, arn: str) -> Mapping[str, str]:
        """Return the tags of a resource; none if it is gone by now."""
        try:
            with _told_apart():
                pages = self._client.get_paginator("list_tags").paginate(ResourceArn=arn)
                return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        except MissingError:
            return {}

    def all(self, kind: Kind, named: str) -> Iterator[tuple[str, str]]:
        """Yield the name and the ARN of each resource with these letters in its name."""
        with explained(f"List{kind.name}s"):
            pages = self._client.get_paginator(f"list_{kind.call}s").paginate(NameContains=named)
            for page in pages:
                for said in page[f"{kind.name}s"]:
                    yield said[f"{kind.name}Name"], said[f"{kind.name}Arn"]

    def _known(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request without what the installed boto3 is too old for in an endpoint config.

        Such are limits of time, which are ours to hold, too.
        """
        if "ProductionVariants" not in asked:
            return asked
        known = self._client.meta.service_model.shape_for("ProductionVariant").members
        variants = [
            {name: value for name, value in variant.items() if name in known}
            for variant in asked["ProductionVariants"]
        ]
        return {**asked, "ProductionVariants": variants}

    def _call(self, method: str, **asked: Any) -> Mapping[str, Any]:  # noqa: ANN401 -- as boto3
        said: Mapping[str, Any] = getattr(self._client, method)(**asked)
        return said


@contextmanager
def _told_apart() -> Iterator[None]:
    """Raise our errors, and apart those that mean how things stand."""
    try:
        with explained("what was to be done"):
            yield
    except AwsError as error:
        said = error.message.lower()
        for kind, signs in (
            (AlreadyThereError, ("already exist",)),
            (MissingError, _MISSING),
            (BusyError, (_BUSY, "has inference components")),
        ):
            if any(sign in said for sign in signs):
                raise kind(error.operation, error.code, error.message) from error.__cause__
        raise
