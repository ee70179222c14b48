"""Asking a server that already runs what it is."""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import anyio
import httpx
import msgspec
from attrs import frozen

from llmperf_core.errors import ProtocolError, RefusedByServerError, TargetError, UnreachableError
from llmperf_core.target import Json
from llmperf_core.wire.address import Address, without_credentials
from llmperf_core.wire.errors import error_text

Said: TypeAlias = Mapping[str, Json]
"""The JSON object in which a server speaks of itself."""

_MOST_BYTES = 1 << 20


@frozen
class _Answer:
    path: str
    status: int
    location: str
    body: bytes

    @property
    def said(self) -> Said | None:
        """The JSON object that came; None if none did."""
        if self.status != 200:
            return None
        try:
            said: Json = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return said if isinstance(said, Mapping) else None


@frozen
class Probe:
    """Asks one server.

    Args:
        client: how to ask: with which headers, authentication and TLS settings.
        address: whom to ask.
        timeout_s: how long the server may be silent; it may take twice that for a whole answer.
        key_from: the environment variable that a key was taken from, for advice about it.
    """

    client: httpx.AsyncClient
    address: Address
    timeout_s: float
    key_from: str | None = None

    async def find(self) -> tuple[str, Said]:
        """Return the protocol that the server speaks, and what it says of itself.

        Raises:
            TargetError: it cannot be reached, refuses, or speaks none that we know.
        """
        # A URL that ends in /v1 means OpenAI's protocol, which TGI speaks beside its own.
        means_openai = self.address.route.startswith("/v1")
        answers = []
        for path in ("/v1/models",) if means_openai else ("/info", "/v1/models"):
            answer = await self._get(path)
            said = answer.said
            if said is not None and path == "/info" and is_tgi(said):
                return "tgi", said
            if said is not None and path == "/v1/models" and _is_openai(said):
                return "openai-chat", said
            answers.append(answer)
        refusals = [answer for answer in answers if _is_refusal(answer.status)]
        if refusals:
            # The lowest status helps most: a redirect or a missing key rather than a failure.
            raise self._refusal(min(refusals, key=lambda answer: answer.status))
        raise ProtocolError(self.address.shown, "; ".join(map(_seen, answers)))

    async def greet(self, protocol: str) -> Said:
        """Return what a server whose protocol is known says of itself; empty if it says nothing.

        Raises:
            TargetError: it cannot be reached, or wants a key.
        """
        answer = await self._get("/info" if protocol == "tgi" else "/v1/models")
        if answer.status == 401:
            raise self._refusal(answer)
        return answer.said or {}

    async def _get(self, path: str) -> _Answer:
        body = b""
        try:
            # httpx limits each silence. These limit a server that sends without end.
            with anyio.fail_after(2 * self.timeout_s):
                async with self.client.stream("GET", self.address.base_url + path) as response:
                    async for piece in response.aiter_bytes():
                        body += piece
                        if len(body) > _MOST_BYTES:
                            break
        except (httpx.HTTPError, TimeoutError, UnicodeError) as error:
            raise self._failure(error) from error
        return _Answer(path, response.status_code, response.headers.get("location", ""), body)

    def _failure(self, error: httpx.HTTPError | TimeoutError | UnicodeError) -> TargetError:
        shown = self.address.shown
        match error:
            case httpx.ConnectTimeout():
                return UnreachableError(shown, f"no connection within {self.timeout_s:g} s")
            case httpx.TimeoutException() | TimeoutError():
                return UnreachableError(
                    shown, f"it takes connections, but gives no answer within {self.timeout_s:g} s"
                )
            case httpx.RemoteProtocolError() if not re.search("disconnected|closed", str(error)):
                return ProtocolError(shown, "its answer is not HTTP; is it https?")
        words = next(filter(None, map(_plain_words, _causes(error))), str(error))
        return UnreachableError(shown, words)

    def _refusal(self, answer: _Answer) -> RefusedByServerError:
        said = error_text(answer.body)
        match answer.status:
            case 401 | 403 if self.key_from is None:
                advice = (
                    "it wants a key: name the environment variable that holds it with --api-key-env"
                )
            case 401 | 403:
                advice = f"it does not accept the key in {self.key_from}"
            case 429:
                advice = "it has too much to do, or limits how often we may ask: try again later"
            case status if status < 400:
                advice = f"it sends us to {without_credentials(answer.location)!r}: name that"
            case _:
                advice = "it fails, or is still starting: wait, or see its log"
        quoted = f" (it says: {said})" if said else ""
        return RefusedByServerError(self.address.shown, answer.status, advice + quoted)


def model_of(said: Said) -> str | None:
    """Return the model that TGI serves, or the first of OpenAI's list; None if none is named."""
    listed = said.get("data")
    first = listed[0] if isinstance(listed, list) and listed else None
    model = first.get("id") if isinstance(first, Mapping) else said.get("model_id")
    return model if isinstance(model, str) else None


def is_tgi(said: Said) -> bool:
    """Return whether it is TGI that speaks so of itself, at `/info` or in OpenAI's list of models.

    Its list has one model that owns itself and was created at 0.

    Source: text-generation-inference, `router/src/server.rs`, `openai_get_model_info`.
    """
    listed = said.get("data")
    first = listed[0] if isinstance(listed, list) and len(listed) == 1 else None
    if isinstance(first, Mapping):
        return first.get("created") == 0 and first.get("owned_by") == first.get("id")
    return not {"max_total_tokens", "router", "model_id"}.isdisjoint(said)


def _is_openai(said: Said) -> bool:
    return said.get("object") == "list" or isinstance(said.get("data"), list)


def _is_refusal(status: int) -> bool:
    return status in (401, 403, 429) or status >= 500 or 300 <= status < 400


def _seen(answer: _Answer) -> str:
    """Say what came in place of what was looked for."""
    text = error_text(answer.body)
    if answer.status != 200:
        what = f"HTTP {answer.status}"
    elif text.startswith("HTML page"):
        what = text
    else:
        what = f"JSON of another shape: {text}" if answer.said is not None else f"no JSON: {text}"
    return f"GET {answer.path} gave {what}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and everything that led to it, also where several attempts failed."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for attempt in error.exceptions:
            yield from _causes(attempt)
    before = error.__cause__ or error.__context__
    if before is not None:
        yield from _causes(before)


def _plain_words(cause: BaseException) -> str | None:
    """Return what went wrong with a connection; None if this cause does not tell."""
    words: str | None = None
    match cause:
        case ssl.SSLCertVerificationError():
            words = (
                f"its TLS certificate is not trusted ({cause.verify_message}); if it is your own, "
                "give the file of its authority as `verify`"
            )
        case ssl.SSLError():
            words = f"TLS fails ({cause.reason}): is it http rather than https?"
        case socket.gaierror() | UnicodeError():  # the latter for a label that no name may have
            words = "its name cannot be resolved"
        case ConnectionRefusedError():
            words = "connection refused"
        case ConnectionResetError() | httpx.RemoteProtocolError():
            words = "it closes the connection without a whole answer"
        case OSError(errno=int()):
            words = cause.strerror
    return words
