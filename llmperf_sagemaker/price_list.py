"""AWS's Price List API: what it says that an hour of hosting costs, kept for a day.

Source: Price List Query API, GetProducts of the service AmazonSageMaker.
"""

import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from attrs import frozen

from llmperf_core.errors import TargetError

if TYPE_CHECKING:
    import boto3

_KEPT = timedelta(days=1)
_COMPONENT = "Hosting"
"""The same type is listed for training, notebooks and clusters, too, at other prices."""


class PriceListError(TargetError):
    """The Price List API cannot be asked, or its answer is not one price."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"AWS's Price List API does not tell a price: {reason}; say it yourself")
        self.reason = reason


@frozen(kw_only=True)
class Listed:
    """A price as the API gave it."""

    usd_per_h: Decimal
    sku: str
    published: str
    """When AWS published the list that it is from."""
    asked_at: datetime


def kept_price(instance_type: str, region: str) -> Listed | None:
    """Return the price that was asked less than a day ago; None if none was."""
    try:
        listed = msgspec.json.decode(_file(instance_type, region).read_bytes(), type=Listed)
        age = datetime.now(UTC) - listed.asked_at
    except (OSError, msgspec.MsgspecError, TypeError):
        return None  # not there, or not whole: it is asked again
    return listed if timedelta(0) <= age < _KEPT else None


def ask_price(instance_type: str, region: str, session: "boto3.Session") -> Listed | None:
    """Ask for a price, and keep it. Blocks, for some seconds where nothing can be reached.

    Returns:
        None if the API lists no hosting on that type in that region.

    Raises:
        PriceListError: it cannot be asked, or does not name exactly one price.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    limits = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})
    try:
        client = session.client("pricing", region_name=_home_of(region), config=limits)
        pages = client.get_paginator("get_products").paginate(
            ServiceCode="AmazonSageMaker",
            Filters=[
                {"Type": "TERM_MATCH", "Field": field, "Value": value}
                for field, value in (
                    ("component", _COMPONENT),
                    ("instanceName", instance_type),
                    ("regionCode", region),
                )
            ],
        )
        items = [item for page in pages for item in page["PriceList"]]
    except ClientError as error:
        raise PriceListError(error.response["Error"]["Code"]) from error
    except BotoCoreError as error:
        raise PriceListError(type(error).__name__) from error
    listed = listed_price(items, asked_at=datetime.now(UTC))
    if listed is not None:
        _keep(_file(instance_type, region), listed)
    return listed


class _Dimension(msgspec.Struct, rename="camel"):
    unit: str
    price_per_unit: dict[str, str]


class _Term(msgspec.Struct, rename="camel"):
    price_dimensions: dict[str, _Dimension]


class _Terms(msgspec.Struct):
    on_demand: dict[str, _Term] = msgspec.field(name="OnDemand", default_factory=dict)


class _Attributes(msgspec.Struct):
    component: str = ""


class _Product(msgspec.Struct):
    sku: str
    attributes: _Attributes


class _Item(msgspec.Struct, rename="camel"):
    product: _Product
    terms: _Terms
    publication_date: str


def listed_price(items: Sequence[str], *, asked_at: datetime) -> Listed | None:
    """Return the one price of hosting that an answer's items hold, each of them a JSON text.

    Returns:
        None if none of them is of hosting.

    Raises:
        PriceListError: they are damaged, or there is not exactly one price by the hour.
    """
    try:
        decoded = [msgspec.json.decode(item, type=_Item) for item in items]
    except msgspec.MsgspecError as error:
        raise PriceListError(f"its answer is damaged ({error})") from error
    hosting = [item for item in decoded if item.product.attributes.component == _COMPONENT]
    if not hosting:
        return None
    found = [
        (item, dimension)
        for item in hosting
        for term in item.terms.on_demand.values()
        for dimension in term.price_dimensions.values()
        if dimension.unit.casefold() == "hrs"
    ]
    if len(found) != 1:
        raise PriceListError(f"its answer holds {len(found)} prices by the hour, not one")
    item, dimension = found[0]
    return Listed(
        usd_per_h=_usd(dimension),
        sku=item.product.sku,
        published=item.publication_date,
        asked_at=asked_at,
    )


def _usd(dimension: _Dimension) -> Decimal:
    if "USD" not in dimension.price_per_unit:
        raise PriceListError(f"it is in {', '.join(dimension.price_per_unit) or 'no currency'}")
    said = dimension.price_per_unit["USD"]
    try:
        usd_per_h = Decimal(said)
    except InvalidOperation as error:
        raise PriceListError(f"{said!r} is no price") from error
    # Capacity that was paid for beforehand is listed at 0.
    if not usd_per_h.is_finite() or usd_per_h <= 0:
        raise PriceListError(f"{said!r} is no price")
    return usd_per_h


def _home_of(region: str) -> str:
    """Return the nearest of the regions in which the API lives."""
    homes = {"eu": "eu-central-1", "me": "eu-central-1", "af": "eu-central-1", "ap": "ap-south-1"}
    return homes.get(region.partition("-")[0], "us-east-1")


def _file(instance_type: str, region: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "llmperf" / "sagemaker-prices" / region / f"{instance_type}.json"


def _keep(file: Path, listed: Listed) -> None:
    """Write the file whole or not at all. What cannot be kept is asked again, no more."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError:
        return
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(msgspec.json.encode(listed))
        Path(temporary).replace(file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
