"""A SageMaker endpoint as the core measures it: its address, its codec, its signature."""

import re

import anyio

from llmperf_core.errors import ProtocolError
from llmperf_core.target import Codec, Endpoint, Options
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
    runtime = account.client("sagemaker-runtime")
    signature = SigV4(Account(region=runtime.meta.region_name, profile=account.profile))
    signature.load()  # whoever has no credentials is told now
    return Endpoint(
        base_url=runtime.meta.endpoint_url.rstrip("/"),
        codec=Invocation(route=route, inner=_inner(route, described, options)),
        headers={name.lower(): value for name, value in options.headers.items()},
        auth=signature,
        verify=_authorities(account, options),
        model=options.model or described.model,
        server=described.server,
        metrics_path=None,
    )


def _inner(route: Route, described: Description, options: Options) -> Codec:
    """Return the codec of what the container speaks.

    Raises:
        ProtocolError: nothing says what that is.
    """
    by_image = _protocol_of(described.image or "")
    protocol = options.protocol or by_image
    if protocol == "tgi":
        # TGI's route for SageMaker streams if the body says so.
        body = {"stream": options.stream, **options.body}
        return Tgi(stream=options.stream, body=body)
    if protocol is None:
        image = redacted(described.image or "unknown")
        raise ProtocolError(f"sagemaker:{route.endpoint}", f"its image is {image}")
    kind = OpenAIChat if protocol == "openai-chat" else OpenAICompletions
    return kind(
        model=options.model or described.model,
        stream=options.stream,
        body=options.body,
        tgi=by_image == "tgi",
    )


def _protocol_of(image: str) -> str | None:
    """Return what the server in an image speaks, by the names that AWS and others give them."""
    if re.search(r"\btgi|text-generation-inference", image):
        return "tgi"
    return "openai-chat" if re.search("|".join(_OPENAI_IMAGES), image) else None


def _authorities(account: Account, options: Options) -> bool | str:
    """Return what certificates are checked against: as asked, else as AWS's own tools do it."""
    from botocore.session import Session

    if options.verify is not True:
        return options.verify
    return Session(profile=account.profile).get_config_variable("ca_bundle") or True
