"""Who may have something that can outlive its process, until when, and the notes of such things.

A note is written before a thing is made and forgotten once that is gone. What is written on the
thing itself (a container's labels, an endpoint's tags) says whose it is, where a note is lost.
"""

import getpass
import json
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import frozen


@frozen(kw_only=True)
class Lease:
    """Who may have something, and until when. Its words may be a tag of any cloud."""

    run: str
    """Unique; lower-case letters and digits."""
    owner: str
    host: str
    pid: int
    born: str
    """When the process started, in the kernel's ticks: a number is given to many processes."""
    expires: str
    """ISO 8601, UTC."""

    @classmethod
    def new(cls, lifetime_s: float) -> "Lease":
        """Return a lease of this process that ends after a lifetime."""
        return cls(
            run=secrets.token_hex(6),
            owner=_user(),
            host=_host(),
            pid=os.getpid(),
            born=_born(os.getpid()),
            expires=(datetime.now(UTC) + timedelta(seconds=lifetime_s)).isoformat(
                timespec="seconds"
            ),
        )

    @property
    def words(self) -> Mapping[str, str]:
        """All that it says, as text by name."""
        return {
            "run": self.run,
            "owner": self.owner,
            "host": self.host,
            "pid": str(self.pid),
            "born": self.born,
            "expires": self.expires,
        }

    @classmethod
    def of(cls, words: Mapping[str, str]) -> "Lease":
        """Return the lease that words tell; what is missing of them makes one that is over.

        Raises:
            KeyError: they do not even name a run.
        """
        said = {name: words.get(name, "") for name in ("owner", "host", "born", "expires")}
        pid = words.get("pid", "")
        return cls(run=words["run"], pid=int(pid) if pid.isdecimal() else 0, **said)

    @property
    def why_expired(self) -> str | None:
        """Why its time is over; None if it is not."""
        return f"it expired at {self.expires}" if self.expires < now() else None

    @property
    def why_over(self) -> str | None:
        """Why what it is for may be removed; None if it may not."""
        # Another user's process may be hidden from us: their things go when they expire.
        is_ours = (self.owner, self.host) == (_user(), _host())
        if is_ours and not _lives(self.pid, self.born):
            return f"process {self.pid}, which made it, has ended"
        return self.why_expired


@frozen
class Notes:
    """The notes of one kind of things, under `$XDG_STATE_HOME`, else `~/.local/state`."""

    kind: str

    @property
    def folder(self) -> Path:
        """Where they are; it may not be there yet."""
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "llmperf" / self.kind

    def write(self, run: str, said: Mapping[str, str]) -> Path:
        """Keep a note of what is about to be made, so that it outlives any crash.

        Raises:
            OSError: it cannot be kept.
        """
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        path = self._path(run)
        with path.open("x") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        # The name in the folder must last, too.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return path

    def read(self) -> Iterator[tuple[Path, Mapping[str, str]]]:
        """Yield what is noted. One that a crash cut short came before anything was made: it goes.

        What it says is text by name, whatever else a note of an earlier version may hold.
        """
        for path in sorted(self.folder.glob("*.json")):
            try:
                said = json.loads(path.read_text())
                words = {str(name): str(word) for name, word in said.items()}
            except (OSError, ValueError, AttributeError):
                path.unlink(missing_ok=True)
                continue
            yield path, words

    def forget(self, run: str) -> None:
        """Delete the note of what is gone."""
        self._path(run).unlink(missing_ok=True)

    def _path(self, run: str) -> Path:
        return self.folder / f"{run}.json"


def now() -> str:
    """Return the time as a lease says it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _host() -> str:
    """Return a name for where a process id means the same process."""
    name = socket.gethostname()
    with suppress(OSError):
        name = f"{name} {Path('/proc/self/ns/pid').readlink()}"
    return _tag(name)


def _user() -> str:
    try:
        return _tag(getpass.getuser())
    except (OSError, KeyError):  # no name for this user id
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _tag(text: str) -> str:
    """Return a text with what may stand in a tag: AWS takes no brackets, for one."""
    return re.sub(r"[^\w .:/=+@-]", "_", text)[:128]


def _born(pid: int) -> str:
    """Return when a process started; empty where the system does not say, or it has ended."""
    try:
        # Source: proc(5), /proc/pid/stat: (22) starttime, (3) state; the name may hold spaces.
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if after_name[0] == "Z" else after_name[19]


def _lives(pid: int, born: str) -> bool:
    if Path("/proc/self/stat").exists():
        return bool(born) and _born(pid) == born
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
