"""Everything of a deployment deleted: what bills first, until it is really gone."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from attrs import field, frozen

from llmperf_core.errors import LLMPerfError, TargetError, UnreachableError
from llmperf_sagemaker.account import AwsError
from llmperf_sagemaker.plane import COMPONENT, CONFIG, ENDPOINT, MODEL, BusyError, Kind, Plane
from llmperf_sagemaker.wanted import lease_of

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 15.0
# What a later try may get past. Source: botocore's standard retries, and AWS's common errors.
_PASSING = (
    *("Throttling", "TooManyRequests", "RequestLimitExceeded", "ServiceUnavailable"),
    *("InternalFailure", "InternalError", "RequestTimeout", "ConflictException"),
)


class StillThereError(TargetError):
    """Something could not be deleted, and may cost money.

    Args:
        kind: what it is.
        name: its name.
        where: its region.
        bills: what it costs: `7.09 USD/h`.
        reason: why it could not be deleted.
    """

    name: str
    region: str
    command: str

    def __init__(self, kind: Kind, name: str, where: str, bills: str, reason: str) -> None:
        self.name, self.region = name, where
        self.command = delete_command(kind, name, where)
        cost = f"and bills {bills}" if kind.bills else "which costs nothing"
        super().__init__(
            f"{kind.words} {name!r} in {where} could not be deleted ({reason}), {cost}; delete it "
            f"with: {self.command}, and then the rest with: llmperf reap"
        )


class NotOursError(TargetError):
    """Something has our name, but not our tags, so it is left alone."""

    def __init__(self, kind: Kind, name: str, where: str) -> None:
        super().__init__(
            f"{kind.words} {name!r} in {where} is not tagged as llmperf's, so it is left alone; if "
            f"nobody needs it, delete it with: {delete_command(kind, name, where)}"
        )


def delete_command(kind: Kind, name: str, region: str) -> str:
    """Return the words of AWS's command line that delete something."""
    return f"aws sagemaker delete-{kind.words} --{kind.words}-name {name} --region {region}"


def pauses() -> Iterator[float]:
    """Yield how long to wait before each further look, in seconds."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


@frozen(kw_only=True)
class Removal:
    """The deletion of all that has one name in one region.

    Blocks as long as a bring-up may take: an endpoint that is being created refuses it.
    """

    plane: Plane
    name: str
    run: str
    """The run that the tags must tell."""
    bills: str
    """What the endpoint costs, for the error: `7.09 USD/h`."""
    patience_s: float
    """How long an endpoint may refuse."""
    report: Callable[[str], None]
    """Is told how it stands, in words."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _deadline_s: float = field(init=False)

    @_deadline_s.default
    def _begin(self) -> float:
        return self.clock() + self.patience_s

    def run_to_end(self) -> None:
        """Delete it: the component, the endpoint, and once that is gone its config and its model.

        Raises:
            StillThereError: something could not be deleted.
            NotOursError: something is not tagged as ours; what bills and is ours has gone first.
        """
        self._until_gone(COMPONENT)
        self._until_gone(ENDPOINT)
        # The other way round, what it is made of could no longer be seen while it bills.
        self._until_gone(CONFIG)
        # A request that was under way when its sender was killed may have made it since then; now
        # that there is no config, none can any more.
        self._until_gone(COMPONENT)
        self._until_gone(ENDPOINT)
        self._until_gone(MODEL)

    def _until_gone(self, kind: Kind) -> None:
        """Ask until it is gone.

        Raises:
            StillThereError: it is there at the deadline, or AWS refuses for good.
            NotOursError: it is not tagged as ours.
        """
        for pause_s in pauses():
            try:
                why = self._ask(kind)
            except NotOursError:
                raise
            except LLMPerfError as error:
                if not passes(error):
                    raise self._left(kind, str(error)) from error
                why = str(error)
            if why is None:
                return
            self.report(f"{kind.words} {self.name}: {why}")
            if self.clock() > self._deadline_s:
                raise self._left(kind, f"tried for {self.patience_s:.0f} s: {why}")
            self.sleep(pause_s)

    def _ask(self, kind: Kind) -> str | None:
        """Ask for its deletion; return why it is still there, or None if it is not."""
        said = self.plane.describe(kind, self.name)
        if said is None:
            return None
        lease = lease_of(self.plane.tags(said[f"{kind.name}Arn"]))
        if lease is None or lease.run != self.run:
            if self.plane.describe(kind, self.name) is None:  # it went, and its tags with it
                return None
            raise NotOursError(kind, self.name, self.plane.region)
        status = said.get(f"{kind.name}Status", "there")
        if status != "Deleting":
            with suppress(BusyError):
                self.plane.delete(kind, self.name)
        return f"it is {status}"

    def _left(self, kind: Kind, reason: str) -> StillThereError:
        return StillThereError(kind, self.name, self.plane.region, self.bills, reason)


def passes(error: LLMPerfError) -> bool:
    """Return whether a later try may succeed."""
    if isinstance(error, AwsError):
        return error.code.startswith(_PASSING)
    return isinstance(error, UnreachableError)
