"""An endpoint of SageMaker that somebody has deployed already."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import Attribute, Factory, field, frozen
from attrs.validators import instance_of

from llmperf_core import target
from llmperf_core.target import Options
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.codec import Route
from llmperf_sagemaker.invoking import PROTOCOLS, invoked


def _fit_to_be_signed(_: object, __: "Attribute[Options]", options: Options) -> None:
    if options.protocol not in (None, *PROTOCOLS):
        raise ValueError(f"no protocol {options.protocol!r}: it is {', '.join(PROTOCOLS)}")
    if options.api_key_env is not None:
        raise ValueError("SageMaker takes AWS's credentials and no key: leave api_key_env out")


@frozen
class Endpoint:
    """An endpoint that is in service. Opening it asks what it is, and leaves it as it is.

    Args:
        endpoint: its name.
        region: where it is; None leaves that to AWS's own settings, as with the next.
        profile: which of the user's AWS profiles has the credentials.
        component: the inference component to ask; None where the endpoint has none.
        variant: the production variant to ask; None leaves it to SageMaker.
        options: what else may be said of a target. Without a protocol, the image of the container
            says which it is.

    Raises:
        ValueError: one of them is not what SageMaker would take.
    """

    endpoint: str
    region: str | None = field(default=None, kw_only=True)
    profile: str | None = field(default=None, kw_only=True)
    component: str | None = field(default=None, kw_only=True)
    variant: str | None = field(default=None, kw_only=True)
    options: Options = field(
        default=Factory(Options),
        validator=[instance_of(Options), _fit_to_be_signed],
        kw_only=True,
    )

    def __attrs_post_init__(self) -> None:
        _ = self._route, self._account  # which check themselves

    @property
    def name(self) -> str:
        """The URL that means it: `sagemaker:llama`."""
        return f"sagemaker:{self.endpoint}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[target.Endpoint]:
        """Ask SageMaker what the endpoint is. Nothing is created or deleted.

        Raises:
            NotInServiceError: it is missing, or does not answer.
            ProtocolError: nothing says which protocol it speaks.
            AwsError: AWS refused to describe it.
            UnreachableError: AWS did not answer.
            UsageError: there are no credentials, or no region.
            MissingExtraError: boto3 is not installed.
        """
        yield await invoked(self._account, self._route, self.options)

    @property
    def _route(self) -> Route:
        return Route(endpoint=self.endpoint, component=self.component, variant=self.variant)

    @property
    def _account(self) -> Account:
        return Account(region=self.region, profile=self.profile)
