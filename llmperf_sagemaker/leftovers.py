"""What a crash may have left in an account: by our notes on this disk, and by tags on everything.

A note is written before the first thing of a deployment is created, and says where to look.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from attrs import define, field, frozen

from llmperf_core.bringup import Price
from llmperf_core.errors import LLMPerfError, UsageError
from llmperf_core.lease import Lease, Notes
from llmperf_core.target import Leftover, Reap
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.defaults import region_of
from llmperf_sagemaker.expiry import Expiry
from llmperf_sagemaker.plane import ENDPOINT, KINDS, Kind, Plane
from llmperf_sagemaker.removal import Removal
from llmperf_sagemaker.wanted import PREFIX, lease_of

NOTES = Notes("endpoints")
# Whoever reaps does not know how long the bring-up may take: SageMaker's own limits of it.
_PATIENCE_S = 3600.0 + 3600.0 + 600.0


@frozen(kw_only=True)
class Note:
    """A deployment that is about to be made, or was."""

    lease: Lease
    name: str
    account: Account
    bills: str
    """What it costs while its endpoint is there."""
    scheduled: bool = False
    """Whether its deletion is scheduled in the cloud, too."""

    def write(self) -> Path:
        """Keep it, so that it outlives any crash.

        Raises:
            OSError: it cannot be kept.
        """
        return NOTES.write(
            self.lease.run,
            {
                **self.lease.words,
                "name": self.name,
                "region": self.account.region or "",
                "profile": self.account.profile or "",
                "bills": self.bills,
                "scheduled": "yes" if self.scheduled else "",
            },
        )

    @classmethod
    def of(cls, words: Mapping[str, str]) -> "Note":
        """Return what a note says.

        Raises:
            KeyError: it says too little to look for anything.
            ValueError: it names what is no region.
        """
        return cls(
            lease=Lease.of(words),
            name=words["name"],
            account=Account(region=words["region"] or None, profile=words["profile"] or None),
            bills=words["bills"],
            scheduled=bool(words.get("scheduled")),
        )


def notes() -> Iterator[Note]:
    """Yield the notes that are there; one that says too little made nothing."""
    for path, words in NOTES.read():
        try:
            yield Note.of(words)
        except (KeyError, ValueError):
            path.unlink(missing_ok=True)


def bills(price: Price | None) -> str:
    """Return what something costs, in words."""
    return "at a price that nobody knows" if price is None else f"{price.usd_per_h:g} USD/h"


@define
class _Found:
    """What is there of one deployment."""

    name: str
    plane: Plane
    note: Note
    kinds: dict[Kind, str] = field(factory=dict)
    """Of each kind that is there, how it stands."""


def left(which: Reap) -> Iterator[Leftover]:
    """Yield the deployments of ours whose time is over, or whose process has ended.

    Where we cannot look, what may be there is one more, which cannot be removed.
    """
    noted: dict[Account, list[Note]] = {}
    for note in notes():
        if _why(note.lease, which):
            noted.setdefault(note.account, []).append(note)
    asked = _searched(which)
    for account in dict.fromkeys([*noted, *asked]):
        by_tags = not which.noted_only and (account in asked or not asked)
        try:
            found = _found(account, noted.get(account, ()), by_tags=by_tags)
        except LLMPerfError as error:
            yield Leftover(
                what=f"whatever llmperf left in {account.region}",
                why="it cannot be looked at",
                remove=partial(_raise, error),
            )
            continue
        for one in found:
            why = _why(one.note.lease, which)
            if one.kinds and why:
                yield Leftover(what=_what(one), why=why, remove=partial(_remove, one))
            elif why:
                NOTES.forget(one.note.lease.run)


def _searched(which: Reap) -> Sequence[Account]:
    """Return where else to look by tags than where something was noted."""
    if which.expired_only and not (which.regions or which.noted_only):
        # Without a region, or without boto3, nobody deploys from here.
        with suppress(UsageError):
            return [Account(region=region_of(Account()))]
    return [Account(region=region) for region in which.regions]


def _found(account: Account, noted: Sequence[Note], *, by_tags: bool) -> Iterable[_Found]:
    """Return what is there of the noted deployments, and of those that tags tell.

    Raises:
        LLMPerfError: we cannot look.
    """
    plane = Plane.of(account)
    found = {note.lease.run: _noted(note, plane) for note in noted}
    if by_tags:
        _add_tagged(found, plane, account)
    return found.values()


def _raise(error: LLMPerfError) -> NoReturn:
    raise error


def _why(lease: Lease, which: Reap) -> str | None:
    return lease.why_expired if which.expired_only else lease.why_over


def _noted(note: Note, plane: Plane) -> _Found:
    """Look for what a note names."""
    found = _Found(note.name, plane, note)
    for kind in KINDS:
        if (said := plane.describe(kind, note.name)) is not None:
            found.kinds[kind] = str(said.get(f"{kind.name}Status", ""))
    return found


def _add_tagged(found: dict[str, _Found], plane: Plane, account: Account) -> None:
    """Add what is tagged as ours in a region, and not noted here."""
    noted = set(found)
    for kind in KINDS:
        for name, arn in plane.all(kind, PREFIX):
            lease = lease_of(plane.tags(arn))
            if lease is None or lease.run in noted:
                continue
            note = Note(lease=lease, name=name, account=account, bills="by the hour")
            one = found.setdefault(lease.run, _Found(name, plane, note))
            one.kinds[kind] = ""


def _what(one: _Found) -> str:
    kinds: Iterable[str] = (
        f"{kind.words} ({status})" if status else kind.words for kind, status in one.kinds.items()
    )
    billing = f", {one.note.bills}" if ENDPOINT in one.kinds else ""
    return f"{' and '.join(kinds)} {one.name} in {one.plane.region}{billing}"


def _remove(one: _Found) -> None:
    note = one.note
    Removal(
        plane=one.plane,
        name=one.name,
        run=note.lease.run,
        bills=note.bills,
        patience_s=_PATIENCE_S,
        report=lambda _: None,
    ).run_to_end()
    if note.scheduled:
        Expiry.of(note.account).cancel(note.name)
    NOTES.forget(note.lease.run)
