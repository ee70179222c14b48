"""A model's protocol as it is spoken through a SageMaker endpoint."""

import re
from collections.abc import Iterator, Mapping, Sequence

import httpx
from attrs import evolve, field, frozen
from attrs.validators import and_, matches_re, max_len, optional

from llmperf_core.target import Careful, Codec, Decoder, Prompt, Reply, Request
from llmperf_core.timeline import Failed
from llmperf_core.wire.decoding import feed_all
from llmperf_sagemaker.event_stream import MessageDecoder
from llmperf_sagemaker.refusals import refusal_of, stream_failure_of

# Source: botocore's model of the service (`EndpointName`, `VariantName`, `InferenceComponentName`).
_NAME = and_(matches_re(re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")), max_len(63))


@frozen(kw_only=True)
class Route:
    """Which endpoint is asked, and what of it.

    Raises:
        ValueError: SageMaker has no such names.
    """

    endpoint: str = field(validator=_NAME)
    component: str | None = field(default=None, validator=optional(_NAME))
    """The inference component; None where the endpoint has none."""
    variant: str | None = field(default=None, validator=optional(_NAME))
    """The production variant; None leaves it to SageMaker."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What names the component and the variant in a request."""
        named = {
            "x-amzn-sagemaker-inference-component": self.component,
            "x-amzn-sagemaker-target-variant": self.variant,
        }
        return {header: name for header, name in named.items() if name is not None}


@frozen(kw_only=True)
class Invocation:
    """The codec: requests of the model's own protocol, and its answers in AWS's event stream.

    Source: botocore's model `sagemaker-runtime`, operations InvokeEndpoint and
    InvokeEndpointWithResponseStream.
    """

    route: Route
    inner: Codec
    """What the model in the container speaks at `/invocations`."""

    @property
    def name(self) -> str:
        """The inner protocol's."""
        return self.inner.name

    @property
    def stream(self) -> bool:
        """Whether answers come token by token."""
        return self.inner.stream

    def request(self, prompt: Prompt) -> Request:
        """Return the request. The signature is for its bytes."""
        asked = self.inner.request(prompt)
        operation = "invocations-response-stream" if self.stream else "invocations"
        # With a stream, `Accept` would be the event stream's own type.
        accept = "x-amzn-sagemaker-accept" if self.stream else "accept"
        return evolve(
            asked,
            path=f"/endpoints/{self.route.endpoint}/{operation}",
            headers={**asked.headers, accept: "application/json", **self.route.headers},
        )

    def caveats(self, prompt: Prompt) -> Sequence[str]:
        """Return what the model's server will ignore or change of the request.

        Raises:
            UsageError: it would refuse it.
        """
        return self.inner.caveats(prompt) if isinstance(self.inner, Careful) else ()

    def decoder(self, headers: Mapping[str, str]) -> Decoder:
        """Return a decoder for one response."""
        inner = self.inner.decoder(headers)
        return PartsDecoder(inner) if self.stream else inner

    def refusal(self, response: httpx.Response, body: bytes) -> Failed | None:
        """Return how SageMaker refused the request."""
        return refusal_of(response, body)


class PartsDecoder:
    """Decodes the parts of a streamed answer, each a piece of what the model's server wrote.

    A piece belongs to the instant at which the last byte of its message arrived. Tokens that came
    in one part share it: SageMaker delivered them together.
    """

    __slots__ = ("_broken_off", "_inner", "_messages")

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner
        self._messages = MessageDecoder()
        self._broken_off: Failed | None = None

    @property
    def reply(self) -> Reply:
        """What the inner decoder has understood, and why the stream broke off."""
        return self._inner.reply

    def feed(self, data: bytes, at_ns: int) -> None:
        """Take the next bytes of the body, which arrived at `at_ns`.

        Raises:
            DecodeError: the bytes break either protocol; the parts before are taken.
        """
        self.feed_all([data], [at_ns])

    def feed_all(self, pieces: Sequence[bytes], at_ns: Sequence[int]) -> None:
        """Take many pieces, each with its instant: as `feed` one after the other, but quicker.

        Raises:
            DecodeError: the bytes break either protocol; the parts before are taken.
        """
        parts: list[bytes] = []
        part_at_ns: list[int] = []
        try:
            for piece, arrived_at_ns in zip(pieces, at_ns, strict=True):
                for part in self._parts_in(piece):
                    parts.append(part)
                    part_at_ns.append(arrived_at_ns)
        finally:
            feed_all(self._inner, parts, part_at_ns)
        if self._broken_off is not None:
            reply, failed = self.reply, self._broken_off
            reply.error_name, reply.error, reply.ended = failed.error, failed.detail, True

    def finish(self) -> None:
        """Say that the body has ended. One that stops within a message is truncated.

        Raises:
            DecodeError: what came cannot be a whole answer.
        """
        if self._broken_off is None:
            self._inner.finish()
            # The service closes an answer that it gives up as properly as a whole one.
            self.reply.ended = self.reply.ended and not self._messages.unfinished

    def _parts_in(self, piece: bytes) -> Iterator[bytes]:
        """Yield the payloads that a piece completes. What follows an error is left out."""
        if self._broken_off is not None:
            return
        for headers, payload in self._messages.feed(piece):
            if headers.get(":message-type") != "event":
                self._broken_off = stream_failure_of(headers, payload)
                return
            if headers.get(":event-type") == "PayloadPart":
                yield payload
