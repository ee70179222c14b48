"""One container of ours: made, watched, and removed whatever becomes of us."""

import threading
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path
from tarfile import TarFile, TarInfo
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from attrs import define, field

from llmperf_core.errors import LLMPerfError
from llmperf_local.container import leftovers
from llmperf_local.container.daemon import DockerError, connect, explained
from llmperf_local.container.leftovers import Lease
from llmperf_local.container.wanted import Wanted

if TYPE_CHECKING:
    from docker import APIClient


@define
class Held:
    """At most one container, which is gone once `end` was called.

    Its methods block, so they run in threads; one at a time has the lock. So `end` waits for a
    making that is under way, however the task that waits for that was cancelled.
    """

    lease: Lease
    _client: "APIClient | None" = None
    _note: Path | None = None
    _ended: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    def connect(self) -> None:
        """Reach the Docker engine; the other methods need it.

        Raises:
            TargetError: it does not answer.
        """
        with self._lock:
            if not self._ended:
                self._client = connect(self.lease.engine)

    def make(self, wanted: Wanted, files: Mapping[str, bytes]) -> None:
        """Make the container, put files into it, and start it.

        Raises:
            DockerError: the engine refuses. What it has made by then is `end`'s to remove.
        """
        with self._asking() as client:
            self._note = self._written()
            client.create_container_from_config(dict(wanted), name=self.lease.name)
            if files:
                client.put_archive(self.lease.name, "/", _archive(files))
            client.start(self.lease.name)

    def image(self, name: str) -> Mapping[str, Any] | None:
        """Return what the engine knows of an image; None if it does not have it."""
        from docker.errors import ImageNotFound

        with self._asking() as client:
            try:
                image: Mapping[str, Any] = client.inspect_image(name)
            except ImageNotFound:
                return None
        return image

    def inspect(self) -> Mapping[str, Any]:
        """Return what the engine knows of the container."""
        with self._asking() as client:
            container: Mapping[str, Any] = client.inspect_container(self.lease.name)
        return container

    def log(self, since_s: float) -> list[str]:
        """Return the log's lines from an instant on, each with its time in front."""
        with self._asking() as client:
            log: bytes = client.logs(self.lease.name, timestamps=True, since=since_s)
        return log.decode(errors="replace").splitlines()

    def end(self) -> None:
        """Remove the container, in whatever state it is; never raises."""
        with self._lock:
            self._ended = True
            if self._client is None:
                return
            try:
                if self._note is not None:
                    remove(self._client, self.lease.name)
                    self._note.unlink(missing_ok=True)
            except (LLMPerfError, OSError) as error:
                warnings.warn(
                    f"container {self.lease.name} may be left ({error}); remove it with: "
                    "llmperf reap",
                    RuntimeWarning,
                    stacklevel=1,
                )
            finally:
                self._client.close()

    def _written(self) -> Path:
        try:
            return leftovers.write(self.lease)
        except OSError as error:
            raise DockerError(
                f"no note of the container can be kept ({error})",
                "set XDG_STATE_HOME to a folder that can be written",
            ) from error

    @contextmanager
    def _asking(self) -> Iterator["APIClient"]:
        """Yield the client, to one at a time, and to none after the end."""
        with self._lock, explained():
            if self._ended or self._client is None:
                raise DockerError("the container has been given up")
            yield self._client


@asynccontextmanager
async def held(engine: str, lifetime_s: float) -> AsyncIterator[Held]:
    """Yield what can hold one container, and remove that on every way out.

    Raises:
        TargetError: the Docker engine does not answer.
    """
    it = Held(Lease.at(engine, lifetime_s))
    try:
        await anyio.to_thread.run_sync(it.connect)
        yield it
    finally:
        # Not a task: nothing cancels a thread, and the interpreter waits for it before it exits.
        ending = threading.Thread(target=it.end, name="llmperf-end")
        ending.start()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(ending.join)


def remove(client: "APIClient", container: str) -> None:
    """Kill and remove a container with its anonymous volumes; one that is gone is no error.

    It is not asked to end by itself: it has nothing to save, and TGI would take up to 90 s.

    Raises:
        DockerError: the engine cannot remove it.
    """
    from docker.errors import APIError, NotFound

    with explained():
        try:
            client.remove_container(container, v=True, force=True)
        except NotFound:
            return
        except APIError as error:
            # Somebody else removes it at this moment.
            if error.status_code != 409 or "in progress" not in str(error.explanation):
                raise


def _archive(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of files by their paths; any user inside may read them."""
    buffer = BytesIO()
    with TarFile(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), 0o444
            archive.addfile(entry, BytesIO(content))
    return buffer.getvalue()
