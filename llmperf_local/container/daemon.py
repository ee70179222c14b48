"""The Docker engine that runs our containers, through Docker's SDK."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmperf_core.errors import MissingExtraError, TargetError, UnreachableError
from llmperf_core.signs import Failure, failure_in

if TYPE_CHECKING:
    from docker import APIClient

_FAILURES = (
    Failure(
        r"could not select device driver|nvidia-container-cli|unknown or invalid runtime name",
        "this Docker engine has no GPU driver",
        "install the NVIDIA Container Toolkit, or ask for gpus=none",
    ),
    Failure(
        r"port is already allocated|address already in use|port is not available",
        "the port is taken on the host",
        "leave the port out to take a free one",
    ),
    Failure(
        r"no space left on device",
        "the disk of the Docker engine is full",
        "free some space: docker system df",
    ),
    Failure(
        r"manifest unknown|manifest for .* not found|not found: manifest|no matching manifest",
        "there is no such image or tag for this machine",
        "check its name",
    ),
    Failure(
        r"pull access denied|unauthorized|authentication required|\bdenied\b",
        "the registry refuses the image: it does not exist, or needs a login",
        "check its name, or run docker login",
    ),
    Failure(
        r"no such host|dial tcp|i/o timeout|TLS handshake|network is unreachable"
        r"|server misbehaving|Client\.Timeout",
        "the image is not here, and its registry cannot be reached",
        "connect to the network, load the image (docker load), or name one that is here",
    ),
    Failure(
        r"invalid reference format|invalid repository name",
        "that is no image",
        "write it like ghcr.io/owner/name:tag",
    ),
    Failure(
        r"executable file not found|exec: .*no such file|stat .*: no such file",
        "the image has no such command",
        "check the image, and the engine's entrypoint",
    ),
)
"""Signs in the errors of a Docker engine."""
_LOCAL_SOCKET = "unix:///var/run/docker.sock"
_NOBODY = "no Docker engine listens there (start one, or name one in DOCKER_HOST)"
_LOOPBACK, _EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 -- for an engine on another host


class DockerError(TargetError):
    """The Docker engine did not do what it was asked."""

    cause: str
    advice: str

    def __init__(self, cause: str, advice: str = "") -> None:
        super().__init__("; ".join(filter(None, (cause, advice))))
        self.cause, self.advice = cause, advice


def engine_url() -> str:
    """Return where the Docker engine listens: `DOCKER_HOST`, or the usual socket."""
    return os.environ.get("DOCKER_HOST") or _LOCAL_SOCKET


def addresses(url: str) -> tuple[str, str]:
    """Return at which address an engine shall publish ports, and at which we reach them.

    A local engine's ports are open to this machine alone.
    """
    parts = urlsplit(url)
    if parts.scheme in ("tcp", "http", "https", "ssh") and parts.hostname:
        return _EVERYWHERE, parts.hostname
    return _LOOPBACK, _LOOPBACK


def connect(url: str) -> "APIClient":
    """Return a client of the engine at the URL, which answers.

    Raises:
        MissingExtraError: Docker's SDK is not installed.
        UnreachableError: no engine answers there.
    """
    try:
        from docker import APIClient
        from docker.errors import DockerException
        from docker.utils import kwargs_from_env
    except ImportError as error:
        raise MissingExtraError("local", "docker") from error
    socket = url.removeprefix("unix://")
    if socket != url and not Path(socket).exists():
        raise UnreachableError(url, _NOBODY)
    try:
        # What the environment says of TLS holds for the engine that it names.
        return APIClient(**{**kwargs_from_env(), "base_url": url})
    except DockerException as error:
        raise UnreachableError(url, _why_unreachable(str(error))) from error


def _why_unreachable(said: str) -> str:
    if "Permission denied" in said:
        return "no permission to use the Docker engine's socket (add yourself to the group docker)"
    if "FileNotFoundError" in said or "Connection refused" in said:
        return _NOBODY
    return f"the Docker engine does not answer ({said})"


@contextmanager
def explained() -> Iterator[None]:
    """Turn what Docker's SDK raises into a `DockerError` that says what it means."""
    from docker.errors import APIError, DockerException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        raise told(error.explanation or str(error)) from error
    except (DockerException, HTTPError, OSError) as error:
        raise DockerError(f"the Docker engine failed: {error}") from error


def told(said: str) -> DockerError:
    """Return what an engine's own words mean."""
    said = " ".join(said.split())
    failure = failure_in([said], _FAILURES)
    if failure is None:
        return DockerError(f"the Docker engine says: {said}")
    return DockerError(f"{failure.cause} ({said})", failure.advice)


def published(container: Mapping[str, Any]) -> Mapping[int, int]:
    """Return the ports on the host by those in the container, from what `inspect` says."""
    ports = container["NetworkSettings"]["Ports"]
    return {
        int(inside.partition("/")[0]): int(bindings[0]["HostPort"])
        for inside, bindings in (ports or {}).items()
        if bindings and inside.endswith("/tcp")
    }
