"""The runtime: who an invocation is for, and what it is refused for."""

from anyio.abc import TaskGroup
from attrs import define

from llmperf_core.testing.connection import Connection, Received
from llmperf_sagemaker.testing.account import Timing
from llmperf_sagemaker.testing.control_plane import ControlPlane
from llmperf_sagemaker.testing.planted import Streams
from llmperf_sagemaker.testing.refusal import RefusedError


@define(eq=False)
class Invocations:
    """Refuses invocations: there is no model server yet."""

    _plane: ControlPlane
    _timing: Timing
    _streams: Streams
    _tasks: TaskGroup

    def invoke(
        self,
        connection: Connection,  # noqa: ARG002
        request: Received,  # noqa: ARG002
        endpoint: str,
        *,
        stream: bool,  # noqa: ARG002
    ) -> None:
        """Refuse.

        Raises:
            RefusedError: always.
        """
        raise RefusedError("ServiceUnavailable", f"no model server of {endpoint}", status=503)
