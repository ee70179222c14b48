"""Whose SageMaker it is: region, keys, prices, quotas."""

from collections.abc import Mapping
from datetime import datetime

from attrs import Factory, field, frozen
from attrs.validators import ge, gt, matches_re, min_len


@frozen(kw_only=True)
class Key:
    """An access key that the fake knows."""

    id: str = "AKIAFAKEFAKEFAKEFAKE"
    secret: str = field(default="fake/secret/of/the/fake/SageMaker+nothing", repr=False)
    token: str | None = field(default=None, repr=False)
    """The session token that goes with it, if it is a temporary one."""
    expires_at: datetime | None = None
    """When the session ends, with its time zone; None is never."""


@frozen(kw_only=True)
class Account:
    """An account in one region.

    Raises:
        ValueError: the id is not twelve digits, there is no key, or `other_quota` is negative.
    """

    id: str = field(default="123456789012", validator=matches_re(r"\d{12}"))
    region: str = "us-west-2"
    keys: tuple[Key, ...] = field(default=(Key(),), validator=min_len(1))
    """Those that may call. `FakeSageMaker.environment` hands out the first."""
    prices: Mapping[str, float] = Factory(dict)
    """USD/h of each instance type; the meter counts any other as `nan`."""
    quotas: Mapping[str, int] = Factory(dict)
    """How many instances of each type endpoints may have."""
    other_quota: int = field(default=20, validator=ge(0))
    """The quota of any type that has none of its own."""
    skew_s: float = 0.0
    """How far ahead of the caller's clock that of the service is."""

    def quota(self, instance_type: str) -> int:
        """Return how many instances of a type endpoints may have."""
        return self.quotas.get(instance_type, self.other_quota)


@frozen(kw_only=True)
class Timing:
    """How long what takes, in seconds on the fake's clock unless said otherwise.

    Raises:
        ValueError: a duration is negative.
    """

    creating_s: float = field(default=480.0, validator=ge(0))
    """An endpoint or a component is `Creating` for at least so long, and longer if its model server
    is not up by then."""
    deleting_s: float = field(default=60.0, validator=ge(0))
    config_stale_s: float = field(default=0.0, validator=ge(0))
    """A new endpoint config is not found for so long after it was created."""
    invocation_s: float = field(default=60.0, validator=gt(0))
    """In real time: how long a container may take for an answer that is no stream."""
    overhead_s: float = field(default=0.0, validator=ge(0))
    """In real time: how long an invocation takes to reach its container."""
