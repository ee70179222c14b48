"""What the control plane holds: models, endpoint configs, endpoints, inference components."""

from typing import cast

import anyio
from attrs import Factory, define, field, frozen

from llmperf_core.target import Json
from llmperf_sagemaker.testing.shapes import Asked


@frozen
class Kind:
    """A kind of resource."""

    name: str
    """As operations call it."""
    arn: str
    """As it is in an ARN."""
    words: str
    """As messages call it."""


MODEL = Kind("Model", "model", "model")
CONFIG = Kind("EndpointConfig", "endpoint-config", "endpoint configuration")
ENDPOINT = Kind("Endpoint", "endpoint", "endpoint")
COMPONENT = Kind("InferenceComponent", "inference-component", "inference component")
KINDS = {kind.name: kind for kind in (MODEL, CONFIG, ENDPOINT, COMPONENT)}


@define(eq=False)
class Resource:
    """One of them."""

    kind: Kind
    name: str
    arn: str
    asked: Asked
    """The request that created it."""
    created_at_s: float
    tags: dict[str, str]
    status: str | None = None
    """Of an endpoint and a component."""
    reason: str | None = None
    """Why it is `Failed`."""
    changed_at_s: float = field(default=Factory(lambda self: self.created_at_s, takes_self=True))
    urls: dict[str, str] = Factory(dict)
    """The model server of each variant, while it is in service."""
    doomed: anyio.Event = Factory(anyio.Event)
    """Its deletion was asked for."""

    def become(self, status: str, *, at_s: float, reason: str | None = None) -> None:
        """Change its state."""
        self.status, self.reason, self.changed_at_s = status, reason, at_s

    @property
    def said(self) -> dict[str, Json]:
        """What a description says of it."""
        kind = self.kind.name
        said: dict[str, Json] = {
            **self.asked,
            f"{kind}Arn": self.arn,
            "CreationTime": self.created_at_s,
            "LastModifiedTime": self.changed_at_s,
        }
        if self.status is not None:
            said[f"{kind}Status"] = self.status
        if self.reason is not None:
            said["FailureReason"] = self.reason
        return said


def text(asked: Asked, name: str) -> str:
    """Return a member that the service's model says is a string; empty if there is none."""
    return cast("str", asked.get(name, ""))  # `check` has seen to it


def structures(asked: Asked, name: str) -> list[Asked]:
    """Return a member that is a list of structures; empty if there is none."""
    return cast("list[Asked]", asked.get(name, []))  # likewise


def structure(asked: Asked, name: str) -> Asked:
    """Return a member that is a structure; empty if there is none."""
    return cast("Asked", asked.get(name, {}))  # likewise
