"""A SageMaker endpoint as the core measures it: its address, its codec, its signature."""

import re

import anyio
from attrs import evolve, frozen

from llmperf_core.errors import ProtocolError
from llmperf_core.target import Endpoint, Options
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.tgi import Tgi
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.codec import Invocation, Route
from llmperf_sagemaker.description import Description, describe
from llmperf_sagemaker.redaction import redacted
from llmperf_sagemaker.signing import SigV4

PROTOCOLS = ("tgi", "openai-chat", "openai-completions")
"""What a model's server may speak at `/invocations`."""

# Parts of the names of images that AWS and others publish.
_OPENAI_IMAGES = ("vllm", "sglang", "lmi", "djl-inference")


async def invoked(account: Account, route: Route, options: Options) -> Endpoint:
    """Return an endpoint that is in service, ready to be measured. It is left as it is.

    The core's wire sends the requests, so that nothing is retried and every stamp is the kernel's.

    Args:
        account: whose endpoint it is.
        route: the endpoint, and what of it is asked.
        options: what else is said of it. Without a protocol, the container's image says which.

    Raises:
        NotInServiceError: it is missing, or does not answer.
        ProtocolError: nothing says which protocol it speaks.
        AwsError: AWS refused to describe it.
        UnreachableError: AWS did not answer.
        UsageError: there are no credentials, or no region.
        MissingExtraError: boto3 is not installed.
    """
    return await anyio.to_thread.run_sync(_invoked, account, route, options)


def _invoked(account: Account, route: Route, options: Options) -> Endpoint:
    control = account.client("sagemaker")
    described = describe(control, route)
    runtime = runtime_of(account)
    signature = SigV4(evolve(account, region=runtime.region))
    signature.load()  # whoever has no credentials is told now
    return Endpoint(
        base_url=runtime.url,
        codec=codec_of(route, described, options),
        headers={name.lower(): value for name, value in options.headers.items()},
        auth=signature,
        verify=authorities(account, options),
        model=options.model or described.model,
        server=described.server,
        simulated=described.simulated,
        metrics_path=None,
    )


@frozen
class Runtime:
    """Where invocations go."""

    url: str
    region: str
    """The region that they are signed for."""


def runtime_of(account: Account) -> Runtime:
    """Return where botocore would send invocations: FIPS, dual stack and overrides are its own.

    Raises:
        UsageError: nothing names a region, or there is no such profile.
        MissingExtraError: boto3 is not installed.
    """
    meta = account.client("sagemaker-runtime").meta
    return Runtime(meta.endpoint_url.rstrip("/"), meta.region_name)


def codec_of(route: Route, described: Description, options: Options) -> Invocation:
    """Return the codec of what the container speaks, through SageMaker.

    Raises:
        ProtocolError: nothing says what that is.
    """
    by_image = _protocol_of(described.image or "")
    protocol = options.protocol or by_image
    if protocol == "tgi":
        # TGI's route for SageMaker streams if the body says so.
        body = {"stream": options.stream, **options.body}
        return Invocation(route=route, inner=Tgi(stream=options.stream, body=body))
    if protocol is None:
        image = redacted(described.image or "unknown")
        raise ProtocolError(f"sagemaker:{route.endpoint}", f"its image is {image}")
    kind = OpenAIChat if protocol == "openai-chat" else OpenAICompletions
    inner = kind(
        model=options.model or described.model,
        stream=options.stream,
        body=options.body,
        tgi=by_image == "tgi",
    )
    return Invocation(route=route, inner=inner)


def _protocol_of(image: str) -> str | None:
    """Return what the server in an image speaks, by the names that AWS and others give them."""
    if re.search(r"\btgi|text-generation-inference", image):
        return "tgi"
    return "openai-chat" if re.search("|".join(_OPENAI_IMAGES), image) else None


def authorities(account: Account, options: Options) -> bool | str:
    """Return what certificates are checked against: as asked, else as AWS's own tools do it."""
    from botocore.session import Session

    if options.verify is not True:
        return options.verify
    return Session(profile=account.profile).get_config_variable("ca_bundle") or True
