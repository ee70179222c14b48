"""From nothing to an endpoint in service, watched; or why not."""

import time
from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread
from attrs import define, field, frozen

from llmperf_core.errors import LLMPerfError, StartError
from llmperf_core.signs import SERVER_FAILURES, Failure, failure_in
from llmperf_sagemaker.account import AwsError
from llmperf_sagemaker.holding import Held
from llmperf_sagemaker.log_lines import log_group_of
from llmperf_sagemaker.logs import Log
from llmperf_sagemaker.plane import COMPONENT, ENDPOINT, Kind
from llmperf_sagemaker.redaction import redacted
from llmperf_sagemaker.removal import passes, pauses
from llmperf_sagemaker.wanted import Wanted

_KEPT_LINES = 400
_LAST_LINES = 6
_SHOWN = 72

# Source: messages of CreateEndpoint and `FailureReason`s of DescribeEndpoint, as AWS's forum and
# issues of its samples quote them.
AWS_FAILURES = (
    Failure(
        r"ResourceLimitExceeded|account-level service limit",
        "the account's quota for this instance type is too small",
        "ask for more: Service Quotas, Amazon SageMaker, '… for endpoint usage'",
    ),
    Failure(
        r"(?i)InsufficientInstanceCapacity|insufficient capacity|requested ML compute capacity",
        "AWS has no instance of this type free there at the moment",
        "try later, in another region, or with another type",
    ),
    Failure(
        r"(?i)CannotPull|pull(ing)? .*image|image .*(not found|does not exist|not exist)"
        r"|not authorized to .*ecr|repository .* (not found|does not exist)|manifest unknown",
        "the image cannot be pulled",
        "check its name, its region, and that the execution role may read its repository",
    ),
    Failure(
        r"(?i)could not access model data|model data .*(not found|does not exist)|NoSuchKey",
        "the weights in S3 cannot be read",
        "check the prefix, and that the execution role may read it",
    ),
    Failure(
        r"AccessDenied|is not authorized to perform",
        "AWS does not permit it",
        "see docs/sagemaker.md for the permissions that it needs",
    ),
)
_UNHEALTHY = Failure(
    r"(?i)health check",
    "the container was not ready in time",
    "allow it more with startup_s (at most 3600), or see its log for why it did not come up",
)


@frozen(kw_only=True)
class Watch:
    """How a bring-up is watched, and by whom."""

    name: str
    """What errors call it."""
    limit_s: float
    report: Callable[[str], None]
    secret: str | None = field(default=None, repr=False)
    """What must not be shown, though a server may print it."""

    def hide(self, text: str) -> str:
        """Return a text without secrets."""
        return redacted(text.replace(self.secret, "***") if self.secret else text)


async def serving(held: Held, wanted: Wanted, watch: Watch) -> float:
    """Create everything and wait until it is in service; return how many seconds that took.

    Raises:
        StartError: it failed, or was not in service in time.
        LLMPerfError: AWS cannot be asked.
    """
    began_s = time.monotonic()
    watch.report("creating")
    try:
        with anyio.fail_after(watch.limit_s):
            await anyio.to_thread.run_sync(held.write_note)
            # One by one, so that it can be given up before what bills is there.
            for kind, asked in wanted.requests.items():
                await anyio.to_thread.run_sync(held.create, kind, asked)
                if kind in (ENDPOINT, COMPONENT):
                    await _in_service(held, kind, watch)
    except AwsError as error:
        # What it was made from may be quoted in the message, and shown with its cause.
        raise StartError(watch.name, why_failed(watch.hide(str(error)), [])) from None
    except TimeoutError:
        raise StartError(
            watch.name,
            f"it was not in service after {watch.limit_s:g} s, and is given up; startup_s and "
            "provision_s allow it more",
        ) from None
    return time.monotonic() - began_s


async def _in_service(held: Held, kind: Kind, watch: Watch) -> None:
    name = held.note.name
    group = log_group_of(name, name if kind is COMPONENT else None)
    log = await anyio.to_thread.run_sync(Log.of, held.note.account, group)
    bringup = _BringUp(log, watch)
    for pause_s in pauses():
        # First its state and then its log: so the last lines of one that failed are there.
        try:
            said = await anyio.to_thread.run_sync(held.describe, kind)
        except LLMPerfError as error:
            # What is coming up is not given up for a moment's trouble.
            if not passes(error):
                raise
            watch.report(watch.hide(str(error)))
            await anyio.sleep(pause_s)
            continue
        await bringup.hear()
        status = said.get(f"{kind.name}Status", "unknown")
        bringup.report(f"{kind.words}: {status}")
        if status == "InService":
            return
        if status not in {"Creating", "Updating"}:
            reason = watch.hide(said.get("FailureReason") or f"it is {status}")
            raise StartError(watch.name, why_failed(reason, bringup.lines))
        await anyio.sleep(pause_s)


@define
class _BringUp:
    """One container that comes up somewhere."""

    log: Log
    watch: Watch
    lines: list[str] = field(factory=list)
    """The last lines of its log."""

    async def hear(self) -> None:
        new = await anyio.to_thread.run_sync(self.log.new_lines)
        self.lines += map(self.watch.hide, new)
        del self.lines[:-_KEPT_LINES]

    def report(self, state: str) -> None:
        latest = f" · {self.lines[-1][:_SHOWN]}" if self.lines else ""
        self.watch.report(f"{state}{latest}")


def why_failed(reason: str, lines: Sequence[str]) -> str:
    """Return why a deployment failed and what to do, in one line with the log's last lines.

    Args:
        reason: what SageMaker says.
        lines: the end of the container's log, which says more than SageMaker, if it does.
    """
    failure = (
        failure_in([reason], AWS_FAILURES)
        or failure_in(lines, SERVER_FAILURES)
        or failure_in([reason], [_UNHEALTHY])
    )
    wrote = f"; it wrote: {' | '.join(lines[-_LAST_LINES:])}" if lines else ""
    if failure is None:
        return f"{reason}{wrote}"
    return f"{failure.cause} ({reason.rstrip('.')}){wrote}; {failure.advice}"
