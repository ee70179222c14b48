"""Pulling an image, and how far it is."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import anyio
from attrs import define, field

from llmperf_local.container.daemon import connect, explained, told

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

_POLL_S = 0.2
_HERE = {"Already exists", "Pull complete"}


@define
class PullProgress:
    """How far a pull is, from the lines that the engine streams."""

    layers: dict[str, bool] = field(factory=dict)
    """By layer, whether it is here and unpacked."""
    loaded: dict[str, tuple[int, int]] = field(factory=dict)
    """By layer, bytes that have come and bytes there are."""

    def take(self, line: Mapping[str, object]) -> None:
        """Take one line.

        Raises:
            DockerError: it says that the pull failed.
        """
        if "error" in line:
            raise told(str(line["error"]))
        layer, status = str(line.get("id", "")), str(line.get("status", ""))
        detail = line.get("progressDetail")
        if status == "Pulling fs layer":
            self.layers.setdefault(layer, False)
        elif status in _HERE:
            self.layers[layer] = True
        elif status == "Download complete" and layer in self.loaded:
            total = self.loaded[layer][1]
            self.loaded[layer] = (total, total)
        elif status == "Downloading" and isinstance(detail, Mapping) and "total" in detail:
            self.loaded[layer] = (int(detail["current"]), int(detail["total"]))

    def __str__(self) -> str:
        """Say it in a few words."""
        if not self.layers:
            return "asking the registry"
        words = f"{sum(self.layers.values())} of {len(self.layers)} layers"
        if self.loaded:
            from rich.filesize import decimal

            current, total = (sum(numbers) for numbers in zip(*self.loaded.values(), strict=True))
            words += f", {decimal(current)} of {decimal(total)}"
        return words


async def pull(url: str, image: str, report: Callable[[str], None]) -> None:
    """Fetch an image. When this is cancelled, the engine stops fetching.

    Raises:
        DockerError: it cannot be had; the message says why.
    """
    pulling = _Pulling(url, image)
    # A thread that nobody waits for: a registry that does not answer must not hold up a Ctrl-C.
    threading.Thread(target=pulling.run, name="llmperf-pull", daemon=True).start()
    try:
        while not pulling.ended:
            report(str(pulling.progress))
            await anyio.sleep(_POLL_S)
    finally:
        pulling.unwanted = True
    if pulling.error is not None:
        raise pulling.error


@define
class _Pulling:
    url: str
    image: str
    progress: PullProgress = field(factory=PullProgress)
    error: BaseException | None = None
    unwanted: bool = False
    ended: bool = False

    def run(self) -> None:
        try:
            self._pull(connect(self.url))
        except BaseException as error:  # noqa: BLE001 -- raised again where it is waited for
            self.error = error
        finally:
            self.ended = True

    def _pull(self, client: "APIClient") -> None:
        responses: list[Response] = []
        client.hooks["response"].append(lambda response, **_: responses.append(response))
        try:
            with explained():
                for line in client.pull(self.image, stream=True, decode=True):
                    self.progress.take(line)
                    if self.unwanted:
                        return
        finally:
            # The engine stops fetching when the connection is closed.
            for response in responses:
                response.close()
            client.close()
