"""A server that we start as a process of its own, and never leave running."""

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from subprocess import PIPE
from typing import IO

import anyio
import httpx
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from llmperf_core.errors import StartError

_GRACE_S = 5.0
"""How long a server may take to end by itself. Precedent: `docker stop` waits 10 s."""
_POLL_S = 0.02
_ANNOUNCEMENT_BYTES = 4096
_LAST_WORDS_BYTES = 4096
_LAST_WORDS_LINES = 6


@asynccontextmanager
async def serving(command: Sequence[str], *, what: str, startup_s: float) -> AsyncIterator[str]:
    """Run a server while the block lasts.

    The server announces itself with one line of JSON on stdout, `{"listening": URL}`, answers
    `GET /health` with 200 when it is ready, and ends when its stdin does, so that it does not
    outlive us however we die. What it writes to stderr goes to a file without a name: nobody has
    to read it for the server to go on, and its last lines explain a failure.

    Args:
        command: the program and its arguments. A process list shows them: no secret belongs there.
        what: what to call the server in an error.
        startup_s: how long it may take to be ready.

    Yields:
        The URL at which it listens.

    Raises:
        StartError: it was not ready in time, or ended before.
    """
    with tempfile.TemporaryFile() as words:
        try:
            # A session of its own, or a terminal's Ctrl-C would end the server before us.
            async with await anyio.open_process(
                command, stdin=PIPE, stdout=PIPE, stderr=words, start_new_session=True
            ) as process:
                try:
                    yield await _ready(process, startup_s)
                finally:
                    await _stop(process)
        except _NotReadyError as error:
            raise StartError(what, f"{error}{_last_words(words)}") from None


class _NotReadyError(Exception):
    """Why a server is not ready, and will not be."""


class _Announcement(msgspec.Struct):
    listening: str


async def _ready(process: Process, startup_s: float) -> str:
    """Return the server's URL once it is ready to serve.

    Raises:
        _NotReadyError: it was not ready in time, or ended before.
    """
    try:
        with anyio.fail_after(startup_s):
            url = await _announced(process)
            await _healthy(process, url)
            return url
    except TimeoutError:
        raise _NotReadyError(f"it was not ready after {startup_s:g} s") from None


async def _announced(process: Process) -> str:
    assert process.stdout is not None  # noqa: S101 -- for the type: we asked for a pipe
    stdout = BufferedByteReceiveStream(process.stdout)
    try:
        line = await stdout.receive_until(b"\n", _ANNOUNCEMENT_BYTES)
    except anyio.IncompleteRead:
        raise await _ended(process) from None
    return msgspec.json.decode(line, type=_Announcement).listening


async def _healthy(process: Process, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while process.returncode is None:
            with suppress(httpx.TransportError):
                if (await client.get("/health")).status_code == httpx.codes.OK:
                    return
            await anyio.sleep(_POLL_S)
    raise await _ended(process)


async def _ended(process: Process) -> _NotReadyError:
    status = await process.wait()
    how = f"on {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
    return _NotReadyError(f"it ended {how}")


async def _stop(process: Process) -> None:
    """End it, by force if it takes too long, whatever becomes of us meanwhile."""
    with anyio.CancelScope(shield=True), suppress(ProcessLookupError):
        process.terminate()
        with anyio.move_on_after(_GRACE_S):
            await process.wait()
            return
        process.kill()
        await process.wait()


def _last_words(words: IO[bytes]) -> str:
    """Return the last lines that a server wrote, ready to be put behind a reason.

    The server must have ended: it writes where we read.
    """
    words.seek(max(0, words.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
    lines = [line.strip() for line in words.read().decode(errors="replace").splitlines()]
    last = [line for line in lines if line][-_LAST_WORDS_LINES:]
    return f"; it wrote: {' | '.join(last)}" if last else ""
