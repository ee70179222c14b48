"""The scheme `docker:`: what its URLs mean, and what a crash may have left."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import evolve, frozen

from llmperf_core.errors import LLMPerfError, TargetUrlError
from llmperf_core.lease import now
from llmperf_core.serving import ServerSpec
from llmperf_core.target import EVERYTHING_LEFT, Leftover, Options, Reap, Target
from llmperf_local.container import leftovers
from llmperf_local.container.daemon import connect, engine_url, explained
from llmperf_local.container.engines import ENGINES
from llmperf_local.container.holding import remove
from llmperf_local.container.leftovers import LABEL, NOTES, Lease
from llmperf_local.container.running import RunningContainer
from llmperf_local.container.target import Container

Kinds: TypeAlias = Mapping[str, Callable[[str], object]]

_OF_SERVER: Kinds = {
    "revision": str,
    "quantize": str,
    "dtype": str,
    "shards": int,
    "max_input_tokens": int,
    "max_total_tokens": int,
    "max_batch_prefill_tokens": int,
    "max_concurrent_requests": int,
    "memory_fraction": float,
    "speculate": int,
}
_OF_CONTAINER: Kinds = {
    "image": str,
    "gpus": str,
    "shm_size": str,
    "memory": str,
    "cache": str,
    "token_env": str,
    "port": int,
    "lifetime_s": float,
}
_OTHERS: Kinds = {
    "engine": str,
    "arg": str,
    "startup_s": float,
}
_POSSIBLE = "write docker:MODEL?engine=vllm&quantize=gptq&shards=4, or docker:@CONTAINER"


@frozen
class DockerBackend:
    """What the entry point `docker` yields."""

    @property
    def schemes(self) -> Mapping[str, str]:
        """The one scheme."""
        return {
            "docker": "a server in a container: docker:MODEL?engine=tgi, or docker:@CONTAINER "
            "for one that runs"
        }

    def target(self, url: str, options: Options) -> Target:
        """Return the container that the URL names. Nothing is started or reached.

        Raises:
            TargetUrlError: it names none.
        """
        try:
            return _named(url, options)
        except (ValueError, TypeError) as error:
            said = error.args[0] if error.args else error
            raise TargetUrlError(url, f"{said}; {_POSSIBLE}") from error

    def leftovers(self, which: Reap = EVERYTHING_LEFT) -> Sequence[Leftover]:
        """Return the containers of ours that expired, or whose process has ended.

        Raises:
            TargetError: a note says that there may be some at an engine that does not answer.
        """
        noted = list(leftovers.notes())
        here = [] if which.noted_only else [engine_url()]
        found: list[Leftover] = []
        for engine in dict.fromkeys([*here, *(lease.engine for _, lease in noted)]):
            of_engine = [note for note in noted if note[1].engine == engine]
            found += _left_at(engine, of_engine, which)
        return found


def _left_at(engine: str, noted: Sequence[tuple[Path, Lease]], which: Reap) -> Iterator[Leftover]:
    """Yield what is left at one Docker engine, and forget the notes of what is gone."""
    try:
        containers = _ours(engine) if noted or find_spec("docker") else []
    except LLMPerfError:
        # Where nobody was nothing is left, nor where all has expired and the engine is gone.
        if any(lease.expires > now() for _, lease in noted):
            raise
        containers = []
    for container in containers:
        lease = Lease.told(engine, container["Labels"])
        if why := lease.why_expired if which.expired_only else lease.why_over:
            yield Leftover(
                what=f"container {lease.name} ({container['State']}, {container['Image']})",
                why=why,
                remove=partial(_remove, lease),
            )
    here = {container["Labels"][LABEL] for container in containers}
    for path, lease in noted:
        if lease.run not in here and lease.why_over:
            path.unlink(missing_ok=True)


def _ours(engine: str) -> Sequence[Mapping[str, Any]]:
    """Return all containers of ours that an engine has, in whatever state."""
    client = connect(engine)
    try:
        with explained():
            return client.containers(all=True, filters={"label": LABEL})  # type: ignore[no-any-return]
    finally:
        client.close()


def _remove(lease: Lease) -> None:
    client = connect(lease.engine)
    try:
        remove(client, lease.name)
    finally:
        client.close()
    NOTES.forget(lease.run)


def _named(url: str, options: Options) -> Container | RunningContainer:
    parts = urlsplit(url)
    if parts.scheme != "docker" or parts.netloc or parts.fragment or not parts.path:
        raise ValueError("it is not docker:MODEL")
    name = unquote(parts.path)
    if name.startswith("@"):
        if parts.query:
            raise ValueError("a container that runs takes no settings")
        return RunningContainer(name[1:], options=options)
    asked = _asked(parts.query)
    engine = asked.pop("engine", ["tgi"])[0]
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}: it is {', '.join(ENGINES)}")
    arguments = asked.pop("arg", [])
    if startup := _read(asked, {"startup_s": float}):
        options = evolve(options, **startup)
    server = ServerSpec(name, **_read(asked, _OF_SERVER), arguments=tuple(arguments))
    return Container(server, engine=ENGINES[engine], **_read(asked, _OF_CONTAINER), options=options)


def _asked(query: str) -> dict[str, list[str]]:
    asked: dict[str, list[str]] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in {*_OF_SERVER, *_OF_CONTAINER, *_OTHERS}:
            known = ", ".join([*_OTHERS, *_OF_SERVER, *_OF_CONTAINER])
            raise ValueError(f"{key!r} is not one of {known}")
        if key in asked and key != "arg":
            raise ValueError(f"{key} comes twice")
        asked.setdefault(key, []).append(value)
    return asked


def _read(asked: Mapping[str, list[str]], kinds: Kinds) -> dict[str, Any]:
    """Return the settings that are asked for, as what they are.

    Raises:
        ValueError: one is not a number that should be.
    """
    settings: dict[str, object] = {}
    for key, kind in kinds.items():
        if key in asked:
            try:
                settings[key] = kind(asked[key][0])
            except ValueError:
                raise ValueError(f"{key} is not a number: {asked[key][0]!r}") from None
    return settings


backend = DockerBackend()
"""The backend of the scheme `docker:`."""
