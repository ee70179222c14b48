"""What a container of ours shall be, in the words of the Docker Engine's API. Pure.

Source: Docker Engine API v1.41, POST /containers/create.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attrs import Factory, frozen

from llmperf_local.container.engines import Engine

Wanted: TypeAlias = Mapping[str, object]
"""The body of the request that makes a container."""

TOKEN_FILE = "/run/llmperf/hub-token"  # noqa: S105 -- where it is, not what it is
# The token goes from the file into the server's environment alone: who may inspect a container
# sees what it was made with. TGI before 1.4 reads the second name.
_WITH_TOKEN = (
    f'HF_TOKEN="$(cat {TOKEN_FILE})"; HUGGING_FACE_HUB_TOKEN="$HF_TOKEN"; '
    'export HF_TOKEN HUGGING_FACE_HUB_TOKEN; exec "$@"'
)
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LOG = {"Type": "json-file", "Config": {"max-size": "64m"}}


@frozen(kw_only=True)
class Place:
    """Where and with what a container runs."""

    image: str
    gpus: str
    """`all`, `none`, or numbers or names with commas between them."""
    shm_size: str
    memory: str | None = None
    """The most memory that it may take; it is killed beyond that."""
    volumes: Mapping[str, str] = Factory(dict)
    """What is mounted where: by folder or named volume the path inside, which `:ro` may follow."""
    address: str = "127.0.0.1"
    port: int | None = None
    """On the host; None takes a free one."""


def bytes_of(size: str) -> int:
    """Return `64m`, `1g` or `2GB` as bytes; the units are powers of 1,024, as Docker's are.

    Raises:
        ValueError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)b?", size.strip().lower())
    if found is None or float(found[1]) == 0:
        raise ValueError(f"{size!r} is no size; write it like 512m or 16g")
    return int(float(found[1]) * _SIZES[found[2]])


def gpu_requests(gpus: str) -> Sequence[Wanted]:
    """Return the request for GPUs.

    Raises:
        ValueError: it names none.
    """
    if gpus == "none":
        return []
    ids = [] if gpus == "all" else gpus.split(",")
    if not all(re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", name) for name in ids):
        raise ValueError(f"{gpus!r} is no choice of GPUs; write all, none, or like 0,1")
    return [{"Driver": "", "Count": 0 if ids else -1, "DeviceIDs": ids, "Capabilities": [["gpu"]]}]


def shards_for(gpus: str) -> int:
    """Return over how many GPUs a model goes if nobody says: those that are named, else one."""
    return 1 if gpus in ("all", "none") else len(gpus.split(","))


def wanted(
    engine: Engine,
    place: Place,
    arguments: Sequence[str],
    *,
    labels: Mapping[str, str],
    token_for: Sequence[str] | None = None,
) -> Wanted:
    """Return what the container shall be.

    Args:
        engine: the server's engine.
        place: where and with what it runs.
        arguments: the words of the server's command line.
        labels: the container's.
        token_for: the image's own entrypoint, if the server is to find the hub's token in its
            environment; None if there is no token.
    """
    inside = f"{engine.port}/tcp"
    entrypoint = list(engine.entrypoint) if engine.entrypoint is not None else None
    command = list(arguments)
    if token_for is not None:
        command = [*(token_for if entrypoint is None else entrypoint), *command]
        entrypoint = ["/bin/sh", "-c", _WITH_TOKEN, "sh"]
    host: dict[str, object] = {
        "PortBindings": {inside: [{"HostIp": place.address, "HostPort": str(place.port or "")}]},
        "Binds": [f"{outside}:{path}" for outside, path in place.volumes.items()],
        "ShmSize": bytes_of(place.shm_size),
        "DeviceRequests": gpu_requests(place.gpus),
        # Whatever the engine's usual driver is: one that can be read back.
        "LogConfig": _LOG,
    }
    if place.memory is not None:
        # As much with swap as without: no swap.
        host["Memory"] = host["MemorySwap"] = bytes_of(place.memory)
    return {
        "Image": place.image,
        "Entrypoint": entrypoint,
        "Cmd": command,
        "Env": [f"{name}={value}" for name, value in engine.environment.items()],
        "Labels": labels,
        "ExposedPorts": {inside: {}},
        "HostConfig": host,
    }
