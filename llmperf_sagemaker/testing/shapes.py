"""What AWS's own service models say of a call: which operations there are, and what they take."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator

from llmperf_core.target import Json
from llmperf_sagemaker.testing.refusal import RefusedError

Asked = Mapping[str, Json]
"""A request's members."""

INSTANCE_TYPE = "ProductionVariantInstanceType"


@cache
def service(name: str) -> ServiceModel:
    """Return the model of a service that botocore ships: `sagemaker`, `service-quotas`."""
    return ServiceModel(Loader().load_service_model(name, "service-2"))


@cache
def instance_types() -> tuple[str, ...]:
    """Return the types that an endpoint may have."""
    return tuple(service("sagemaker").shape_for(INSTANCE_TYPE).enum)


def check(service_name: str, operation: str, asked: Asked) -> None:
    """Check a request against the service's model.

    Raises:
        RefusedError: there is no such operation, or it does not take that.
    """
    model = service(service_name)
    if operation not in model.operation_names:
        raise RefusedError("UnknownOperationException", f"there is no operation {operation}")
    shape = model.operation_model(operation).input_shape
    report = ParamValidator().validate(asked, shape)
    if report.has_errors():
        raise RefusedError.invalid(report.generate_report())
    if broken := list(_broken(shape, asked, "")):
        errors = "error" if len(broken) == 1 else "errors"
        raise RefusedError.invalid(
            f"{len(broken)} validation {errors} detected: {'; '.join(broken)}"
        )


def fitted(shape: Shape, value: Json) -> Json:
    """Return of a value what its shape has a member for."""
    if isinstance(value, Mapping) and shape.type_name == "structure":
        members = shape.members
        return {
            name: fitted(members[name], part) for name, part in value.items() if name in members
        }
    if isinstance(value, Sequence) and shape.type_name == "list":
        return [fitted(shape.member, part) for part in value]
    return value


def _broken(shape: Shape, value: Json, at: str) -> Iterator[str]:
    """Yield what breaks a constraint that botocore's validator leaves to the service."""
    if isinstance(value, str):
        yield from (_constraint(value, at, said) for said in _text_constraints(shape, value))
    elif isinstance(value, bool):
        return
    elif isinstance(value, int | float):
        yield from (_constraint(value, at, said) for said in _number_constraints(shape, value))
    else:
        for member, part, name in _parts(shape, value):
            yield from _broken(member, part, f"{at}.{name}" if at else name)


def _parts(shape: Shape, value: Json) -> Iterator[tuple[Shape, Json, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            member = shape.members[name] if shape.type_name == "structure" else shape.value
            yield member, part, name[:1].lower() + name[1:]
    elif isinstance(value, Sequence):
        for ordinal, part in enumerate(value, 1):
            yield shape.member, part, f"{ordinal}.member"


def _text_constraints(shape: Shape, value: str) -> Iterator[str]:
    said = shape.metadata
    if "enum" in said and value not in said["enum"]:
        yield f"Member must satisfy enum value set: [{', '.join(said['enum'])}]"
    if len(value) > said.get("max", len(value)):
        yield f"Member must have length less than or equal to {said['max']}"
    with suppress(re.error):  # some of Java's patterns are none of Python's
        if "pattern" in said and not re.fullmatch(said["pattern"].strip("^$"), value):
            yield f"Member must satisfy regular expression pattern: {said['pattern']}"


def _number_constraints(shape: Shape, value: float) -> Iterator[str]:
    if value > shape.metadata.get("max", value):
        yield f"Member must have value less than or equal to {shape.metadata['max']}"


def _constraint(value: Json, at: str, said: str) -> str:
    return f"Value '{value}' at '{at}' failed to satisfy constraint: {said}"
