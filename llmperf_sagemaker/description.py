"""What SageMaker says of an endpoint that is there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from llmperf_core.errors import TargetError
from llmperf_core.target import Json
from llmperf_sagemaker.account import AwsError, explained
from llmperf_sagemaker.codec import Route
from llmperf_sagemaker.redaction import redacted, redacted_environment

# boto3 has no types: its client, and what that returns.
_Client: TypeAlias = Any
_Said: TypeAlias = Mapping[str, Any]
_Ask: TypeAlias = Callable[..., _Said]

# While it is updated, the instances from before answer.
_ANSWERS = ("InService", "Updating", "SystemUpdating", "RollingBack")
_MISSING = ("ValidationException", "ResourceNotFound")
_DENIED = ("AccessDeniedException", "AccessDenied")
# A header of each of the fake's answers.
_SIMULATED = "x-llmperf-simulated"
# Where a container is told which model it serves: TGI and LMI, vLLM, LMI before that.
_MODEL_NAMES = ("HF_MODEL_ID", "SM_VLLM_MODEL", "OPTION_MODEL_ID")


class NotInServiceError(TargetError):
    """An endpoint is not there, or does not answer.

    Args:
        name: the endpoint or the inference component.
        reason: what is the matter with it.
        advice: what to do.
    """

    name: str
    reason: str
    advice: str

    def __init__(self, name: str, reason: str, advice: str) -> None:
        super().__init__(f"SageMaker's {name!r} {reason}; {advice}")
        self.name, self.reason, self.advice = name, reason, advice


@frozen(kw_only=True)
class Description:
    """An endpoint, as it is set up."""

    server: Mapping[str, Json]
    """For results: without secrets."""
    image: str | None
    """The container's image; None if it is not known, or there are several."""
    model: str | None
    """The model that the container was told to serve; None likewise."""
    simulated: bool = False
    """It is no SageMaker that says so, but `llmperf_sagemaker.testing.FakeSageMaker`."""


def describe(client: _Client, route: Route) -> Description:
    """Ask SageMaker what an endpoint is. It blocks: use it in a thread.

    What it is made of stays unknown to who may not describe its configuration or its model.

    Args:
        client: boto3's, of SageMaker.
        route: the endpoint, and what of it is asked.

    Raises:
        NotInServiceError: it, its component or its variant is missing, or does not answer.
        AwsError: AWS refused to describe the endpoint.
        UnreachableError: AWS did not answer.
        UsageError: credentials are missing.
    """
    endpoint = _existing(route.endpoint, client.describe_endpoint, EndpointName=route.endpoint)
    _check_state(route.endpoint, endpoint["EndpointStatus"], endpoint.get("FailureReason"))
    config = _allowed(
        client.describe_endpoint_config, EndpointConfigName=endpoint["EndpointConfigName"]
    )
    variants = _variants(route, endpoint, config)
    if route.component is not None:
        containers = [_of_component(client, route.component)]
    else:
        containers = [_of_variant(client, variant) for variant in variants]
        if config and not any("ModelName" in variant for variant in variants):
            raise NotInServiceError(
                route.endpoint, "has inference components", "name one with ?component=NAME"
            )
    parts = [
        {**_settings(variant), **_shown(container)}
        for variant, container in zip(variants, containers, strict=False)
    ]
    server: dict[str, Json] = {
        "engine": "SageMaker",
        "endpoint": route.endpoint,
        "region": client.meta.region_name,
        **({"component": route.component} if route.component else {}),
        **(parts[0] if len(parts) == 1 else {"variants": parts}),
    }
    return Description(
        server=server,
        image=_only(container.get("Image") for container in containers),
        model=_only(_model_in(container) for container in containers),
        simulated=_SIMULATED in endpoint.get("ResponseMetadata", {}).get("HTTPHeaders", {}),
    )


def _existing(name: str, ask: _Ask, **what: str) -> _Said:
    """Ask for what must be there."""
    try:
        with explained("to describe what is measured"):
            return ask(**what)
    except AwsError as error:
        if error.code in _MISSING:
            raise NotInServiceError(
                name, f"is not there ({error.message})", "is the region right, and the account?"
            ) from error
        raise


def _allowed(ask: _Ask, **what: str) -> _Said:
    """Ask for what is good to know; return nothing if that is not allowed, or has gone."""
    try:
        with explained("to describe what is measured"):
            return ask(**what)
    except AwsError as error:
        if error.code in (*_MISSING, *_DENIED):
            return {}
        raise


def _check_state(name: str, state: str, reason: str | None) -> None:
    if state in _ANSWERS:
        return
    why = f" ({redacted(reason)})" if reason else ""
    advice = {
        "Creating": "wait until it is InService",
        "Deleting": "deploy it again",
        "Failed": "delete it, and deploy it again",
    }
    raise NotInServiceError(name, f"is {state}{why}", advice.get(state, "bring it into service"))


def _variants(route: Route, endpoint: _Said, config: _Said) -> list[_Said]:
    """Return the variants that may answer, each as it runs and as it was configured."""
    configured = {v["VariantName"]: v for v in config.get("ProductionVariants", ())}
    running = endpoint.get("ProductionVariants", ())
    names = [variant["VariantName"] for variant in running]
    if route.variant is not None and route.variant not in names:
        raise NotInServiceError(
            route.endpoint, f"has no variant {route.variant!r}", f"there are {', '.join(names)}"
        )
    return [
        {**configured.get(variant["VariantName"], {}), **variant}
        for variant in running
        if route.variant in (None, variant["VariantName"])
    ]


def _of_variant(client: _Client, variant: _Said) -> _Said:
    """Return the container that answers for a variant, as far as it is known."""
    images = variant.get("DeployedImages", ())
    image = {"Image": images[0].get("SpecifiedImage")} if images else {}
    return {**image, **_of_model(client, variant.get("ModelName"))}


def _of_component(client: _Client, name: str) -> _Said:
    component = _existing(name, client.describe_inference_component, InferenceComponentName=name)
    _check_state(name, component["InferenceComponentStatus"], component.get("FailureReason"))
    specification = component.get("Specification", {})
    container = specification.get("Container", {})
    image = container.get("DeployedImage", {})
    return {
        **container,
        **({"Image": image["SpecifiedImage"]} if "SpecifiedImage" in image else {}),
        **_of_model(client, specification.get("ModelName")),
    }


def _of_model(client: _Client, name: str | None) -> _Said:
    """Return the container of a model."""
    model = _allowed(client.describe_model, ModelName=name) if name else {}
    containers = [c for c in (model.get("PrimaryContainer"), *model.get("Containers", ())) if c]
    return containers[0] if containers else {}


def _settings(variant: _Said) -> dict[str, Json]:
    """Return what of a variant may change what is measured, under our names."""
    found = {
        "variant": variant["VariantName"],
        "instance_type": variant.get("InstanceType"),
        "instances": variant.get("CurrentInstanceCount"),
        "routing": variant.get("RoutingConfig", {}).get("RoutingStrategy"),
        "ami": variant.get("InferenceAmiVersion"),
        "image_digest": _digest(variant.get("DeployedImages", ())),
    }
    return {name: value for name, value in found.items() if value is not None}


def _digest(images: Sequence[_Said]) -> str | None:
    resolved = images[0].get("ResolvedImage", "") if images else ""
    return resolved.partition("@")[2] or None


def _shown(container: _Said) -> dict[str, Json]:
    """Return what of a container may be shown."""
    image, environment = container.get("Image"), container.get("Environment")
    return {
        **({"image": redacted(image)} if image else {}),
        **({"environment": redacted_environment(environment)} if environment else {}),
    }


def _model_in(container: _Said) -> str | None:
    environment = container.get("Environment", {})
    return next((environment[name] for name in _MODEL_NAMES if name in environment), None)


def _only(values: Iterable[str | None]) -> str | None:
    """Return the value if there is one, and only one."""
    different = set(values)
    return different.pop() if len(different) == 1 else None
