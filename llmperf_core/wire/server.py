"""The backend for `http://` and `https://`: a server that already runs."""

import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx
from attrs import Factory, field, frozen
from attrs.validators import gt

from llmperf_core.bringup import BringUp, Finding
from llmperf_core.errors import TargetError, TargetUrlError, UsageError
from llmperf_core.target import Backend, Codec, Endpoint, Options
from llmperf_core.wire.address import SCHEMES, Address, without_credentials
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.probe import Probe, Said, is_tgi, model_of
from llmperf_core.wire.tgi import Tgi
from llmperf_core.wire.transport import tls_context

_PROTOCOLS = ("tgi", "openai-chat", "openai-completions")

# Source: RFC 9110, 5.6.2 (token).
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


@frozen
class HttpTarget:
    """A server that already runs. Opening it asks what it is; nothing is started or ended.

    Args:
        url: its address, with a trailing `/v1` or a route such as `/v1/chat/completions` if you
            like. A route of one protocol chooses that; `/v1` chooses OpenAI's. A user and a
            password in it are sent as basic authentication, and never shown.
        options: what to say of it beside. A key is sent only if `api_key_env` names where it is,
            so that none goes to a host that it was not meant for.
        timeout_s: how long it may take to accept a connection, and then to answer, when opened.

    Raises:
        TargetUrlError: the URL is not one of a server, or the options do not fit it.
        ValueError: `timeout_s` is not positive.
    """

    url: str = field(repr=lambda url: repr(without_credentials(url)))
    options: Options = Factory(Options)
    timeout_s: float = field(default=10.0, validator=gt(0), kw_only=True)

    def __attrs_post_init__(self) -> None:
        address, protocol = self._address, self.options.protocol
        if protocol is not None and protocol not in _PROTOCOLS:
            known = ", ".join(_PROTOCOLS)
            raise TargetUrlError(
                address.shown, f"protocol {protocol!r} is not known; there are {known}"
            )
        if address.auth is not None and self.options.api_key_env is not None:
            raise TargetUrlError(
                address.shown, "it holds a user, and a key is named, too; only one can be sent"
            )

    @property
    def name(self) -> str:
        """The URL, without user and password."""
        return self._address.shown

    @property
    def bring_up(self) -> BringUp:
        """It is up already. It is asked two questions at most, each for twice the timeout."""
        return BringUp(expected_s=0.0, limit_s=4 * self.timeout_s)

    async def check(self) -> Sequence[Finding]:
        """Return why it could not be measured now, if so. It is asked what it is."""
        try:
            async with self.open():
                return []
        except (TargetError, UsageError) as error:
            return [Finding(detail=str(error), refused=True)]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Connect, and ask the server what it is.

        Raises:
            UnreachableError: nothing answers.
            RefusedByServerError: it wants a key, has too much to do, or fails.
            ProtocolError: it speaks none of the protocols, or not even HTTP.
            UsageError: the key's variable is not set, a header cannot be sent, or the file of
                authorities cannot be read.
        """
        address, options, headers = self._address, self.options, self._headers()
        async with httpx.AsyncClient(
            auth=address.auth,
            headers=headers,
            timeout=self.timeout_s,
            trust_env=False,
            verify=self._tls_context(),
        ) as client:
            probe = Probe(client, address, self.timeout_s, options.api_key_env)
            protocol = options.protocol or address.protocol
            if protocol is None:
                protocol, said = await probe.find()
            else:
                said = await probe.greet(protocol)
        model = options.model or model_of(said)
        yield Endpoint(
            base_url=address.base_url,
            codec=_codec(protocol, model, options, said),
            headers=headers,
            auth=address.auth,
            verify=options.verify,
            model=model,
            server=said,
        )

    @property
    def _address(self) -> Address:
        return Address.parse(self.url)

    def _headers(self) -> dict[str, str]:
        headers = {name.lower(): value.strip() for name, value in self.options.headers.items()}
        variable = self.options.api_key_env
        if variable is not None:
            key = os.environ.get(variable, "").strip()
            if not key:
                raise UsageError(f"the environment variable {variable!r} holds no key; set it")
            headers["authorization"] = f"Bearer {key}"
        for name, value in headers.items():
            # Checked here, as whoever else finds out would quote the value, and with it a key.
            if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
                raise UsageError(f"the header {name!r} holds what HTTP cannot carry; use ASCII")
        return headers

    def _tls_context(self) -> ssl.SSLContext:
        verify = self.options.verify
        try:
            return tls_context(verify=verify)
        except OSError as error:  # which an SSLError is, too
            raise UsageError(f"the authorities in {verify!r} cannot be read: {error}") from error


@frozen
class HttpBackend:
    """Servers that already run, by their addresses."""

    @property
    def schemes(self) -> Mapping[str, str]:
        """`http` and `https`."""
        return dict.fromkeys(SCHEMES, "a server that already runs: TGI, or OpenAI's protocol")

    def target(self, url: str, options: Options) -> HttpTarget:
        """Return the server at the URL. Nothing is reached.

        Raises:
            TargetUrlError: the URL is not one of a server, or the options do not fit it.
        """
        return HttpTarget(url, options)


backend: Backend = HttpBackend()
"""What the entry point names."""


def _codec(protocol: str, model: str | None, options: Options, said: Said) -> Codec:
    if protocol == "tgi":
        return Tgi(stream=options.stream, body=options.body)
    kind = OpenAIChat if protocol == "openai-chat" else OpenAICompletions
    return kind(model=model, stream=options.stream, body=options.body, tgi=is_tgi(said))
