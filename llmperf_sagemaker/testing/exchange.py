"""One request to a model server, whose answer is passed on as it is read."""

import asyncio
from collections.abc import Mapping
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools
from attrs import define, field


class Taker(Protocol):
    """Who takes the answer."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head; the headers' names are in lower case."""
        ...

    def take(self, data: bytes) -> None:
        """Take what one read has brought of the body."""
        ...

    def end(self, *, whole: bool) -> None:
        """Take note that nothing more comes; without `whole`, although it should."""
        ...


@define(eq=False)
class Exchange(asyncio.Protocol):
    """The connection of one request: a protocol of asyncio's, as a task per read costs too much."""

    _request: bytes
    _taker: Taker
    _parser: httptools.HttpResponseParser = field(init=False)
    _transport: asyncio.Transport | None = field(default=None, init=False)
    _headers: dict[str, str] = field(factory=dict, init=False)
    _read: list[bytes] = field(factory=list, init=False)
    _until_close: bool = field(default=False, init=False)
    """Only the end of the connection ends the body."""
    _complete: bool = field(default=False, init=False)
    _over: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    async def run(self, host: str, port: int) -> None:
        """Connect, and send the request; the taker is told what comes of it."""
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        except OSError:
            self._end(whole=False)

    def give_up(self) -> None:
        """Take no more."""
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        # uvloop's are not derived from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if self._over:
            self._transport.abort()  # the client did not wait
        else:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Pass on what was read."""
        if self._over:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(whole=False)
            return
        if self._read:
            body = b"".join(self._read)
            self._read.clear()
            self._taker.take(body)
        if self._complete:
            self._end(whole=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, if that did not happen before."""
        self._end(whole=self._until_close and exc is None)

    # What httptools calls:

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Pass on the head."""
        self._until_close = not {"content-length", "transfer-encoding"} & self._headers.keys()
        self._taker.begin(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._read.append(body)

    def on_message_complete(self) -> None:
        """Take note that the answer is whole."""
        self._complete = True

    def _end(self, *, whole: bool) -> None:
        if not self._over:
            self.give_up()
            self._taker.end(whole=whole)


def address(url: str) -> tuple[str, int, str]:
    """Return host, port and path of a model server's base URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80, parts.path
