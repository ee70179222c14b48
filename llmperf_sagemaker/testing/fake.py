"""A fake SageMaker for tests: real HTTP on loopback, real state timing, and a billing meter."""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import define, field
from attrs.validators import gt

from llmperf_sagemaker.testing.account import Account, Timing
from llmperf_sagemaker.testing.clock import Clock
from llmperf_sagemaker.testing.control_plane import ControlPlane
from llmperf_sagemaker.testing.deployment import Deployed, Serve
from llmperf_sagemaker.testing.door import Call, Door
from llmperf_sagemaker.testing.lifecycle import Lifecycle
from llmperf_sagemaker.testing.meter import Meter
from llmperf_sagemaker.testing.planted import Failure, Planted, Streams
from llmperf_sagemaker.testing.resource import Resource
from llmperf_sagemaker.testing.runtime import Invocations
from llmperf_sagemaker.testing.signature import Signatures

T = TypeVar("T")

_OURS = ("SAGEMAKER", "SAGEMAKER_RUNTIME", "SERVICE_QUOTAS", "PRICING", "STS")


@define(kw_only=True)
class FakeSageMaker:
    """A fake SageMaker on a free loopback port, for the length of a `with` block.

    Real boto3 clients and this package's backend work against it, in this process or another, with
    the variables of `environment`. It runs in a thread of its own. Nothing of it is AWS's: every
    answer has the header `x-llmperf-simulated`.

    Args:
        serve: brings up the model server of what is deployed; without it invocations are refused.
        speed: how many seconds pass on its clock in one real second. Its bill counts its own time.
        account: region, keys, prices, quotas.
        timing: how long what takes.
        failures: what goes wrong on the control plane, and calls that are refused.
        streams: what goes wrong within streams, and whether their parts are cut anywhere.

    Raises:
        ValueError: the speed is not positive.
    """

    serve: Serve | None = field(default=None, repr=False)
    speed: float = field(default=60.0, validator=gt(0))
    account: Account = field(factory=Account, repr=False)
    timing: Timing = field(factory=Timing)
    failures: Sequence[Failure] = ()
    streams: Streams = field(factory=Streams)
    url: str = field(default="", init=False)
    _stack: ExitStack = field(factory=ExitStack, init=False, repr=False)
    _portal: BlockingPortal = field(init=False, repr=False)
    _plane: ControlPlane = field(init=False, repr=False)
    _meter: Meter = field(init=False, repr=False)
    _door: Door = field(init=False, repr=False)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(
                start_blocking_portal("asyncio", {"use_uvloop": os.name == "posix"})
            )
            stack.enter_context(self._portal.wrap_async_context_manager(self._running()))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def usd(self) -> float:
        """What its endpoints have cost so far, or until it ended."""
        return self._ask(lambda: self._meter.usd)

    @property
    def usd_per_h(self) -> float:
        """What its endpoints cost now."""
        return self._ask(lambda: self._meter.usd_per_h)

    @property
    def calls(self) -> Sequence[Call]:
        """The calls of the control plane and of quotas and prices, in order, refused ones too."""
        return self._ask(lambda: tuple(self._door.calls))

    def holds(self) -> Mapping[str, Sequence[str]]:
        """Return the names of all that exists, by its kind; a kind without any is not there.

        The kinds are `Model`, `EndpointConfig`, `Endpoint` and `InferenceComponent`.
        """
        return self._ask(self._plane.holds)

    def environment(self, *, elsewhere: str | None = None) -> Mapping[str, str]:
        """Return the variables that make boto3, here or in another process, talk to it.

        Beside them `AWS_PROFILE` must not be set: no profile is found.

        Args:
            elsewhere: where calls of any other service go, such as the URL of a moto server.
                Without it they come here and are refused, so that nothing ever reaches AWS.
        """
        key = self.account.keys[0]
        return {
            **{f"AWS_ENDPOINT_URL_{service}": self.url for service in _OURS},
            "AWS_ENDPOINT_URL": elsewhere or self.url,
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_SESSION_TOKEN": key.token or "",  # also if there is none: one's own is not for it
            "AWS_REGION": self.account.region,
            "AWS_DEFAULT_REGION": self.account.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            # A user's own profiles and endpoints have no say.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
        }

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask in the fake's thread, or here once that has ended."""
        return self._portal.call(question) if self.url else question()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        clock, planted = Clock(self.speed), Planted(self.failures)
        self._meter = Meter(clock, self.account.prices)
        lives = Lifecycle(self.serve, self.timing, clock, planted)

        def bring_up(resource: Resource, deployed: Sequence[Deployed]) -> None:
            tasks.start_soon(lives.live, resource, deployed, lambda: plane.remove(resource))

        self._plane = plane = ControlPlane(self.account, self.timing, clock, self._meter, bring_up)
        async with anyio.create_task_group() as tasks:
            runtime = Invocations(plane, self.timing, self.streams, tasks)
            self._door = Door(plane, runtime, planted, Signatures(self.account))
            self.url = self._door.url
            try:
                yield
            finally:
                self.url = ""
                self._door.close()
                tasks.cancel_scope.cancel()
                clock.stop()
