"""A server on the loopback interface that plays what a test tells it to, byte by byte."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream
from attrs import define

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


@define
class Peer:
    """The server's side of one connection."""

    stream: SocketStream | TLSStream

    async def request(self) -> bytes:
        """Return the next request, head and body.

        Raises:
            anyio.EndOfStream: the client has closed the connection.
        """
        received = await self.stream.receive()
        while b"\r\n\r\n" not in received:
            received += await self.stream.receive()
        head, _, body = received.partition(b"\r\n\r\n")
        _, announced, rest = head.lower().partition(b"content-length:")
        length = int(rest.split()[0]) if announced else 0  # a GET has no body
        while len(body) < length:
            body += await self.stream.receive()
        return head + b"\r\n\r\n" + body

    async def send(self, *pieces: bytes) -> None:
        """Send the pieces, each by a write of its own."""
        for piece in pieces:
            await self.stream.send(piece)

    async def reset(self) -> None:
        """Break the connection off: the client gets an RST."""
        sock = self.stream.extra(SocketAttribute.raw_socket)  # noqa: S610 -- not Django
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


Script: TypeAlias = Callable[[Peer], Awaitable[None]]
"""What is done with each connection; it is closed when the script has ended."""


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Play the script for each connection to a free port; yield the server's URL."""

    async def play(stream: SocketStream) -> None:
        # What the client breaks off is for the test to judge by what the client then has.
        try:
            async with stream:
                secured = (
                    stream
                    if tls is None
                    else await TLSStream.wrap(
                        stream, server_side=True, ssl_context=tls, standard_compatible=False
                    )
                )
                await script(Peer(secured))
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, play)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- not Django
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


def plays(*pieces: bytes) -> Script:
    """Return a script that answers one request with these pieces, and then closes."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)

    return script


async def hang(peer: Peer) -> None:
    """Take the request, and never answer."""
    await peer.request()
    await anyio.sleep_forever()


async def babble(peer: Peer) -> None:
    """Send tokens without end."""
    await peer.request()
    await peer.send(HEAD)
    while True:
        await peer.send(chunk(tgi_token()))
        await anyio.sleep(0.02)


def chunk(data: bytes) -> bytes:
    """Return the data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(body: bytes, *, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    """Return a whole response of known length."""
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        kind,
        len(body),
        body,
    )


def tgi_token(text: bytes = b" llama") -> bytes:
    """Return an event of TGI with one token."""
    return (
        b'data:{"token":{"id":7,"text":"%b","logprob":-0.5,"special":false},'
        b'"generated_text":null,"details":null}\n\n' % text
    )


def tgi_last(tokens: int, text: bytes = b" llama") -> bytes:
    """Return the event of TGI that ends an answer of so many tokens, and is the last of them."""
    return (
        b'data:{"token":{"id":7,"text":"%b","logprob":-0.5,"special":false},'
        b'"generated_text":"a llama","details":{"finish_reason":"length","generated_tokens":%d,'
        b'"seed":null}}\n\n' % (text, tokens)
    )


def tgi_stream(tokens: int) -> bytes:
    """Return the body of a whole streamed answer of TGI."""
    return tgi_token() * (tokens - 1) + tgi_last(tokens)


def chat_role() -> bytes:
    """Return the chunk with which a chat answer opens: a role, and no token."""
    return b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'


def chat_token(text: bytes = b" llama") -> bytes:
    """Return a chunk of a chat answer with one token."""
    return b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text


def chat_finish(reason: bytes = b"length") -> bytes:
    """Return the chunk that says why a chat answer ended."""
    return b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"%b"}]}\n\n' % reason
