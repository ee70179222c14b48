"""The fake's one port: HTTP/1.1 in, each request checked and handed to who answers it."""

import asyncio
import json
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol, cast
from urllib.parse import unquote
from xml.sax.saxutils import escape

from attrs import define, field, frozen

from llmperf_core.target import Json
from llmperf_core.testing.connection import Connection, Received
from llmperf_sagemaker.testing.control_plane import ControlPlane
from llmperf_sagemaker.testing.neighbours import caller, prices, quotas
from llmperf_sagemaker.testing.planted import Planted
from llmperf_sagemaker.testing.refusal import RefusedError
from llmperf_sagemaker.testing.response import refuse_invocation, respond
from llmperf_sagemaker.testing.shapes import Asked
from llmperf_sagemaker.testing.signature import Signatures

BODY_LIMIT = 6 * 1024 * 1024
"""Bytes of an invocation's body. Source: the model of `InvokeEndpoint`."""
_BACKLOG = 4096
_ALWAYS = b"x-llmperf-simulated: true\r\n"
_INVOCATION = re.compile(r"/endpoints/([^/]+)/(invocations|invocations-response-stream)")


class Runtime(Protocol):
    """Who answers invocations."""

    def invoke(
        self, connection: Connection, request: Received, endpoint: str, *, stream: bool
    ) -> None:
        """Begin to answer.

        Raises:
            RefusedError: it is refused at once.
        """
        ...


@frozen
class Call:
    """A call of the control plane or of what stands beside it, that passed the signature check."""

    operation: str
    asked: Asked = field(repr=False)
    """Its members. Never shown: a token may be among them."""


@define(eq=False)
class Door:
    """Takes requests, on the running asyncio loop."""

    _plane: ControlPlane
    _runtime: Runtime
    _planted: Planted
    _signatures: Signatures
    calls: list[Call] = field(factory=list, init=False)
    """Those that were made, in order."""
    _listener: socket.socket = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _connections: set[Connection] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)  # noqa: FBT003 -- the socket module's own
        self._loop.add_reader(self._listener, self._accept)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Close all sockets."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            connection.close()

    def handle(self, connection: Connection, request: Received) -> None:
        """Answer a request, or begin to."""
        invocation = _INVOCATION.fullmatch(request.path)
        if invocation and request.method == "POST":
            self._invoke(connection, request, invocation)
        elif target := request.headers.get("x-amz-target"):
            self._call(connection, request, target)
        else:
            self._who(connection, request)

    def want_write(self, connection: Connection) -> None:
        """Flush a connection when its client has read."""
        self._loop.add_writer(connection.sock, self._flush, connection)

    def forget(self, connection: Connection) -> None:
        """Look no more at a connection."""
        self._connections.discard(connection)
        self._loop.remove_reader(connection.sock)
        self._loop.remove_writer(connection.sock)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)  # noqa: FBT003 -- the socket module's own
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(sock, self, limit=BODY_LIMIT, always=_ALWAYS)
                self._connections.add(connection)
                self._loop.add_reader(sock, connection.receive)

    def _flush(self, connection: Connection) -> None:
        connection.flush()
        if not (connection.unsent or connection.closed):
            self._loop.remove_writer(connection.sock)

    def _invoke(self, connection: Connection, request: Received, invocation: re.Match[str]) -> None:
        stream = invocation[2] == "invocations-response-stream"
        try:
            _check_length(request)
            self._signatures.check(request, "sagemaker")
            self._planted.refuse("InvokeEndpointWithResponseStream" if stream else "InvokeEndpoint")
            self._runtime.invoke(connection, request, unquote(invocation[1]), stream=stream)
        except RefusedError as refused:
            refuse_invocation(connection, refused)

    def _call(self, connection: Connection, request: Received, target: str) -> None:
        """Do what AWS's JSON protocol asks for."""
        status, headers = 200, {"content-type": "application/x-amz-json-1.1"}
        try:
            said = self._done(request, target)
        except RefusedError as refused:
            said, status = {"__type": refused.code, "message": refused.message}, refused.status
        respond(connection, status, b"" if said is None else json.dumps(said).encode(), headers)

    def _done(self, request: Received, target: str) -> Json:
        prefix, _, operation = target.partition(".")
        account = self._plane.account
        answers: Mapping[str, tuple[str, Callable[[Asked], Json]]] = {
            "SageMaker": ("sagemaker", partial(self._plane.answer, operation)),
            "ServiceQuotasV20190624": ("servicequotas", partial(quotas, account, operation)),
            "AWSPriceListService": ("pricing", partial(prices, account, operation)),
        }
        if prefix not in answers:
            raise RefusedError("UnknownOperationException", f"the fake does not do {target}")
        service, answer = answers[prefix]
        self._signatures.check(request, service)
        asked = _members(request.body)
        self.calls.append(Call(operation, asked))
        self._planted.refuse(operation)
        return answer(asked)

    def _who(self, connection: Connection, request: Received) -> None:
        """Do what AWS's query protocol asks for, which speaks XML."""
        status = 200
        try:
            self._signatures.check(request, "sts")
            said = caller(self._plane.account, request.body)
        except RefusedError as refused:
            status = refused.status
            said = (
                f"<ErrorResponse><Error><Code>{refused.code}</Code>"
                f"<Message>{escape(refused.message)}</Message></Error></ErrorResponse>"
            )
        respond(connection, status, said.encode(), {"content-type": "text/xml"})


def _check_length(request: Received) -> None:
    # Before the signature: of a body that is too long not all is there.
    if request.too_long:
        message = f"HTTP content length exceeded {BODY_LIMIT} bytes."
        raise RefusedError("413", message, status=413)


def _members(body: bytes) -> Asked:
    try:
        asked = json.loads(body or b"{}")
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise RefusedError("SerializationException", "the body is no JSON object")
    return cast("Asked", asked)
