"""Whose a container is, when it may go, and the notes that outlive a crash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from llmperf_core.errors import UnreachableError
from llmperf_local.container import leftovers
from llmperf_local.container.backend import backend
from llmperf_local.container.leftovers import Lease


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have notes of our own and no Docker engine; return where there is none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    return f"unix://{tmp_path}/none"


def lease(lifetime_s: float = 60.0, engine: str = "unix:///x") -> Lease:
    """Return a lease of this process."""
    return Lease.at(engine, lifetime_s)


def test_labels_tell_the_whole_lease() -> None:
    """Another process reads from them whose a container is."""
    mine = lease()

    assert Lease.told(mine.engine, mine.labels) == mine
    assert mine.pid == os.getpid()
    assert mine.name == f"llmperf-{mine.run}"


def test_a_lease_of_a_living_process_is_not_over() -> None:
    """Until it expires."""
    assert lease().why_over is None
    assert "it expired at" in (lease(-2).why_over or "")


def test_a_lease_of_a_dead_process_is_over() -> None:
    """Whatever its time."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert "has ended" in (evolve(lease(), pid=process.pid).why_over or "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process started")
def test_a_number_that_was_given_anew_is_another_process() -> None:
    """A process id alone says nothing."""
    assert evolve(lease(), born="1").why_over


def test_a_process_of_another_host_counts_until_the_lease_expires() -> None:
    """It cannot be seen from here."""
    theirs = evolve(lease(), host="elsewhere", pid=1, born="1")

    assert theirs.why_over is None
    assert evolve(theirs, expires="2020-01-01T00:00:00+00:00").why_over


def test_another_users_process_counts_until_the_lease_expires() -> None:
    """It may be hidden from us, and then looks dead."""
    theirs = evolve(lease(), owner="somebody", pid=1, born="1")

    assert theirs.why_over is None


def test_a_label_that_is_missing_makes_a_lease_that_is_over() -> None:
    """Whoever removed it, the container is ours by its first label."""
    assert Lease.told("unix:///x", {leftovers.LABEL: "1"}).why_over


def test_a_note_outlives_its_writer() -> None:
    """It is read back as the lease that it was."""
    mine = lease()

    path = leftovers.write(mine)

    assert list(leftovers.notes()) == [(path, mine)]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"engine": "x"}'])
def test_a_note_that_was_cut_short_is_dropped(text: str) -> None:
    """It is written before the container is made, so that never was."""
    leftovers.write(lease()).write_text(text)

    assert list(leftovers.notes()) == []
    assert list(leftovers.NOTES.folder.iterdir()) == []


def test_no_engine_and_no_note_means_nothing_left() -> None:
    """Who never started a container can reap without Docker."""
    assert backend.leftovers() == []


def test_an_engine_that_cannot_be_asked_is_an_error_while_it_may_hold_something(
    nowhere: str,
) -> None:
    """Once all has expired, the note of an engine that is gone goes, too."""
    path = leftovers.write(lease(60, nowhere))
    with pytest.raises(UnreachableError, match="no Docker engine listens there"):
        backend.leftovers()
    path.unlink()

    leftovers.write(lease(-2, nowhere))
    assert backend.leftovers() == []
    assert list(leftovers.NOTES.folder.iterdir()) == []
