"""One deployment of ours: created, watched, and deleted whatever becomes of us."""

import atexit
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.to_thread
from attrs import define, field

from llmperf_core.errors import HarnessError, LLMPerfError
from llmperf_core.interrupts import heeded, reminding, tell
from llmperf_sagemaker.expiry import Expiry
from llmperf_sagemaker.leftovers import NOTES, Note
from llmperf_sagemaker.plane import (
    ENDPOINT,
    AlreadyThereError,
    Kind,
    MissingError,
    Plane,
)
from llmperf_sagemaker.removal import Removal, pauses
from llmperf_sagemaker.wanted import lease_of

_CONFIG_STALE_S, _REPORT_EVERY_S = 60.0, 1.0


@define
class Held:
    """At most one deployment, which is gone once `end` was called.

    Its methods block, so they run in threads; one at a time has the lock. So `end` waits for a
    creation that is under way, however the task that waits for that was cancelled.
    """

    note: Note
    patience_s: float
    """How long the endpoint may refuse to be deleted."""
    expiry_role: str | None = field(default=None, repr=False)
    left: LLMPerfError | None = None
    """Why something is left after `end`."""
    state: str = ""
    """How the deletion stands."""
    billed_s: float = 0.0
    """How long the endpoint was there, once it is gone."""
    _plane: Plane | None = None
    _began_s: float | None = None
    _noted: bool = False
    _ended: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def bills(self) -> bool:
        """Whether there may be an endpoint."""
        return self._began_s is not None

    @property
    def reminder(self) -> str:
        """What whoever ends us once more has to know."""
        return (
            f"endpoint {self.note.name} in {self.note.account.region} is being deleted, and bills "
            f"{self.note.bills} until it is gone; if this is killed, run: llmperf reap"
        )

    def connect(self) -> None:
        """Get ready to ask SageMaker; the other methods need it.

        Raises:
            LLMPerfError: boto3, credentials or the region are missing.
        """
        with self._lock:
            if not self._ended:
                self._plane = Plane.of(self.note.account)

    def write_note(self) -> None:
        """Note on the disk what is about to be created, and schedule its end if that is asked for.

        Raises:
            LLMPerfError: it cannot be kept, or AWS refuses the schedule.
        """
        with self._asking():
            try:
                self.note.write()
            except OSError as error:
                raise HarnessError(
                    f"no note of the endpoint can be kept ({error}), so nothing was created; set "
                    "XDG_STATE_HOME to a folder that can be written"
                ) from error
            self._noted = True
            if self.expiry_role is not None:
                schedules = Expiry.of(self.note.account)
                schedules.set(self.note.name, self.note.lease.expires, self.expiry_role)

    def create(self, kind: Kind, asked: Mapping[str, Any]) -> None:
        """Create one resource; if an earlier try whose answer was lost has, that is as good.

        Raises:
            LLMPerfError: there is no note, AWS refuses, or it does not answer. What it has created
                by then is `end`'s to delete.
        """
        with self._asking() as plane:
            if not self._noted:
                raise HarnessError("nothing is created that is not noted")
            if kind is ENDPOINT:
                self._began_s = time.monotonic()
            try:
                _patiently(plane, kind, asked)
            except AlreadyThereError:
                said = plane.describe(kind, self.note.name) or {}
                lease = lease_of(plane.tags(said.get(f"{kind.name}Arn", "")))
                if lease is None or lease.run != self.note.lease.run:
                    raise

    def describe(self, kind: Kind) -> Mapping[str, Any]:
        """Return what SageMaker says of the endpoint, or of the component."""
        with self._asking() as plane:
            return plane.describe(kind, self.note.name) or {}

    def end(self) -> None:
        """Delete everything, in whatever state it is; never raises. `left` says what failed."""
        with self._lock:
            self._ended = True
            # In a fork of ours that ends, it is none of its business.
            is_ours = os.getpid() == self.note.lease.pid
            if self._plane is None or not (self._noted and is_ours):
                return
            try:
                self._remove(self._plane)
            except LLMPerfError as error:
                self.left = error

    def _remove(self, plane: Plane) -> None:
        Removal(
            plane=plane,
            name=self.note.name,
            run=self.note.lease.run,
            bills=self.note.bills,
            patience_s=self.patience_s,
            report=self._be_told,
        ).run_to_end()
        if self._began_s is not None:
            self.billed_s = time.monotonic() - self._began_s
        if self.note.scheduled:
            Expiry.of(self.note.account).cancel(self.note.name)
        NOTES.forget(self.note.lease.run)
        self._noted = False

    def _be_told(self, state: str) -> None:
        self.state = state

    @contextmanager
    def _asking(self) -> Iterator[Plane]:
        """Yield the control plane, to one at a time, and to none after the end."""
        with self._lock:
            if self._ended or self._plane is None:
                raise HarnessError("the deployment has been given up")
            yield self._plane


@asynccontextmanager
async def held(it: Held, report: Callable[[str], None]) -> AsyncIterator[Held]:
    """Yield what can hold one deployment, and delete that on every way out.

    Raises:
        StillThereError: something could not be deleted.
        LLMPerfError: boto3, credentials or the region are missing.
    """
    async with heeded():
        # For a program that ends without waiting for its event loop.
        atexit.register(it.end)
        try:
            await anyio.to_thread.run_sync(it.connect)
            yield it
        except BaseException:
            if it.bills:
                tell(it.reminder)
            raise
        finally:
            with reminding(it.reminder):
                await _ended(it, report)
            atexit.unregister(it.end)


async def _ended(it: Held, report: Callable[[str], None]) -> None:
    """Delete everything, and do not return before, however often the task is cancelled."""
    # Not a task: nothing cancels a thread, and the interpreter waits for it before it exits.
    ending = threading.Thread(target=it.end, name="llmperf-end")
    ending.start()
    cancelled: BaseException | None = None
    while ending.is_alive():
        try:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(ending.join, _REPORT_EVERY_S)
            report(f"deleting: {it.state}")
        except anyio.get_cancelled_exc_class() as error:
            # What cancels a task itself pierces the shield.
            cancelled = error
    if it.left is not None:
        raise it.left
    if cancelled is not None:
        raise cancelled


def _patiently(plane: Plane, kind: Kind, asked: Mapping[str, Any]) -> None:
    """Create it; what has just been created may not be found at once.

    Source: API reference of CreateEndpoint, on eventually consistent reads.
    """
    until_s = time.monotonic() + _CONFIG_STALE_S
    for pause_s in pauses():
        try:
            plane.create(kind, asked)
        except MissingError:
            if time.monotonic() > until_s:
                raise
            time.sleep(pause_s)
        else:
            return
