"""The life of what is brought up: Creating, in service or failed, Deleting, gone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from attrs import frozen

from llmperf_sagemaker.testing.account import Timing
from llmperf_sagemaker.testing.clock import Clock
from llmperf_sagemaker.testing.deployment import Deployed, Serve, served
from llmperf_sagemaker.testing.planted import Planted
from llmperf_sagemaker.testing.resource import Resource


@frozen
class Lifecycle:
    """Lets what was created live until it is gone."""

    _serve: Serve | None
    _timing: Timing
    _clock: Clock
    _planted: Planted

    async def live(
        self, resource: Resource, deployed: Sequence[Deployed], gone: Callable[[], None]
    ) -> None:
        """Bring it up, keep it until its deletion is asked for, and take it down.

        Args:
            resource: what was just created.
            deployed: what wants a model server.
            gone: is called when nothing is left of it.
        """
        async with AsyncExitStack() as servers:
            urls, reason = await self._up(servers, deployed)
            await self._clock.sleep_until(resource.created_at_s + self._timing.creating_s)
            now_s = self._clock.now_s()
            if reason is None:
                resource.urls.update(urls)
                resource.become("InService", at_s=now_s)
            else:
                resource.become("Failed", at_s=now_s, reason=reason)
            await resource.doomed.wait()
            resource.urls.clear()
        await self._clock.sleep_until(resource.changed_at_s + self._timing.deleting_s)
        gone()

    async def _up(
        self, servers: AsyncExitStack, deployed: Sequence[Deployed]
    ) -> tuple[Mapping[str, str], str | None]:
        """Return the model servers' URLs by variant, and why it is to fail if it is."""
        urls: dict[str, str] = {}
        for one in deployed:
            planted = self._planted.bring_up(one.instance_type, one.model)
            if planted is not None:
                return {}, planted.reason.replace("{variant}", one.variant)
            if self._serve is None or not one.container:
                continue
            try:
                urls[one.variant] = await servers.enter_async_context(served(self._serve, one))
            except Exception as error:  # noqa: BLE001 -- of others, and all that it can mean is this
                return {}, f"{type(error).__name__}: {error}"
        return urls, None
