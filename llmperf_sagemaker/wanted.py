"""What is created for a deployment: pure functions to AWS's requests."""

import hashlib
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from llmperf_core.lease import Lease, now
from llmperf_core.target import Json
from llmperf_sagemaker.plane import COMPONENT, CONFIG, ENDPOINT, MODEL, Kind

PREFIX = "llmperf"
"""All names begin so, and all tags but one."""
MANAGED_BY = "managed-by"
"""The tag that everything of ours carries, with the value `llmperf`."""
VARIANT = "AllTraffic"
_LONGEST_NAME = 63
_TAG = f"{PREFIX}:"
_EXPIRES = "expires-at"


@frozen(kw_only=True)
class Hosting:
    """How the endpoint hosts it, in SageMaker's terms.

    What is None is left out, so that SageMaker decides.
    """

    instance_type: str
    startup_s: int
    """`ContainerStartupHealthCheckTimeoutInSeconds`."""
    provision_s: int | None = None
    """`VariantInstanceProvisionTimeoutInSeconds`."""
    download_s: int | None = None
    """`ModelDataDownloadTimeoutInSeconds`."""
    volume_gb: int | None = None
    ami: str | None = None
    component_accelerators: int | None = None
    """An inference component with so many GPUs; None makes the endpoint serve the model itself."""


@frozen(kw_only=True)
class Served:
    """The model as its container gets it."""

    image: str
    environment: Mapping[str, str] = field(repr=False)
    """May hold a token."""
    s3: str | None = None
    """The S3 prefix of its weights."""
    role: str = field(repr=False)
    """The execution role's ARN, which names the account."""


@frozen(kw_only=True)
class Wanted:
    """The requests of one deployment. All its resources have the same name."""

    name: str
    requests: Mapping[Kind, Mapping[str, Json]] = field(repr=False)
    """In the order in which they are made."""


def name_of(lease: Lease, settings: str, label: str | None = None) -> str:
    """Return the name of a deployment: the same for the same run and settings, at most 63 letters.

    Args:
        lease: whose run it is.
        settings: all that makes it different from others of its run.
        label: put in front, for people.
    """
    digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
    tail = f"{lease.run}-{digest}"
    head = "-".join(filter(None, (PREFIX, label)))
    return f"{head[: _LONGEST_NAME - len(tail) - 1].rstrip('-')}-{tail}"


def tags_of(lease: Lease, *, max_usd: float) -> Mapping[str, str]:
    """Return what is written on each resource."""
    words = {name: word for name, word in lease.words.items() if name != "expires"}
    words |= {_EXPIRES: lease.expires, "created-at": now(), "max-usd": f"{max_usd:.2f}"}
    return {MANAGED_BY: PREFIX, **{f"{_TAG}{name}": word for name, word in words.items()}}


def lease_of(tags: Mapping[str, str]) -> Lease | None:
    """Return the lease that tags tell; None if they are not ours."""
    words = {key.removeprefix(_TAG): value for key, value in tags.items() if key.startswith(_TAG)}
    if tags.get(MANAGED_BY) != PREFIX or not words.get("run"):
        return None
    return Lease.of({**words, "expires": words.get(_EXPIRES, "")})


def wanted(name: str, served: Served, hosting: Hosting, tags: Mapping[str, str]) -> Wanted:
    """Return the requests that deploy a model."""
    said: Sequence[Json] = [{"Key": key, "Value": value} for key, value in tags.items()]
    requests: dict[Kind, Mapping[str, Json]] = {
        MODEL: {
            "ModelName": name,
            "ExecutionRoleArn": served.role,
            "PrimaryContainer": _container(served),
            "Tags": said,
        },
        CONFIG: {
            "EndpointConfigName": name,
            "ProductionVariants": [_variant(name, hosting)],
            "Tags": said,
            **({"ExecutionRoleArn": served.role} if hosting.component_accelerators else {}),
        },
        ENDPOINT: {"EndpointName": name, "EndpointConfigName": name, "Tags": said},
    }
    if hosting.component_accelerators:
        requests[COMPONENT] = _component(name, hosting, said)
    return Wanted(name=name, requests=requests)


def _container(served: Served) -> Json:
    source = {"S3Uri": served.s3, "S3DataType": "S3Prefix", "CompressionType": "None"}
    return {
        "Image": served.image,
        "Environment": dict(served.environment),
        **({"ModelDataSource": {"S3DataSource": source}} if served.s3 else {}),
    }


def _variant(name: str, hosting: Hosting) -> Json:
    limits = {
        "ContainerStartupHealthCheckTimeoutInSeconds": hosting.startup_s,
        "ModelDataDownloadTimeoutInSeconds": hosting.download_s,
    }
    own = {} if hosting.component_accelerators else {"ModelName": name, **limits}
    variant = {
        "VariantName": VARIANT,
        "InstanceType": hosting.instance_type,
        "InitialInstanceCount": 1,
        **own,
        "VariantInstanceProvisionTimeoutInSeconds": hosting.provision_s,
        "VolumeSizeInGB": hosting.volume_gb,
        "InferenceAmiVersion": hosting.ami,
    }
    return {key: value for key, value in variant.items() if value is not None}


def _component(name: str, hosting: Hosting, tags: Sequence[Json]) -> Mapping[str, Json]:
    startup = {
        "ContainerStartupHealthCheckTimeoutInSeconds": hosting.startup_s,
        "ModelDataDownloadTimeoutInSeconds": hosting.download_s,
    }
    return {
        "InferenceComponentName": name,
        "EndpointName": name,
        "VariantName": VARIANT,
        "Specification": {
            "ModelName": name,
            "StartupParameters": {k: v for k, v in startup.items() if v is not None},
            "ComputeResourceRequirements": {
                "NumberOfAcceleratorDevicesRequired": hosting.component_accelerators,
                # It has the instance to itself, so this only has to be small enough to fit.
                "MinMemoryRequiredInMb": 1024,
            },
        },
        "RuntimeConfig": {"CopyCount": 1},
        "Tags": tags,
    }
