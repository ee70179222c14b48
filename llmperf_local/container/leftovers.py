"""Whose a container is, and what a crash may have left: labels on it, and a note on the disk.

A note is written before a container is made and deleted after it is removed. It says at which
engine to look; the labels on the container say the rest.
"""

import getpass
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import frozen

LABEL = "llmperf.run"
"""The label that every container of ours carries; its value is unique."""


def notes_folder() -> Path:
    """Return where the notes are: under `$XDG_STATE_HOME`, else `~/.local/state`."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "llmperf" / "containers"


@frozen(kw_only=True)
class Lease:
    """Who may have a container, and until when."""

    run: str
    engine: str
    """Where its Docker engine listens."""
    owner: str
    host: str
    pid: int
    born: str
    """When the process started, in the kernel's ticks: a number is given to many processes."""
    expires: str
    """ISO 8601, UTC."""

    @classmethod
    def new(cls, engine: str, lifetime_s: float) -> "Lease":
        """Return a lease of this process that ends after a lifetime."""
        return cls(
            run=secrets.token_hex(6),
            engine=engine,
            owner=_user(),
            host=_host(),
            pid=os.getpid(),
            born=_born(os.getpid()),
            expires=(datetime.now(UTC) + timedelta(seconds=lifetime_s)).isoformat(
                timespec="seconds"
            ),
        )

    @property
    def name(self) -> str:
        """The container's name."""
        return f"llmperf-{self.run}"

    @property
    def labels(self) -> Mapping[str, str]:
        """The container's labels."""
        return {
            LABEL: self.run,
            "llmperf.owner": self.owner,
            "llmperf.host": self.host,
            "llmperf.pid": str(self.pid),
            "llmperf.born": self.born,
            "llmperf.expires": self.expires,
        }

    @classmethod
    def of(cls, engine: str, labels: Mapping[str, str]) -> "Lease":
        """Return the lease that a container's labels tell."""
        said = {name: labels.get(f"llmperf.{name}", "") for name in ("owner", "host", "born")}
        pid = labels.get("llmperf.pid", "")
        return cls(
            run=labels[LABEL],
            engine=engine,
            pid=int(pid) if pid.isdecimal() else 0,
            expires=labels.get("llmperf.expires", ""),
            **said,
        )

    @property
    def why_over(self) -> str | None:
        """Why its container may be removed; None if it may not."""
        # Another user's process may be hidden from us: their containers go when they expire.
        is_ours = (self.owner, self.host) == (_user(), _host())
        if is_ours and not _lives(self.pid, self.born):
            return f"process {self.pid}, which made it, has ended"
        return f"it expired at {self.expires}" if self.expires < now() else None


def write(lease: Lease) -> Path:
    """Keep a note of what is about to be made, so that it outlives any crash."""
    folder = notes_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{lease.run}.json"
    with path.open("x") as file:
        json.dump({"engine": lease.engine, **lease.labels}, file)
        file.flush()
        os.fsync(file.fileno())
    # The name in the folder must last, too.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def now() -> str:
    """Return the time as a lease says it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def notes() -> Iterator[tuple[Path, Lease]]:
    """Yield the notes that are there; one that was cut short by a crash made no container."""
    for path in sorted(notes_folder().glob("*.json")):
        try:
            said = json.loads(path.read_text())
            lease = Lease.of(said["engine"], said)
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
            continue
        yield path, lease


def _host() -> str:
    """Return a name for where a process id means the same process."""
    with suppress(OSError):
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user id
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


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
