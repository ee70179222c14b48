"""What a container uses of its machine, as the engine counts it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from attrs import frozen

from llmperf_core.target import Read
from llmperf_core.units import s_from_ns
from llmperf_local.container.daemon import connect, explained

if TYPE_CHECKING:
    from docker import APIClient


@frozen
class ContainerMeter:
    """Reads a container's processor time and memory while a stage is measured."""

    engine: str
    """Where the Docker engine listens."""
    container: str

    @property
    def name(self) -> str:
        """`container`."""
        return "container"

    @property
    def what(self) -> str:
        """Its name."""
        return self.container

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Read]:
        """Connect to the engine.

        Raises:
            UnreachableError: it does not answer.
        """
        client = await anyio.to_thread.run_sync(connect, self.engine)
        try:

            async def read() -> Mapping[str, float]:
                return usage_in(await anyio.to_thread.run_sync(self._stats, client))

            yield read
        finally:
            client.close()

    def _stats(self, client: "APIClient") -> Mapping[str, Any]:
        with explained():
            # Without `one_shot` the engine takes two readings, a second apart.
            stats: Mapping[str, Any] = client.stats(self.container, stream=False, one_shot=True)
        return stats


def usage_in(stats: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the processor time since the start and the memory in use; what is not told, not.

    Files that the kernel would give up at once are no memory in use.

    Source: Docker Engine API 1.41, `GET /containers/{id}/stats`; docker/cli, `stats_helpers.go`.
    """
    used: dict[str, float] = {}
    cpu_ns = stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
    if cpu_ns is not None:
        used["cpu_s"] = s_from_ns(cpu_ns)
    memory = stats.get("memory_stats") or {}
    if "usage" in memory:
        detail = memory.get("stats") or {}
        # Its name in the first and in the second version of control groups.
        files = detail.get("total_inactive_file", detail.get("inactive_file", 0))
        used["memory_bytes"] = float(memory["usage"] - min(files, memory["usage"]))
    return used
