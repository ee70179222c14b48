"""The runtime: who an invocation is for, and what it is refused for."""

import random
from collections.abc import Mapping
from typing import cast

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from llmperf_core.testing.connection import Connection, Received
from llmperf_sagemaker.testing.account import Timing
from llmperf_sagemaker.testing.control_plane import ControlPlane
from llmperf_sagemaker.testing.exchange import address
from llmperf_sagemaker.testing.forwarding import Forwarding, Way
from llmperf_sagemaker.testing.parts import Parts
from llmperf_sagemaker.testing.planted import BrokenStream, Streams
from llmperf_sagemaker.testing.refusal import RefusedError
from llmperf_sagemaker.testing.resource import COMPONENT, ENDPOINT, Kind, Resource, text

_COMPONENT = "x-amzn-sagemaker-inference-component"
_VARIANT = "x-amzn-sagemaker-target-variant"
_PASSED_ON = (
    "content-type",
    "x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-inference-id",
    "x-amzn-sagemaker-session-id",
)
"""Of a request's headers the container sees these alone, and what it is to accept."""


@define(eq=False)
class Invocations:
    """Passes invocations on to model servers."""

    _plane: ControlPlane
    _timing: Timing
    _streams: Streams
    _tasks: TaskGroup
    _streamed: int = field(default=0, init=False)
    _balance: random.Random = field(factory=lambda: random.Random(0), init=False)  # noqa: S311 -- no secret

    def invoke(
        self, connection: Connection, request: Received, endpoint: str, *, stream: bool
    ) -> None:
        """Begin to answer.

        Raises:
            RefusedError: it is refused at once.
        """
        found = self._in_service(ENDPOINT, endpoint)
        way, url = self._way(found, request.headers)
        host, port, path = address(url)
        accept = request.headers.get("x-amzn-sagemaker-accept" if stream else "accept", "*/*")
        sent = _request(f"{path}/invocations", f"{host}:{port}", accept, request)
        forwarding = Forwarding(connection, way, self._parts() if stream else None)
        limit_s = None if stream else self._timing.invocation_s

        async def forward() -> None:
            await anyio.sleep(self._timing.overhead_s)
            if not connection.closed:
                await _forward(forwarding, sent, (host, port), limit_s)

        self._tasks.start_soon(forward)

    def _in_service(self, kind: Kind, name: str) -> Resource:
        try:
            found = self._plane.find(kind, name)
        except RefusedError:
            found = None
        if found is None or found.status != "InService":
            words = kind.words.title()
            account = self._plane.account.id
            raise _invalid(f"{words} {name} of account {account} not found.")
        return found

    def _way(self, endpoint: Resource, headers: Mapping[str, str]) -> tuple[Way, str]:
        """Return where an invocation goes, and the URL there."""
        component = headers.get(_COMPONENT)
        takes_components = any("ModelName" not in one for one in self._plane.variants(endpoint))
        if component is None and takes_components:
            raise _invalid(
                "Inference Component Name header is required for endpoints to which you plan to "
                "deploy inference components. Please include Inference Component Name header or "
                "consider using SageMaker models."
            )
        if component is None:
            return self._to(endpoint, self._variant(endpoint, headers.get(_VARIANT)), None)
        if not takes_components:
            raise _invalid(
                "Inference Component Name header is not allowed for endpoints to which you dont "
                "plan to deploy inference components. Please remove the Inference Component Name "
                "header and try again."
            )
        found = self._in_service(COMPONENT, component)
        if text(found.asked, "EndpointName") != endpoint.name:
            raise _invalid(f"Inference Component {component} is not on endpoint {endpoint.name}.")
        return self._to(found, next(iter(found.urls), ""), component, endpoint.name)

    def _to(
        self, served: Resource, variant: str, component: str | None, endpoint: str | None = None
    ) -> tuple[Way, str]:
        if variant not in served.urls:
            raise RefusedError(
                "ServiceUnavailable", "this fake has no model server: give it `serve`", status=503
            )
        way = Way(
            account=self._plane.account,
            endpoint=endpoint or served.name,
            variant=variant,
            component=component,
        )
        return way, served.urls[variant]

    def _variant(self, endpoint: Resource, wanted: str | None) -> str:
        """Return the variant that is asked for, or one by the variants' weights."""
        variants = self._plane.variants(endpoint)
        names = [text(one, "VariantName") for one in variants]
        if wanted is None:
            weights = [cast("float", one.get("InitialVariantWeight", 1.0)) for one in variants]
            return self._balance.choices(names, weights)[0] if any(weights) else names[0]
        if wanted not in names:
            raise _invalid(f"Variant {wanted} of endpoint {endpoint.name} not found.")
        return wanted

    def _parts(self) -> Parts:
        """Return what wraps the next stream."""
        ordinal, self._streamed = self._streamed, self._streamed + 1
        faults, seed = self._streams.faults, self._streams.cut_seed
        if isinstance(faults, BrokenStream):
            faults = [faults]
        fault = faults[ordinal % len(faults)] if faults else None
        cuts = None if seed is None else random.Random(f"{seed}/{ordinal}")  # noqa: S311 -- no secret
        return Parts(fault, cuts)


async def _forward(
    forwarding: Forwarding, request: bytes, where: tuple[str, int], limit_s: float | None
) -> None:
    with anyio.move_on_after(limit_s):
        await forwarding.run(request, *where)
    if not forwarding.over.is_set():
        forwarding.time_out()


def _request(path: str, host: str, accept: str, received: Received) -> bytes:
    """Return what the container is sent."""
    passed = {name: received.headers[name] for name in _PASSED_ON if name in received.headers}
    headers = {
        "host": host,
        "accept": accept,
        **passed,
        "content-length": str(len(received.body)),
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + received.body


def _invalid(message: str) -> RefusedError:
    return RefusedError("ValidationError", message)
