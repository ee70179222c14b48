"""What is planted to go wrong."""

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from attrs import define, field, frozen
from attrs.validators import ge, in_

from llmperf_sagemaker.testing.refusal import RefusedError

NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)
"""Why an endpoint failed for which the region had no instances."""

UNHEALTHY = (
    "The primary container for production variant {variant} did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)
"""Why an endpoint failed whose container did not answer in time."""


@frozen(kw_only=True)
class FailedBringUp:
    """Endpoints that end in `Failed`, instead of `InService`.

    Args:
        reason: the `FailureReason`; `{variant}` in it is the variant's name.
        instance_type: a pattern (`ml.g5.*`) of those that fail.
        model: a pattern of the model's name, likewise.
        nth: only the nth, from 1 on, of those that fit.
    """

    reason: str = NO_CAPACITY
    instance_type: str = "*"
    model: str = "*"
    nth: int | None = None

    def fits(self, instance_type: str, model: str) -> bool:
        """Return whether it is about endpoints like this."""
        return fnmatchcase(instance_type, self.instance_type) and fnmatchcase(model, self.model)


@frozen(kw_only=True)
class RefusedCall:
    """Calls that are refused, before they do anything.

    Args:
        operation: a pattern of what is called: `CreateEndpoint`, `Delete*`, `InvokeEndpoint*`.
        code: the error's name.
        nth: only the nth, from 1 on, of those that fit.
    """

    operation: str
    code: str = "ThrottlingException"
    message: str = "Rate exceeded"
    status: int = 400
    nth: int | None = None


Failure: TypeAlias = FailedBringUp | RefusedCall

StreamFault: TypeAlias = Literal[
    "model-stream-error", "internal-stream-failure", "truncated", "flipped-bit", "abort"
]


@frozen(kw_only=True)
class BrokenStream:
    """A stream that goes wrong on its way.

    Args:
        fault: `truncated` ends the body properly, but within a frame; `abort` closes the
            connection.
        after_parts: after how many whole parts.
        error_code: what a ModelStreamError says: `StreamBroken`, `ModelInvocationTimeExceeded`.
    """

    fault: StreamFault = field(
        validator=in_(
            (
                "model-stream-error",
                "internal-stream-failure",
                "truncated",
                "flipped-bit",
                "abort",
            )
        )
    )
    after_parts: int = field(default=1, validator=ge(0))
    error_code: str = "StreamBroken"


FaultPlan: TypeAlias = BrokenStream | Sequence[BrokenStream | None] | None
"""One for each stream; or one or None for each by its ordinal, and after the last from the first
again; or none at all."""


@frozen(kw_only=True)
class Streams:
    """How streams are passed on.

    Args:
        faults: what goes wrong in which of them, in the order in which they are asked for.
        cut_seed: cut what the model wrote into several parts at random places, so that no part is
            an event; None makes one part of each read.
    """

    faults: FaultPlan = None
    cut_seed: int | None = None


@define(eq=False)
class Planted:
    """What is planted on the control plane and before an invocation, and how often it was due."""

    _failures: Sequence[Failure]
    _seen: Counter[int] = field(factory=Counter, init=False)

    def bring_up(self, instance_type: str, model: str) -> FailedBringUp | None:
        """Return how the bring-up that begins now will fail, if it will."""
        for place, failure in enumerate(self._failures):
            if not (isinstance(failure, FailedBringUp) and failure.fits(instance_type, model)):
                continue
            if self._is_due(place, failure.nth):
                return failure
        return None

    def refuse(self, operation: str) -> None:
        """Refuse a call, if that is planted.

        Raises:
            RefusedError: it is.
        """
        for place, failure in enumerate(self._failures):
            if not (isinstance(failure, RefusedCall) and fnmatchcase(operation, failure.operation)):
                continue
            if self._is_due(place, failure.nth):
                raise RefusedError(failure.code, failure.message, status=failure.status)

    def _is_due(self, place: int, nth: int | None) -> bool:
        self._seen[place] += 1
        return nth in (None, self._seen[place])
