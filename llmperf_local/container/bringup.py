"""From a container that is wanted to a server that is ready, with a word on where it is."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import httpx
from attrs import define, field, frozen

from llmperf_core.errors import StartError
from llmperf_core.signs import failure_in, phase_of, plain
from llmperf_local.container.daemon import DockerError, published
from llmperf_local.container.engines import PULLING, STARTING, Engine
from llmperf_local.container.holding import Held
from llmperf_local.container.pulling import pull
from llmperf_local.container.wanted import Wanted

Report = Callable[[str], None]

_POLL_S = 0.2
_READY_TIMEOUT_S = 5.0
_KEPT_LINES = 400
_LAST_LINES = 6
_SHOWN = 72
_KILLED = 128 + 9


@frozen(kw_only=True)
class Watch:
    """How a bring-up is watched, and by whom."""

    name: str
    """What errors call it."""
    engine: Engine
    host: str
    """Where its port is reached."""
    startup_s: float
    report: Report
    secret: str | None = field(default=None, repr=False)
    """What must not be shown, though a server may print it."""


async def image_of(held: Held, name: str, report: Report) -> Mapping[str, Any]:
    """Return what the engine knows of an image; fetch that if it is not there.

    Raises:
        DockerError: it cannot be had.
    """
    image = await anyio.to_thread.run_sync(held.image, name)
    if image is None:
        await pull(held.lease.engine, name, lambda words: report(f"{PULLING}: {words}"))
        image = await anyio.to_thread.run_sync(held.image, name)
    return image or {}


async def serving(held: Held, wanted: Wanted, files: Mapping[str, bytes], watch: Watch) -> str:
    """Start the container, and return the server's URL once it is ready.

    Raises:
        StartError: it ended, or was not ready in time.
        DockerError: the engine refuses.
    """
    watch.report(STARTING)
    await anyio.to_thread.run_sync(held.make, wanted, files)
    bringup = _BringUp(held, watch)
    try:
        with anyio.fail_after(watch.startup_s):
            return await bringup.until_ready()
    except TimeoutError:
        reason = f"it was not ready after {watch.startup_s:g} s, but still {bringup.phase}"
        advice = "; startup_s allows it more"
        raise StartError(watch.name, f"{reason}{bringup.last_words()}{advice}") from None


@define
class _BringUp:
    """One container that comes up."""

    held: Held
    watch: Watch
    phase: str = STARTING
    lines: list[str] = field(factory=list)
    """The last lines of the log."""
    _last_time: str = ""

    async def until_ready(self) -> str:
        async with httpx.AsyncClient(trust_env=False, timeout=_READY_TIMEOUT_S) as client:
            while True:
                # First its state and then its log: so the last lines of one that ended are there.
                container = await anyio.to_thread.run_sync(self.held.inspect)
                await self._hear()
                if not container["State"]["Running"]:
                    why = why_ended(container["State"], self.lines, self.watch.engine)
                    raise StartError(self.watch.name, f"{why[0]}{self.last_words()}{why[1]}")
                url = self._url(container)
                with suppress(httpx.TransportError):
                    answer = await client.get(url + self.watch.engine.readiness)
                    if answer.status_code == httpx.codes.OK:
                        return url
                await anyio.sleep(_POLL_S)

    def _url(self, container: Mapping[str, Any]) -> str:
        port = published(container).get(self.watch.engine.port)
        if port is None:  # as a Docker engine without a bridge does, silently
            raise DockerError("the Docker engine maps no port", "give it a network that can")
        return f"http://{self.watch.host}:{port}"

    async def _hear(self) -> None:
        """Take the log's new lines."""
        since_s = 1.0
        if self._last_time:
            since_s = datetime.fromisoformat(self._last_time).timestamp()
        for line in await anyio.to_thread.run_sync(partial(self.held.log, since_s)):
            # Times have the same length, so the later one is the greater text.
            time, _, said = line.partition(" ")
            if time <= self._last_time:
                continue
            self._last_time = time
            words = plain(said.rstrip().rpartition("\r")[2])
            if words:
                self.lines.append(self._without_secret(words))
                self.phase = phase_of(words, self.watch.engine.phases) or self.phase
        del self.lines[:-_KEPT_LINES]
        latest = f" · {self.lines[-1][:_SHOWN]}" if self.lines else ""
        self.watch.report(f"{self.phase}{latest}")

    def last_words(self) -> str:
        """Return the log's last lines, ready to be put behind a reason."""
        last = self.lines[-_LAST_LINES:]
        return f"; it wrote: {' | '.join(last)}" if last else "; it wrote nothing"

    def _without_secret(self, line: str) -> str:
        return line.replace(self.watch.secret, "***") if self.watch.secret else line


def why_ended(state: Mapping[str, Any], lines: Sequence[str], engine: Engine) -> tuple[str, str]:
    """Return why a container ended, and what to do, each ready for a sentence.

    Args:
        state: what `inspect` says of it.
        lines: the end of its log.
        engine: whose signs of failure to look for.
    """
    status = state["ExitCode"]
    ended = f"it ended with exit status {status}"
    if state.get("OOMKilled"):
        cause = f"it was killed as it ran out of memory (exit status {status})"
        return cause, "; give it more memory, or a smaller model"
    failure = failure_in(lines, engine.failures)
    if failure is not None:
        return f"{failure.cause} ({ended})", f"; {failure.advice}"
    if status == _KILLED:
        return f"it was killed (exit status {status}), perhaps for want of memory", ""
    return ended, ""
