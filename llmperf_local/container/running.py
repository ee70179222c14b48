"""A container that already runs, as a target: measured, and left as it is."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from attrs import evolve, field, frozen
from attrs.validators import instance_of, matches_re

from llmperf_core.errors import UnreachableError
from llmperf_core.target import Endpoint, Options
from llmperf_core.wire.server import HttpTarget
from llmperf_local.container.daemon import addresses, connect, engine_url, explained, published
from llmperf_local.container.meter import ContainerMeter


@frozen
class RunningContainer:
    """A container that already runs. Nothing is started, changed or ended.

    Args:
        container: its name or id, with `:PORT` behind it if the server's port inside is not the
            only one that is published; or the port at which this machine reaches it.
        options: what else may be said of a target.

    Raises:
        ValueError: it is no name, id or port.
    """

    container: str = field(converter=str, validator=matches_re(r"[\w.-]+(:\d+)?"))
    options: Options = field(factory=Options, validator=instance_of(Options), kw_only=True)

    @property
    def name(self) -> str:
        """The URL that means this container: `docker:@NAME`."""
        return f"docker:@{self.container}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Find its port, and ask the server what it is.

        Raises:
            UnreachableError: no Docker engine answers, there is no such container, it does not
                run, or it publishes no port.
            TargetError: the server cannot be reached, refuses, or speaks no protocol we know.
        """
        container, port = await anyio.to_thread.run_sync(self._find)
        host = addresses(engine_url())[1]
        async with HttpTarget(f"http://{host}:{port}", self.options).open() as endpoint:
            name = container["Name"].lstrip("/")
            yield evolve(
                endpoint,
                meters=(*endpoint.meters, ContainerMeter(engine_url(), name)),
                server={
                    **endpoint.server,
                    "image": container["Config"]["Image"],
                    "image_digest": container["Image"],
                    "container": name,
                },
            )

    def _find(self) -> tuple[Mapping[str, Any], int]:
        """Return the container, and its port on this machine."""
        from docker.errors import NotFound

        client = connect(engine_url())
        wanted, _, inside = self.container.partition(":")
        try:
            with explained():
                running = client.containers()
                if wanted.isdecimal() and (found := _with_port(running, int(wanted))):
                    return client.inspect_container(found), int(wanted)
                try:
                    container = client.inspect_container(wanted)
                except NotFound:
                    raise UnreachableError(self.name, self._what_there_is(running)) from None
        finally:
            client.close()
        return container, self._port(container, inside)

    def _what_there_is(self, running: Sequence[Mapping[str, Any]]) -> str:
        names = ", ".join(name.lstrip("/") for one in running for name in one["Names"])
        return f"there is no such container, nor one with that port; running: {names or 'none'}"

    def _port(self, container: Mapping[str, Any], inside: str) -> int:
        ports = published(container)
        if not container["State"]["Running"]:
            raise UnreachableError(self.name, f"it is {container['State']['Status']}")
        if inside and int(inside) in ports:
            return ports[int(inside)]
        if not inside and len(ports) == 1:
            return next(iter(ports.values()))
        if not ports:
            raise UnreachableError(self.name, "it publishes no port; name the server's http:// URL")
        choice = " or ".join(f"docker:@{container['Name'].lstrip('/')}:{port}" for port in ports)
        raise UnreachableError(self.name, f"it publishes other or several ports; write {choice}")


def _with_port(running: Sequence[Mapping[str, Any]], port: int) -> str | None:
    """Return the id of the running container that this machine reaches at a port."""
    for container in running:
        if any(published.get("PublicPort") == port for published in container["Ports"]):
            return str(container["Id"])
    return None
