"""What stands beside SageMaker: quotas, prices, and who is asking."""

import json
import zlib
from collections.abc import Iterator
from urllib.parse import parse_qs

from llmperf_core.target import Json
from llmperf_sagemaker.testing.account import Account
from llmperf_sagemaker.testing.control_plane import page
from llmperf_sagemaker.testing.refusal import RefusedError
from llmperf_sagemaker.testing.resource import structures, text
from llmperf_sagemaker.testing.shapes import Asked, check, instance_types

_QUOTAS_A_PAGE = 100
_PUBLISHED = "2026-11-01T00:00:00Z"


def quotas(account: Account, operation: str, asked: Asked) -> Json:
    """Answer Service Quotas: one quota for each type that an endpoint may have.

    Raises:
        RefusedError: the fake does not do that, or there is no such service.
    """
    check("service-quotas", operation, asked)
    if operation != "ListServiceQuotas":
        raise RefusedError("UnknownOperationException", f"the fake does not do {operation}")
    if asked["ServiceCode"] != "sagemaker":
        raise RefusedError(
            "NoSuchResourceException",
            "The request failed because the specified service does not exist.",
        )
    said = [_quota(account, number, kind) for number, kind in enumerate(instance_types())]
    return page("Quotas", said, asked, default=_QUOTAS_A_PAGE)


def _quota(account: Account, number: int, instance_type: str) -> Json:
    code = f"L-{number:08X}"
    return {
        "ServiceCode": "sagemaker",
        "ServiceName": "Amazon SageMaker",
        "QuotaArn": f"arn:aws:servicequotas:{account.region}:{account.id}:sagemaker/{code}",
        "QuotaCode": code,
        "QuotaName": f"{instance_type} for endpoint usage",
        "Value": float(account.quota(instance_type)),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def prices(account: Account, operation: str, asked: Asked) -> Json:
    """Answer the Price List: hosting, and what a careless filter also finds.

    Raises:
        RefusedError: the fake does not do that.
    """
    check("pricing", operation, asked)
    if operation != "GetProducts":
        raise RefusedError("UnknownOperationException", f"the fake does not do {operation}")
    wanted = {text(one, "Field"): text(one, "Value") for one in structures(asked, "Filters")}
    if any(text(one, "Type") != "TERM_MATCH" for one in structures(asked, "Filters")):
        raise RefusedError("InvalidParameterException", "the fake filters by TERM_MATCH only")
    found: list[Json] = [
        json.dumps(_product(attributes, unit, usd))
        for attributes, unit, usd in _offers(account)
        if asked.get("ServiceCode") == "AmazonSageMaker"
        and all(attributes.get(name) == value for name, value in wanted.items())
    ]
    said = page("PriceList", found, asked, default=_QUOTAS_A_PAGE)
    return {"FormatVersion": "aws_v1", **said} if isinstance(said, dict) else said


def _offers(account: Account) -> Iterator[tuple[dict[str, str], str, float]]:
    """Yield attributes, unit and USD of each product."""
    for kind, usd in account.prices.items():
        at = {"instanceName": kind, "regionCode": account.region, "servicecode": "AmazonSageMaker"}
        yield {**at, "component": "Hosting", "usagetype": f"FAKE-Host:{kind}"}, "Hrs", usd
        yield {**at, "component": "Cluster", "usagetype": f"FAKE-Cluster:{kind}"}, "Hrs", usd * 1.2
        yield {**at, "usagetype": f"FAKE-TrainingPlanUpfrontFee:{kind}"}, "Quantity", usd / 2


def _product(attributes: dict[str, str], unit: str, usd: float) -> Json:
    sku = f"{zlib.crc32(attributes['usagetype'].encode()):016X}"
    dimension: dict[str, Json] = {
        "unit": unit,
        "description": f"${usd} per {unit} of {attributes['usagetype']} (fake)",
        "appliesTo": [],
        "rateCode": f"{sku}.JRTCKXETXF.6YS6EN2CT7",
        "beginRange": "0",
        "endRange": "Inf",
        "pricePerUnit": {"USD": f"{usd:.10f}"},
    }
    term: dict[str, Json] = {
        "sku": sku,
        "effectiveDate": _PUBLISHED,
        "offerTermCode": "JRTCKXETXF",
        "termAttributes": {},
        "priceDimensions": {str(dimension["rateCode"]): dimension},
    }
    return {
        "product": {"sku": sku, "productFamily": "ML Instance", "attributes": attributes},
        "serviceCode": "AmazonSageMaker",
        "terms": {"OnDemand": {f"{sku}.JRTCKXETXF": term}},
        "version": "20261101000000",
        "publicationDate": _PUBLISHED,
    }


def caller(account: Account, body: bytes) -> str:
    """Answer STS, in XML: who is asking.

    Raises:
        RefusedError: the fake does not do that.
    """
    action = parse_qs(body.decode("latin-1")).get("Action", [""])[0]
    if action != "GetCallerIdentity":
        raise RefusedError("InvalidAction", f"the fake does not do {action}")
    return (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<GetCallerIdentityResult><Arn>arn:aws:iam::{account.id}:user/fake</Arn>"
        f"<UserId>AIDAFAKE</UserId><Account>{account.id}</Account></GetCallerIdentityResult>"
        "</GetCallerIdentityResponse>"
    )
