"""What is deployed, and the model server that stands for it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import TypeAlias

import anyio
from anyio import to_thread
from attrs import field, frozen

from llmperf_core.target import Endpoint
from llmperf_sagemaker.testing.shapes import Asked

Where: TypeAlias = str | Endpoint
"""The base URL of a model server, plain or in an open target of llmperf."""


@frozen(kw_only=True)
class Deployed:
    """A variant of an endpoint, or an inference component on one, that wants a model server."""

    endpoint: str
    variant: str
    component: str | None
    model: str
    """The name of the SageMaker model; empty if the component brings its container itself."""
    image: str
    environment: Mapping[str, str] = field(repr=False)
    """The container's. Never shown: a token may be in it."""
    container: Asked = field(repr=False)
    """All that the request said of the container."""
    instance_type: str
    instances: int


Serve: TypeAlias = Callable[
    [Deployed], AbstractContextManager[Where] | AbstractAsyncContextManager[Where]
]
"""Brings up the model server of what is deployed: entered as soon as that is created, and left when
it is deleted. Whatever entering it raises is why the deployment fails."""


@asynccontextmanager
async def served(serve: Serve, deployed: Deployed) -> AsyncIterator[str]:
    """Run the model server while the block lasts, and yield its base URL."""
    manager = await to_thread.run_sync(serve, deployed)  # it may load things, and streams go on
    if not isinstance(manager, AbstractAsyncContextManager):
        manager = _in_threads(manager)
    async with manager as where:
        yield (where if isinstance(where, str) else where.base_url).rstrip("/")


@asynccontextmanager
async def _in_threads(manager: AbstractContextManager[Where]) -> AsyncIterator[Where]:
    where = await to_thread.run_sync(manager.__enter__)
    try:
        yield where
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(manager.__exit__, None, None, None)
