"""Whenever and however llmperf is ended, no container of its own is left.

Seven moments of a run, five ways to end it. By default each moment is met once, with a way that the
seed chooses; with `KILL_ROUNDS=2` all pairs are run twice, which is 70 runs.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen
from docker import APIClient

from llmperf_core.cli import main
from llmperf_local.container import leftovers
from tests.docker.conftest import ours
from tests.docker.image import IMAGE
from tests.docker.registry import registry

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("deadline")]

_PATIENCE_S = 60.0
_MOMENTS = ("begun", "pulling", "noted", "created", "loading", "measuring", "ending")
_WAYS = {
    "once": (signal.SIGINT,),
    "twice": (signal.SIGINT, signal.SIGINT),
    "terminated": (signal.SIGTERM,),
    "hung_up": (signal.SIGHUP,),
    "killed": (signal.SIGKILL,),
}


def _sample() -> Iterator[tuple[str, str, float]]:
    """Yield moments, ways, and how many seconds after the moment the way is gone."""
    dice = random.Random(5)  # noqa: S311 -- no secret
    rounds = int(os.environ.get("KILL_ROUNDS", "0"))
    pairs = [*itertools.product(_MOMENTS, _WAYS)] * rounds
    if not rounds:
        ways = dice.sample([*_WAYS, *_WAYS], len(_MOMENTS))
        pairs = list(zip(_MOMENTS, ways, strict=True))
    for moment, way in pairs:
        yield moment, way, dice.uniform(0, 0.15 if moment != "begun" else 1.5)


@frozen
class Run:
    """A run of the command line, and what can be seen of it from outside."""

    process: "subprocess.Popen[str]"
    client: APIClient
    folder: Path

    def has_come(self, moment: str) -> bool:
        """Return whether a moment has come. `pulling` is seen by the registry."""
        if moment == "begun":
            return True
        if moment == "noted":
            return any(leftovers.NOTES.folder.glob("*.json"))
        if moment == "created":
            return bool(ours(self.client))
        if moment == "loading":
            return bool(self.client.containers(filters={"label": leftovers.LABEL}))
        files = {"measuring": "timelines.jsonl", "ending": "summary.json"}
        return any(path.stat().st_size for path in self.folder.rglob(files[moment]))


@contextmanager
def running(client: APIClient, folder: Path, moment: str) -> Iterator[Run]:
    """Run a benchmark that lasts until the moment at least."""
    model = "slow" if moment == "loading" else "works"
    duration_s = 0.3 if moment == "ending" else 600
    with registry() as (slow, slow_image):
        image = slow_image if moment == "pulling" else IMAGE
        target = f"docker:{model}?image={image}&gpus=none&cache=none"
        command = [sys.executable, "-m", "llmperf_core", "bench", target, "--quiet"]
        command += ["--duration", str(duration_s), "--warmup", "0", "--out", str(folder / "run")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        run = Run(process, client, folder)
        try:
            if moment == "pulling":
                assert slow.asked_for_layer.wait(_PATIENCE_S)
            else:
                _until(lambda: run.has_come(moment) or process.poll() is not None)
            yield run
        finally:
            process.kill()
            process.communicate()


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came about"
        time.sleep(0.005)


@pytest.mark.parametrize(("moment", "way", "delay_s"), list(_sample()))
def test_nothing_is_left(
    docker_host: APIClient, tmp_path: Path, moment: str, way: str, delay_s: float
) -> None:
    """After the end, or after `llmperf reap` if nobody could clean up, there is no container."""
    with running(docker_host, tmp_path, moment) as run:
        time.sleep(delay_s)
        for number in _WAYS[way]:
            run.process.send_signal(number)
            time.sleep(delay_s / 4)
        said, _ = run.process.communicate(timeout=_PATIENCE_S)
    # An end before Python listens to signals is a kill, too; then nothing was made yet.
    if way == "killed":
        # What the engine was asked for by then it still does.
        time.sleep(0.3)
        assert main(["reap"]) == 0

    assert ours(docker_host) == [], said
    assert list(leftovers.NOTES.folder.glob("*")) == []


def test_what_a_kill_leaves_is_listed_first(
    docker_host: APIClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--dry-run` names the container and why it may go, and removes nothing."""
    with running(docker_host, tmp_path, "loading") as run:
        [name] = ours(docker_host)
        run.process.kill()
        run.process.wait()

    assert main(["reap", "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert ours(docker_host) == [name]
    assert main(["reap"]) == 0
    removed = capsys.readouterr().out
    assert main(["reap"]) == 0

    assert f"would remove container {name[1:]} (running, {IMAGE}): process" in listed
    assert removed == listed.replace("would remove", "removed")
    assert capsys.readouterr().out == "nothing is left running\n"
    assert ours(docker_host) == []


def test_what_is_in_use_is_not_reaped(docker_host: APIClient, tmp_path: Path) -> None:
    """A run that goes on keeps its container."""
    with running(docker_host, tmp_path, "measuring") as run:
        assert main(["reap"]) == 0
        assert len(ours(docker_host)) == 1
        run.process.send_signal(signal.SIGINT)
        run.process.communicate(timeout=_PATIENCE_S)


def test_what_has_expired_is_reaped(docker_host: APIClient) -> None:
    """Even if its process lives: this one does."""
    lease = leftovers.Lease.at("elsewhere", lifetime_s=-1)
    docker_host.create_container(IMAGE, name=lease.name, labels=dict(lease.labels))

    assert main(["reap"]) == 0

    assert ours(docker_host) == []
