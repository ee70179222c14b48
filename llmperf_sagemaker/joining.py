"""Where the time of a run's requests went: what AWS recorded of it, joined to what we did.

It comes minutes later, so it is asked when the run is over. It becomes telemetry of the stages:
`server` from the log of TGI's containers; `gateway`, `gpus` and `host` from CloudWatch.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import anyio
from anyio import to_thread
from attrs import evolve, field, fields, frozen
from attrs.validators import min_len

from llmperf_core.errors import DecodeError, UsageError
from llmperf_core.results import Run, StageResult, load_run
from llmperf_core.run.folder import stage_folders
from llmperf_core.telemetry import Telemetry
from llmperf_core.timeline import Window
from llmperf_sagemaker.cloudwatch import Minute, published, whole_minutes
from llmperf_sagemaker.container_log import Success, success_of
from llmperf_sagemaker.instances import instance_types
from llmperf_sagemaker.log_lines import log_group_of, log_lines
from llmperf_sagemaker.recorded import RunClock, gateway_samples, machine_samples, server_samples

if TYPE_CHECKING:
    import boto3

    from llmperf_sagemaker.account import Account

T = TypeVar("T")

_POLL_S = 15.0
_LATE = timedelta(minutes=1)
"""A line may be taken in so long after it was written."""


@frozen(kw_only=True)
class Served:
    """The endpoint that a run was of.

    Raises:
        ValueError: it has no name.
    """

    endpoint: str = field(validator=min_len(1))
    variant: str = "AllTraffic"
    component: str | None = None
    """The inference component that was asked, where the endpoint has some."""
    instance_type: str | None = None
    """By which its GPUs are known: CloudWatch adds up how busy they are."""

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the endpoint that a run says it was of.

        Raises:
            UsageError: it does not say so.
        """
        server = run.spec.endpoint.get("server")
        said = server if isinstance(server, Mapping) else {}
        if said.get("engine") != "SageMaker":
            raise UsageError(
                f"{run.spec.target} does not say which endpoint of SageMaker it was; name it: "
                "endpoint=Served(endpoint=…)"
            )
        names = [attribute.name for attribute in fields(cls)]
        return cls(**{name: str(said[name]) for name in names if name in said})


async def server_side(
    run: Run | Path | str,
    *,
    endpoint: Served | None = None,
    account: "Account | boto3.Session | None" = None,
    wait_s: float = 300.0,
) -> Run:
    """Return a run with what AWS recorded of its stages, judged anew.

    What AWS does not tell, or not yet, is said where the telemetry says what its meters are.

    Args:
        run: a run; or its folder, in which it is then kept, too.
        endpoint: what it was of; None takes what the run says.
        account: the `Account`, or a session of boto3, whose region it was in; None likewise.
        wait_s: how long after a stage's end what is missing is waited for.

    Raises:
        StoredRunError: the folder cannot be read or written.
        UsageError: the run does not say what it was of.
    """
    known = run if isinstance(run, Run) else load_run(run)
    served = endpoint or Served.of(known)
    asked = account or _account_of(known)
    stages = [
        await _Asking(stage, served, asked).joined(wait_s) if _has_time_of_day(stage) else stage
        for stage in known.stages
    ]
    if not isinstance(run, Run):
        for folder, stage in zip(stage_folders(Path(run)), stages, strict=True):
            stage.keep_telemetry(folder)
    return evolve(known, stages=tuple(stages))


def _account_of(run: Run) -> "Account":
    """Return the user's account in the region that a run was in."""
    from llmperf_sagemaker.account import Account

    server = run.spec.endpoint.get("server")
    region = server.get("region") if isinstance(server, Mapping) else None
    return Account(region=None if region is None else str(region))


def _has_time_of_day(stage: StageResult) -> bool:
    """Return whether it is known when a stage was: not if a crash cut it off."""
    return stage.spec.source is None and bool(stage.observation.started_at)


class _Asking:
    """One stage, about which AWS is asked."""

    def __init__(
        self, stage: StageResult, served: Served, account: "Account | boto3.Session"
    ) -> None:
        self._stage, self._served, self._account = stage, served, account
        self._clock = RunClock(datetime.fromisoformat(stage.observation.started_at))
        self._window = stage.summary.window
        self._open_at = self._clock.wall(self._window.open_at_ns)
        self._close_at = self._clock.wall(self._window.close_at_ns)

    async def joined(self, wait_s: float) -> StageResult:
        """Return the stage with what AWS recorded of it."""
        minutes, missing = await self._minutes(wait_s)
        answers, silence = await _in_thread(self._answers)
        log = silence if answers is None else answers.missing
        known = instance_types().get(self._served.instance_type or "")
        gpus = 0 if known is None else known.gpus
        samples = [
            *server_samples(answers.ended if answers else (), self._clock, self._window),
            *gateway_samples(minutes, self._clock),
            *machine_samples(minutes, self._clock, self._window, gpus=gpus),
        ]
        unknown = "" if gpus else "; how many is not known, name the instance type"
        meters = {
            "server": f"TGI, by its container's log{log}",
            "gateway": f"SageMaker, by CloudWatch{missing}",
            "gpus": f"GPUs, by CloudWatch{unknown}",
            "host": "the instance, by CloudWatch",
        }
        return self._stage.with_telemetry(Telemetry(meters=meters, samples=tuple(samples)))

    async def _minutes(self, wait_s: float) -> tuple[Sequence[Minute], str]:
        """Return what is published of the window's minutes, and what is missing of it.

        It is all there once CloudWatch has counted as many requests as we had answers.
        """
        answered, ended = self._counts()
        ended_at = self._clock.wall(self._stage.observation.ended_at_ns)
        ask = partial(
            published,
            self._account,
            endpoint=self._served.endpoint,
            variant=self._served.variant,
            open_at=self._open_at,
            close_at=self._close_at,
        )
        while True:
            minutes, missing = await _in_thread(ask)
            if minutes is None:
                return (), missing
            counted = sum(minute.values.get("invocations", 0.0) for minute in minutes)
            if counted >= answered:
                others = f"; {counted - ended:,.0f} of its requests are not of this stage"
                return minutes, others if counted > ended else ""
            left_s = (ended_at - datetime.now(UTC)).total_seconds() + wait_s
            if left_s <= 0:
                return minutes, f"; it counted {counted:,.0f} of our {answered:,} answers"
            await anyio.sleep(min(_POLL_S, left_s))

    def _counts(self) -> tuple[int, int]:
        """Return how many answers we had, and how many requests ended, in the whole minutes."""
        first, end = whole_minutes(self._open_at, self._close_at)
        touched = Window(open_at_ns=self._clock.at_ns(first), close_at_ns=self._clock.at_ns(end))
        inside = [timeline for timeline in self._stage.timelines if timeline.ended_at_ns in touched]
        return sum(timeline.completed for timeline in inside), len(inside)

    def _answers(self) -> "_Answers":
        """Return the answers of the window, by the log. Blocks."""
        ended, unreadable = [], 0
        lines = log_lines(
            self._account,
            log_group_of(self._served.endpoint, self._served.component),
            variant=self._served.variant,
            open_at=self._open_at,
            close_at=self._close_at + _LATE,
        )
        for taken_at, line in lines:
            try:
                said = success_of(line)
            except DecodeError:
                unreadable += 1
                continue
            if said is not None and self._open_at <= (at := said.at or taken_at) < self._close_at:
                ended.append((at, said))
        missing = f"; {unreadable} lines of answers cannot be read" if unreadable else ""
        return _Answers(ended, missing or ("" if ended else "; it has no line of an answer"))


@frozen
class _Answers:
    """What the log says of the answers of a window."""

    ended: list[tuple[datetime, Success]]
    """When each ended, and its timings."""
    missing: str


async def _in_thread(ask: Callable[[], T]) -> tuple[T | None, str]:
    """Return what AWS says, or None and why it does not."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return await to_thread.run_sync(ask, abandon_on_cancel=True), ""
    except ClientError as error:
        return None, f"; AWS refused: {error.response['Error']['Code']}"
    except BotoCoreError as error:
        return None, f"; AWS could not be asked: {type(error).__name__}"
