"""The control plane: what may be created, described, listed and deleted, and when."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from attrs import define, field

from llmperf_core.target import Json
from llmperf_sagemaker.testing.account import Account, Timing
from llmperf_sagemaker.testing.clock import Clock
from llmperf_sagemaker.testing.deployment import Deployed
from llmperf_sagemaker.testing.meter import Meter
from llmperf_sagemaker.testing.refusal import RefusedError
from llmperf_sagemaker.testing.resource import (
    COMPONENT,
    CONFIG,
    ENDPOINT,
    KINDS,
    MODEL,
    Kind,
    Resource,
    structure,
    structures,
    text,
)
from llmperf_sagemaker.testing.shapes import Asked, check, fitted, service

_OPERATION = re.compile(f"(Create|Describe|Delete|List)({'|'.join(KINDS)})s?")
_PAGE = 10
_TAGS = 50

BringUp = Callable[[Resource, Sequence[Deployed]], None]
"""Begins to bring up what was created."""


@define(eq=False)
class ControlPlane:
    """All that exists, and the operations on it. Only the fake's own thread calls it."""

    account: Account
    _timing: Timing
    _clock: Clock
    _meter: Meter
    _bring_up: BringUp
    _held: dict[tuple[Kind, str], Resource] = field(factory=dict, init=False)

    def answer(self, operation: str, asked: Asked) -> Json:
        """Do what is asked.

        Raises:
            RefusedError: the service would not.
        """
        check("sagemaker", operation, asked)
        if operation in {"AddTags", "DeleteTags", "ListTags"}:
            return self._tags(operation, asked)
        known = _OPERATION.fullmatch(operation)
        if known is None:
            raise RefusedError("UnknownOperationException", f"the fake does not do {operation}")
        verb, kind = known[1], KINDS[known[2]]
        if verb == "List":
            return self._list(operation, kind, asked)
        name = text(asked, f"{kind.name}Name")
        if verb == "Create":
            return {f"{kind.name}Arn": self._create(kind, name, asked).arn}
        resource = self.find(kind, name)
        if verb == "Describe":
            return self._described(operation, resource)
        self._delete(resource)
        return None

    def find(self, kind: Kind, name: str) -> Resource:
        """Return what has this name.

        Raises:
            RefusedError: nothing has, or not yet.
        """
        resource = self._held.get((kind, name))
        if resource is None or self._is_stale(resource):
            raise RefusedError.invalid(f'Could not find {kind.words} "{self._arn(kind, name)}".')
        return resource

    def remove(self, resource: Resource) -> None:
        """Forget what is gone, and bill no more for it."""
        del self._held[resource.kind, resource.name]
        if resource.kind == ENDPOINT:
            self._meter.stop(resource.name)

    def holds(self) -> Mapping[str, Sequence[str]]:
        """Return the names of all that exists, by its kind."""
        names: dict[str, list[str]] = {}
        for kind, name in self._held:
            names.setdefault(kind.name, []).append(name)
        return names

    def components(self, endpoint: str) -> list[Resource]:
        """Return the inference components on an endpoint."""
        return [
            held
            for held in self._held.values()
            if held.kind == COMPONENT and text(held.asked, "EndpointName") == endpoint
        ]

    def variants(self, endpoint: Resource) -> list[Asked]:
        """Return the variants of an endpoint, as they were when it was created."""
        return structures(endpoint.asked, "ProductionVariants")

    def _arn(self, kind: Kind, name: str) -> str:
        account = self.account
        return f"arn:aws:sagemaker:{account.region}:{account.id}:{kind.arn}/{name.lower()}"

    def _is_stale(self, resource: Resource) -> bool:
        age_s = self._clock.now_s() - resource.created_at_s
        return resource.kind == CONFIG and age_s < self._timing.config_stale_s

    def _create(self, kind: Kind, name: str, asked: Asked) -> Resource:
        arn = self._arn(kind, name)
        if (kind, name) in self._held:
            raise RefusedError.invalid(f'Cannot create already existing {kind.words} "{arn}".')
        tags = {text(tag, "Key"): text(tag, "Value") for tag in structures(asked, "Tags")}
        resource = Resource(kind, name, arn, asked, self._clock.now_s(), tags)
        prepare = {
            CONFIG: self._prepare_config,
            ENDPOINT: self._prepare_endpoint,
            COMPONENT: self._prepare_component,
        }.get(kind)
        deployed = prepare(resource) if prepare else []
        self._held[kind, name] = resource
        if kind in (ENDPOINT, COMPONENT):
            resource.become("Creating", at_s=resource.created_at_s)
            self._bring_up(resource, deployed)
        return resource

    def _prepare_config(self, config: Resource) -> list[Deployed]:
        for variant in structures(config.asked, "ProductionVariants"):
            if "InstanceType" not in variant:
                raise RefusedError.invalid("the fake has variants on instances only")
            if name := text(variant, "ModelName"):
                self.find(MODEL, name)
        return []

    def _prepare_endpoint(self, endpoint: Resource) -> list[Deployed]:
        config = self.find(CONFIG, text(endpoint.asked, "EndpointConfigName"))
        variants = structures(config.asked, "ProductionVariants")
        wanted = _instances(variants)
        self._check_quotas(wanted)
        deployed = [
            self._deployed(endpoint.name, variant, self._container(text(variant, "ModelName")))
            for variant in variants
        ]
        # A config may be deleted under its endpoint, which goes on.
        endpoint.asked = {**endpoint.asked, "ProductionVariants": variants}
        self._meter.start(endpoint.name, wanted)
        return deployed

    def _prepare_component(self, component: Resource) -> list[Deployed]:
        endpoint = self.find(ENDPOINT, text(component.asked, "EndpointName"))
        if endpoint.status != "InService":
            raise RefusedError.invalid(f'Endpoint "{endpoint.arn}" is not InService.')
        named = text(component.asked, "VariantName")
        fitting = [v for v in self.variants(endpoint) if named in ("", text(v, "VariantName"))]
        if not fitting or "ModelName" in fitting[0]:
            raise RefusedError.invalid(
                f'Endpoint "{endpoint.arn}" has no variant for inference components.'
            )
        said = structure(component.asked, "Specification")
        model = text(said, "ModelName")
        container = self._container(model) if model else structure(said, "Container")
        return [self._deployed(endpoint.name, fitting[0], container, component.name, model)]

    def _container(self, model: str) -> Asked:
        if not model:
            return {}  # a variant for inference components
        asked = self.find(MODEL, model).asked
        return structure(asked, "PrimaryContainer") or next(
            iter(structures(asked, "Containers")), {}
        )

    def _deployed(
        self,
        endpoint: str,
        variant: Asked,
        container: Asked,
        component: str | None = None,
        model: str = "",
    ) -> Deployed:
        return Deployed(
            endpoint=endpoint,
            variant=text(variant, "VariantName"),
            component=component,
            model=model or text(variant, "ModelName"),
            image=text(container, "Image"),
            environment=cast("Mapping[str, str]", structure(container, "Environment")),
            container=container,
            instance_type=text(variant, "InstanceType"),
            instances=_count(variant),
        )

    def _check_quotas(self, wanted: Mapping[str, int]) -> None:
        held = Counter[str]()
        for resource in self._held.values():
            if resource.kind == ENDPOINT:
                held.update(_instances(self.variants(resource)))
        for instance_type, count in wanted.items():
            quota = self.account.quota(instance_type)
            if held[instance_type] + count > quota:
                raise RefusedError(
                    "ResourceLimitExceeded",
                    f"The account-level service limit '{instance_type} for endpoint usage' is "
                    f"{quota} Instances, with current utilization of {held[instance_type]} "
                    f"Instances and a request delta of {count} Instances. Please use AWS Service "
                    "Quotas to request an increase for this quota. If AWS Service Quotas is not "
                    "available, contact AWS support to request an increase for this quota.",
                )

    def _described(self, operation: str, resource: Resource) -> Json:
        said = resource.said
        if resource.kind == ENDPOINT:
            said["ProductionVariants"] = [
                _variant_said(variant) for variant in self.variants(resource)
            ]
        elif resource.kind == COMPONENT:
            said |= self._component_said(resource)
        return fitted(service("sagemaker").operation_model(operation).output_shape, said)

    def _component_said(self, component: Resource) -> dict[str, Json]:
        asked = component.asked
        copies = structure(asked, "RuntimeConfig").get("CopyCount", 1)
        specification = dict(structure(asked, "Specification"))
        if container := structure(specification, "Container"):
            image = {"SpecifiedImage": text(container, "Image")}
            specification["Container"] = {**container, "DeployedImage": image}
        return {
            "EndpointArn": self._arn(ENDPOINT, text(asked, "EndpointName")),
            "Specification": specification,
            "RuntimeConfig": {"DesiredCopyCount": copies, "CurrentCopyCount": copies},
        }

    def _delete(self, resource: Resource) -> None:
        if resource.kind in (MODEL, CONFIG):
            self.remove(resource)
            return
        if resource.status not in ("InService", "Failed"):
            kind = resource.kind.words
            raise RefusedError.invalid(f'Cannot update in-progress {kind} "{resource.arn}".')
        if resource.kind == ENDPOINT and self.components(resource.name):
            raise RefusedError.invalid(
                f'Cannot delete endpoint "{resource.arn}" that has inference components.'
            )
        resource.become("Deleting", at_s=self._clock.now_s())
        resource.doomed.set()

    def _list(self, operation: str, kind: Kind, asked: Asked) -> Json:
        fitting = [
            held for held in self._held.values() if held.kind == kind and _is_in(held, asked)
        ]
        if asked.get("SortBy") == "Name":
            fitting.sort(key=lambda held: held.name)
        if asked.get("SortOrder") != "Ascending":
            fitting.reverse()
        shape = service("sagemaker").operation_model(operation).output_shape
        summaries: list[Json] = []
        for held in fitting:
            said = held.said
            if kind == COMPONENT:
                said |= self._component_said(held)
            summaries.append(fitted(shape.members[f"{kind.name}s"].member, said))
        return page(f"{kind.name}s", summaries, asked)

    def _tags(self, operation: str, asked: Asked) -> Json:
        arn = text(asked, "ResourceArn")
        tags = next((held.tags for held in self._held.values() if held.arn == arn), None)
        if tags is None:
            raise RefusedError.invalid(f'Could not find resource "{arn}".')
        if operation == "DeleteTags":
            for key in cast("Sequence[str]", asked["TagKeys"]):
                tags.pop(key, None)
            return {}
        added = {text(tag, "Key"): text(tag, "Value") for tag in structures(asked, "Tags")}
        if len(tags | added) > _TAGS:
            raise RefusedError.invalid(f"a resource has at most {_TAGS} tags")
        tags |= added
        said: list[Json] = [{"Key": key, "Value": value} for key, value in tags.items()]
        return {"Tags": said} if operation == "AddTags" else page("Tags", said, asked, default=50)


def page(name: str, items: Sequence[Json], asked: Asked, *, default: int = _PAGE) -> Json:
    """Return one page of a listing, and where the next begins if there is one.

    Raises:
        RefusedError: the request's `NextToken` is none of ours.
    """
    token = text(asked, "NextToken") or "0"
    if not token.isdecimal():
        raise RefusedError.invalid("The token is not valid.")
    begin, size = int(token), cast("int", asked.get("MaxResults", default))
    following = {"NextToken": str(begin + size)} if begin + size < len(items) else {}
    return {name: items[begin : begin + size], **following}


def _is_in(held: Resource, asked: Asked) -> bool:
    equal = {
        "StatusEquals": held.status,
        "EndpointNameEquals": held.asked.get("EndpointName"),
        "VariantNameEquals": held.asked.get("VariantName"),
    }
    after, before = asked.get("CreationTimeAfter"), asked.get("CreationTimeBefore")
    return (
        text(asked, "NameContains") in held.name
        and all(asked.get(name, value) == value for name, value in equal.items())
        and (after is None or held.created_at_s >= cast("float", after))
        and (before is None or held.created_at_s <= cast("float", before))
    )


def _count(variant: Asked) -> int:
    return cast("int", variant.get("InitialInstanceCount", 1))


def _instances(variants: Sequence[Asked]) -> Counter[str]:
    counts = Counter[str]()
    for variant in variants:
        counts[text(variant, "InstanceType")] += _count(variant)
    return counts


def _variant_said(variant: Asked) -> Json:
    weight, count = variant.get("InitialVariantWeight", 1.0), _count(variant)
    return {
        "VariantName": text(variant, "VariantName"),
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
    }
