"""A server in a container, as a target."""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from attrs import Attribute, evolve, field, fields, frozen
from attrs.validators import and_, gt, instance_of, le, matches_re, optional

from llmperf_core.errors import StartError
from llmperf_core.serving import ServerSpec
from llmperf_core.target import Endpoint, Options
from llmperf_core.wire.server import HttpTarget
from llmperf_local.container import bringup
from llmperf_local.container.daemon import DockerError, addresses, engine_url
from llmperf_local.container.engines import TGI, Engine
from llmperf_local.container.holding import Held, held
from llmperf_local.container.meter import ContainerMeter
from llmperf_local.container.running import RunningContainer
from llmperf_local.container.wanted import (
    TOKEN_FILE,
    Place,
    bytes_of,
    gpu_requests,
    shards_for,
    wanted,
)

WEIGHTS = "llmperf-weights"
"""The named volume that keeps downloaded weights if no cache is named."""
_MODELS = "/llmperf/models"
_DAY_S = 86_400.0
_NO_CACHE = "none"


def _say_nothing(_: str) -> None:
    pass


def _spec(server: ServerSpec | str) -> ServerSpec:
    return ServerSpec(server) if isinstance(server, str) else server


def _is_size(_: object, __: "Attribute[str | None]", value: str | None) -> None:
    if value is not None:
        bytes_of(value)


def _is_choice(_: object, __: "Attribute[str | None]", value: str | None) -> None:
    if value is not None:
        gpu_requests(value)


@frozen
class Container:
    """A server in a container of its own, by the Docker engine that `DOCKER_HOST` names.

    Opening it fetches the image if that is not there, starts the server and waits until it serves;
    the container is removed on every way out. What a killed process leaves, `llmperf reap` removes.
    A token for the hub goes into the server's environment and nowhere else.

    Args:
        server: a model's id or path, or what a server shall serve and within which limits.
        engine: TGI by default.
        image: in place of the engine's own.
        gpus: `all`, `none`, or numbers or names with commas between; None leaves it to the engine.
        shm_size: memory shared between processes, such as `1g`; None leaves it to the engine.
        memory: the most that the container may take, such as `16g`.
        cache: a folder or a named volume that keeps downloaded weights, or `none`.
        token_env: the environment variable that may hold a token for the hub.
        port: on this machine; None takes a free one.
        lifetime_s: after that `llmperf reap` removes the container even if we live.
        options: what else may be said of a target.
        report: is told how the bring-up stands.

    Raises:
        ValueError: a field is out of its range, or the engine cannot do what is asked for.
    """

    server: ServerSpec = field(converter=_spec, validator=instance_of(ServerSpec))
    engine: Engine = field(default=TGI, validator=instance_of(Engine), kw_only=True)
    image: str | None = field(default=None, validator=optional(matches_re(r"\S+")), kw_only=True)
    gpus: str | None = field(default=None, validator=_is_choice, kw_only=True)
    shm_size: str | None = field(default=None, validator=_is_size, kw_only=True)
    memory: str | None = field(default=None, validator=_is_size, kw_only=True)
    cache: str = field(default=WEIGHTS, validator=matches_re(r"[^:\n]+"), kw_only=True)
    token_env: str = field(default="HF_TOKEN", validator=matches_re(r"\w+"), kw_only=True)
    port: int | None = field(
        default=None, validator=optional(and_(instance_of(int), gt(0), le(65535))), kw_only=True
    )
    lifetime_s: float = field(default=_DAY_S, validator=gt(0), kw_only=True)
    options: Options = field(factory=Options, validator=instance_of(Options), kw_only=True)
    report: Callable[[str], None] = field(default=_say_nothing, repr=False, eq=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._arguments()  # what the engine cannot do is known before anything is fetched

    @classmethod
    def attach(cls, container: str | int, *, options: Options | None = None) -> RunningContainer:
        """Return a container that already runs; it is measured and left as it is.

        Args:
            container: its name or id, or the port at which this machine reaches it.
            options: what else may be said of a target.
        """
        return RunningContainer(container, options=options or Options())

    @property
    def name(self) -> str:
        """The URL that means this container: `docker:meta-llama/Llama-2-7b-hf?quantize=gptq`."""
        asked = {
            "engine": self.engine.name if self.engine is not TGI else None,
            **_different(self.server),
            **{key: getattr(self, key) for key in ("image", "gpus", "memory")},
        }
        words = [(key, value) for key, value in asked.items() if value is not None]
        words += [("arg", word) for word in self.server.arguments]
        return f"docker:{quote(self.server.model, safe='/:@')}" + (
            f"?{urlencode(words)}" if words else ""
        )

    def reporting(self, report: Callable[[str], None]) -> "Container":
        """Return the same container, whose bring-up is reported to that."""
        return evolve(self, report=report)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Bring the server up, and remove its container on every way out.

        Raises:
            StartError: it did not come up; the message says why and what to do.
            UnreachableError: no Docker engine answers.
            MissingExtraError: the extra `local` is not installed.
        """
        url = engine_url()
        async with held(url, self.lifetime_s) as it:
            try:
                image = await bringup.image_of(it, self._image, self.report)
                address = await self._started(it, image)
            except DockerError as error:
                raise StartError(self.name, str(error)) from error
            async with self._reached(address).open() as endpoint:
                yield evolve(
                    endpoint,
                    simulated=self.engine.simulated or endpoint.simulated,
                    meters=(*endpoint.meters, ContainerMeter(url, it.lease.name)),
                    server={
                        **endpoint.server,
                        "engine": self.engine.name,
                        "image": self._image,
                        "image_digest": next(iter(image.get("RepoDigests") or ()), image.get("Id")),
                        "container": it.lease.name,
                        "arguments": list(self._arguments()),
                        "gpus": self._gpus,
                    },
                )

    async def _started(self, it: Held, image: Mapping[str, Any]) -> str:
        publish_at, reach_at = addresses(it.lease.engine)
        token = os.environ.get(self.token_env, "").strip() or None
        place = Place(
            image=self._image,
            gpus=self._gpus,
            shm_size=self.shm_size or self.engine.shm_size,
            memory=self.memory,
            volumes=self._volumes(),
            address=publish_at,
            port=self.port,
        )
        own_entrypoint = (image.get("Config") or {}).get("Entrypoint") or []
        wish = wanted(
            self.engine,
            place,
            self._arguments(),
            labels=it.lease.labels,
            token_for=own_entrypoint if token else None,
        )
        watch = bringup.Watch(
            name=self.name,
            engine=self.engine,
            host=reach_at,
            startup_s=self.options.startup_s or self.engine.startup_s,
            report=self.report,
            secret=token,
        )
        files = {TOKEN_FILE: token.encode()} if token else {}
        return await bringup.serving(it, wish, files, watch)

    def _reached(self, url: str) -> HttpTarget:
        protocol = self.options.protocol or self.engine.protocol
        return HttpTarget(url, evolve(self.options, protocol=protocol))

    @property
    def _image(self) -> str:
        return self.image or self.engine.image

    @property
    def _gpus(self) -> str:
        return self.gpus or self.engine.gpus

    def _arguments(self) -> Sequence[str]:
        shards = self.server.shards
        if shards is None and shards_for(self._gpus) > 1:
            shards = shards_for(self._gpus)
        model = self._model_inside() or self.server.model
        return self.engine.arguments(evolve(self.server, model=model, shards=shards), self._image)

    def _model_inside(self) -> str | None:
        """Return where a model of this machine is in the container; None for one of the hub."""
        here = _path(self.server.model)
        return f"{_MODELS}/{here.name}" if here is not None else None

    def _volumes(self) -> Mapping[str, str]:
        volumes = {}
        here, inside = _path(self.server.model), self._model_inside()
        if here is not None:
            if not here.exists():
                raise StartError(self.name, f"there is no file or folder {str(here)!r}")
            volumes[str(here)] = f"{inside}:ro"
        if self.cache != _NO_CACHE:
            volumes[str(_path(self.cache) or self.cache)] = self.engine.cache
        return volumes


def _path(name: str) -> Path | None:
    """Return the path that a name is; None if it names a model of the hub, or a volume."""
    if name.startswith(("/", "./", "../", "~")) or name.endswith(".gguf"):
        return Path(name).expanduser().absolute()
    return None


def _different(spec: ServerSpec) -> dict[str, object]:
    """Return what is asked of a server beside its model."""
    return {
        attribute.name: getattr(spec, attribute.name)
        for attribute in fields(ServerSpec)
        if attribute.name not in ("model", "arguments")
    }
