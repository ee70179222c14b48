"""What an hour of an instance costs: as AWS was asked, else as it is shipped here, which it says.

The shipped prices lie beside this module in `prices.json`. A price that is in neither is not
guessed.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec
from attrs import frozen

from llmperf_core.bringup import Price
from llmperf_sagemaker.instances import instance_types
from llmperf_sagemaker.price_list import Listed, PriceListError, ask_price, kept_price

if TYPE_CHECKING:
    import boto3


@frozen(kw_only=True)
class Unpriced:
    """Why it is not known what an instance costs."""

    reason: str
    """With what can be done about it."""


def price_of(
    instance_type: str, region: str, *, session: "boto3.Session | None" = None
) -> Price | None:
    """Return what an hour of one instance costs that hosts a model; None if nobody knows.

    Args:
        instance_type: `ml.g5.2xlarge`, for one.
        region: `us-west-2`, for one.
        session: asks the Price List API, which blocks. Without one, nothing is reached: what was
            asked within a day counts, else what is shipped.
    """
    found = find_price(instance_type, region, session=session)
    return found if isinstance(found, Price) else None


def find_price(
    instance_type: str, region: str, *, session: "boto3.Session | None" = None
) -> Price | Unpriced:
    """Return the same as `price_of`, or why it is not known."""
    if not re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", instance_type):
        return Unpriced(
            reason=f"{instance_type!r} is no instance type of SageMaker; they begin with ml."
        )
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d+", region):
        return Unpriced(reason=f"{region!r} is no region of AWS; us-west-2 is one")
    listed, silence = kept_price(instance_type, region), "AWS was not asked"
    if listed is None and session is not None:
        try:
            listed = ask_price(instance_type, region, session)
        except PriceListError as error:
            silence = f"AWS was asked in vain: {error.reason}"
        else:
            if listed is None:
                return Unpriced(reason=f"AWS lists no hosting on {instance_type} in {region}")
    if listed is not None:
        return _as_listed(instance_type, listed)
    return _as_shipped(instance_type, region, silence)


def _as_listed(instance_type: str, listed: Listed) -> Price:
    return Price(
        usd_per_h=float(listed.usd_per_h),
        as_of=listed.asked_at.date().isoformat(),
        source=f"AWS Price List API, hosting, sku {listed.sku}, published {listed.published}"
        f"{_volume_of(instance_type)}",
    )


@frozen(kw_only=True)
class _Shipped:
    """Some of the shipped prices, which were found together."""

    regions: tuple[str, ...]
    as_of: str
    hosting: bool
    """Whether they were found as prices of hosting; else they are an estimate."""
    source: str
    usd_per_h: dict[str, float]


@cache
def _shipped() -> tuple[_Shipped, ...]:
    stored = files("llmperf_sagemaker").joinpath("prices.json").read_bytes()
    return msgspec.json.decode(stored, type=tuple[_Shipped, ...])


def _as_shipped(instance_type: str, region: str, silence: str) -> Price | Unpriced:
    """Return the shipped price.

    Args:
        instance_type: what is priced.
        region: where.
        silence: why it is not one that was asked.
    """
    for prices in _shipped():
        if region in prices.regions and instance_type in prices.usd_per_h:
            worth = "confirmed as hosting" if prices.hosting else "an estimate: not seen as hosting"
            return Price(
                usd_per_h=prices.usd_per_h[instance_type],
                as_of=prices.as_of,
                source=f"shipped with llmperf ({worth}) from {prices.source}; {silence}"
                f"{_volume_of(instance_type)}",
            )
    elsewhere = ", ".join(_regions_of(instance_type)) or "no region"
    return Unpriced(
        reason=f"{silence}, and llmperf ships a price of {instance_type} for {elsewhere}, not for "
        f"{region}; say what it costs (--price)"
    )


def _regions_of(instance_type: str) -> Iterator[str]:
    for prices in _shipped():
        if instance_type in prices.usd_per_h:
            yield from prices.regions


def _volume_of(instance_type: str) -> str:
    """Say what is paid beside the instance, where something is or may be."""
    known = instance_types().get(instance_type)
    if known is not None and known.nvme:
        return ""
    # Source: LLMeter's cost model of SageMaker, the storage of instances without disks.
    return "; without its EBS volume, about 0.14 USD per GB and month"
