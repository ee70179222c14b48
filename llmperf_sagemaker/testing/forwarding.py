"""An invocation on its way to the model server, and the answer on its way back."""

from collections.abc import Mapping

import anyio
from attrs import define, field, frozen

from llmperf_core.target import Json
from llmperf_core.testing.connection import LAST_CHUNK, Connection, chunk
from llmperf_core.testing.event_stream import MEDIA_TYPE
from llmperf_sagemaker.testing.account import Account
from llmperf_sagemaker.testing.exchange import Exchange
from llmperf_sagemaker.testing.parts import Parts, stream_error
from llmperf_sagemaker.testing.refusal import RefusedError
from llmperf_sagemaker.testing.response import refuse_invocation, respond, signs_of_service

_CUSTOM = "x-amzn-sagemaker-custom-attributes"
_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the "
    "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)
_NO_ANSWER = (
    "Amazon SageMaker could not get a response from the {endpoint} endpoint. This can occur when "
    "CPU or memory utilization is high."
)


@frozen(kw_only=True)
class Way:
    """Where an invocation goes."""

    account: Account
    endpoint: str
    variant: str
    component: str | None

    @property
    def log_group(self) -> str:
        """Where its container's log would be."""
        if self.component is not None:
            return f"/aws/sagemaker/InferenceComponents/{self.component}"
        return f"/aws/sagemaker/Endpoints/{self.endpoint}"

    def model_error(self, status: int, said: str) -> RefusedError:
        """Return what the caller is told when the container has failed."""
        region, account = self.account.region, self.account.id
        whose = "client" if 400 <= status < 500 else "server"
        return RefusedError(
            "ModelError",
            f'Received {whose} error ({status}) from primary with message "{said}". See '
            f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
            f"#logEventViewer:group={self.log_group} in account {account} for more information.",
            status=424,
            more={
                "OriginalStatusCode": status,
                "OriginalMessage": said,
                "LogStreamArn": f"arn:aws:logs:{region}:{account}:log-group:{self.log_group}",
            },
        )


@define(eq=False)
class Forwarding:
    """Takes the answer to one invocation, and gives it to the client as SageMaker does.

    Args:
        connection: the client's.
        way: where the invocation went.
        parts: wraps a stream; None for an answer that comes whole.
    """

    _connection: Connection
    _way: Way
    _parts: Parts | None
    over: anyio.Event = field(factory=anyio.Event, init=False)
    """The client has its answer, or has gone."""
    _status: int = field(default=0, init=False)
    _headers: Mapping[str, str] = field(factory=dict, init=False)
    _body: bytearray = field(factory=bytearray, init=False)
    _exchange: Exchange | None = field(default=None, init=False)

    async def run(self, request: bytes, host: str, port: int) -> None:
        """Ask the model server, and wait until the answer is over."""
        self._exchange = Exchange(request, self)
        self._connection.on_close = self._leave
        try:
            await self._exchange.run(host, port)
            await self.over.wait()
        finally:
            self._exchange.give_up()

    def time_out(self) -> None:
        """Tell the client that the container took too long."""
        self._refuse(self._way.model_error(0, _TIMED_OUT))

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head; that of a stream goes out at once."""
        self._status, self._headers = status, headers
        if self._streaming is not None:
            said = {**self._said(), "content-type": MEDIA_TYPE.decode()}
            said["x-amzn-sagemaker-content-type"] = self._content_type
            self._connection.begin_stream(said)

    def take(self, data: bytes) -> None:
        """Take what one read has brought; of a stream it goes out at once."""
        parts = self._streaming
        if parts is None:
            self._body += data
            return
        messages, after = parts.wrap(data)
        self._connection.write(chunk(messages) + (LAST_CHUNK if after == "end" else b""))
        if after == "end":
            self._done()
        elif after == "close":
            self._connection.close()

    def end(self, *, whole: bool) -> None:
        """Give the client what it still lacks."""
        if self._streaming is not None:
            self._end_stream(whole=whole)
        elif not whole:
            no_answer = _NO_ANSWER.format(endpoint=self._way.endpoint)
            self._refuse(self._way.model_error(0, no_answer))
        elif 200 <= self._status < 300:
            said = {**self._said(), "content-type": self._content_type}
            respond(self._connection, 200, bytes(self._body), said)
            self.over.set()
        else:
            said_by_model = self._body.decode(errors="replace")
            self._refuse(self._way.model_error(self._status, said_by_model))

    @property
    def _streaming(self) -> Parts | None:
        return self._parts if 200 <= self._status < 300 else None

    @property
    def _content_type(self) -> str:
        return self._headers.get("content-type", "application/octet-stream")

    def _said(self) -> dict[str, Json]:
        """Return what a client sees of the head: of the model's headers hardly any."""
        passed = {_CUSTOM: self._headers[_CUSTOM]} if _CUSTOM in self._headers else {}
        return {
            **signs_of_service(),
            "x-amzn-invoked-production-variant": self._way.variant,
            **passed,
        }

    def _end_stream(self, *, whole: bool) -> None:
        broken = b"" if whole else chunk(stream_error("StreamBroken", "the model's stream broke"))
        self._connection.write(broken + LAST_CHUNK)
        self._done()

    def _refuse(self, refused: RefusedError) -> None:
        refuse_invocation(self._connection, refused)
        self._leave()

    def _done(self) -> None:
        self._connection.end()
        self._leave()

    def _leave(self) -> None:
        if self._exchange is not None:
            self._exchange.give_up()
        self.over.set()
