"""Whenever and however a program is ended that has deployed something, nothing of it is left.

Eight moments of a run, nine ways to end it, two kinds of program. By default a sample is run that
the seed chooses, which meets each moment and each way. With `KILL_ROUNDS=2` all combinations are
run twice, which is 256 runs; `KILL_PART=1/4` is a quarter of them.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from attrs import field, frozen

from llmperf_core import target_of
from llmperf_core.cli import main
from llmperf_core.lease import Notes
from llmperf_sagemaker.testing import Account, FakeSageMaker, Key, RefusedCall, Timing
from tests.sagemaker.mortal import CANCEL, FAIL

pytestmark = pytest.mark.usefixtures("deadline")

SECRETS = ("planted+secret/of/a/key", "planted-session-token", "hf_plantedTokenOfTheHub")
_ROLE = "arn:aws:iam::123456789012:role/llmperf"
_TARGET = (
    "sagemaker-deploy:meta-llama/Llama-2-7b-hf?instance=ml.g5.2xlarge&tgi=1.0.3"
    f"&image=i.example/tgi:tgi1.0.3&max_usd=99&token_env=PLANTED_TOKEN&price=1.5&role={_ROLE}"
)
_PATIENCE_S = 60.0
_MOMENTS = (
    *("begun", "before the model", "after the model", "creating"),
    *("in service", "measuring", "deleting", "config gone"),
)
_WAYS: dict[str, Sequence[int]] = {
    "interrupted": (signal.SIGINT,),
    "interrupted twice": (signal.SIGINT,) * 2,
    "interrupted thrice": (signal.SIGINT,) * 3,
    "terminated": (signal.SIGTERM,),
    "hung up": (signal.SIGHUP,),
    "all at once": (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT),
    "killed": (signal.SIGKILL,),
    "cancelled": (CANCEL, CANCEL),
    "failed": (FAIL,),
}
_KILLED = ("library", "command line")
_LIBRARY_ONLY = ("cancelled", "failed")


@frozen
class Ending:
    """How a program is ended, and when."""

    program: str
    moment: str
    way: str
    delay_s: float
    """How long after the moment."""

    def __str__(self) -> str:
        return f"{self.program}, {self.moment}, {self.way}"


def _all() -> list[tuple[str, str, str]]:
    return [
        (program, moment, way)
        for program, moment, way in itertools.product(_KILLED, _MOMENTS, _WAYS)
        if program == "library" or way not in _LIBRARY_ONLY
    ]


def _sample() -> Iterator[Ending]:
    dice = random.Random(6)  # noqa: S311 -- no secret
    rounds = int(os.environ.get("KILL_ROUNDS", "0"))
    runs = _all() * rounds
    if not rounds:
        ways = [*_WAYS, *dice.sample([way for way in _WAYS if way not in _LIBRARY_ONLY], 3)]
        moments = [*_MOMENTS, *dice.sample(_MOMENTS, len(ways) - len(_MOMENTS))]
        dice.shuffle(moments)
        runs = [
            ("library" if way in _LIBRARY_ONLY or number % 3 else "command line", moment, way)
            for number, (moment, way) in enumerate(zip(moments, ways, strict=True))
        ]
    part, _, parts = os.environ.get("KILL_PART", "1/1").partition("/")
    for number, (program, moment, way) in enumerate(runs):
        delay_s = dice.uniform(0, 0.5 if moment == "begun" else 0.08)
        if number % int(parts) == int(part) - 1:
            yield Ending(program, moment, way, delay_s)


@frozen
class Run:
    """A program that runs, and what can be seen of it from outside."""

    mother: "subprocess.Popen[str]"
    pid: int
    fake: FakeSageMaker
    place: Path
    exit_status: list[int] = field(factory=list)

    def has_come(self, moment: str) -> bool:
        """Return whether a moment of the run has come."""
        kinds, called = self.fake.holds(), [call.operation for call in self.fake.calls]
        return {
            "begun": True,
            "before the model": any((self.place / "state").rglob("*.json")),
            "after the model": "Model" in kinds,
            "creating": "Endpoint" in kinds,
            "in service": "DescribeEndpointConfig" in called,
            "measuring": self._measures,
            "deleting": "DeleteEndpoint" in called,
            "config gone": "DeleteEndpointConfig" in called,
        }[moment]

    @property
    def _measures(self) -> bool:
        journals = self.place.rglob("timelines.jsonl")
        marks = self.place.glob("*.mark")
        return any(path.stat().st_size for path in (*journals, *marks))

    @property
    def said(self) -> str:
        """What it has written to its outputs."""
        return (self.place / "output").read_text()

    def wait(self) -> int:
        """Wait until it has ended; return its exit status."""
        if not self.exit_status:
            assert self.mother.stdout
            self.exit_status.append(int(self.mother.stdout.readline()))
        return self.exit_status[0]


@frozen
class Programs:
    """What the programs come from, and the model server that they measure."""

    mother: "subprocess.Popen[str]"
    server: str

    @contextmanager
    def running(self, place: Path, ending: Ending, *, deleting_s: float = 150) -> Iterator[Run]:
        """Run a program that lasts until the moment of its end at least."""
        # A call that is refused once is asked again by boto3 after up to a second.
        slow = {"before the model": "CreateModel", "after the model": "CreateEndpointConfig"}
        failures = [
            RefusedCall(operation=call, nth=1) for call in [slow.get(ending.moment)] if call
        ]
        with (
            FakeSageMaker(
                serve=lambda _: nullcontext(self.server),
                speed=1000.0,
                timing=Timing(creating_s=400, deleting_s=deleting_s),
                account=Account(
                    keys=(Key(secret=SECRETS[0], token=SECRETS[1]),), prices={"ml.g5.2xlarge": 1.5}
                ),
                failures=failures,
            ) as fake,
            pytest.MonkeyPatch.context() as patch,
        ):
            environment = {
                **fake.environment(),
                "XDG_STATE_HOME": str(place / "state"),
                "PLANTED_TOKEN": SECRETS[2],
            }
            for name, value in environment.items():
                patch.setenv(name, value)
            run = Run(self.mother, self._start(place, ending, environment), fake, place)
            try:
                _until(lambda: run.has_come(ending.moment) or not _lives(run.pid))
                yield run
            finally:
                if not run.exit_status:
                    os.kill(run.pid, signal.SIGKILL)
                    run.wait()

    def _start(self, place: Path, ending: Ending, environment: Mapping[str, str]) -> int:
        ends_by_itself = ending.moment in {"deleting", "config gone"}
        job = {
            "program": ending.program,
            "target": _TARGET,
            "duration_s": "0.05" if ends_by_itself else "60",
            "environment": json.dumps(environment),
            "output": str(place / "output"),
            "folder": str(place / "run"),
        }
        assert self.mother.stdin
        assert self.mother.stdout
        self.mother.stdin.write(json.dumps(job) + "\n")
        self.mother.stdin.flush()
        return int(self.mother.stdout.readline())


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    """Yield what runs the programs, with a simulated TGI that they measure."""
    server = target_of("sim:llama-2-7b@ml.g5.2xlarge").open()
    command = [sys.executable, "-m", "tests.sagemaker.mortal"]
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(server) as endpoint,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        ) as mother,
    ):
        yield Programs(mother, endpoint.base_url)
        assert mother.stdin
        mother.stdin.close()
        mother.wait(_PATIENCE_S)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came about"
        time.sleep(0.004)


def _artefacts(run: Run) -> str:
    """Return all that a run has written anywhere, as one text."""
    files = [path.read_text(errors="replace") for path in run.place.rglob("*") if path.is_file()]
    tags = [json.dumps(call.asked.get("Tags", []), default=str) for call in run.fake.calls]
    return "\n".join([*files, *tags])


@pytest.mark.parametrize("ending", list(_sample()), ids=str)
def test_nothing_is_left(
    programs: Programs, tmp_path: Path, ending: Ending, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it has ended, or after one `llmperf reap` if it was killed, AWS holds and bills nothing.

    Nor is a secret in anything that it has written.
    """
    with programs.running(tmp_path, ending) as run:
        time.sleep(ending.delay_s)
        for number in _WAYS[ending.way]:
            if _lives(run.pid):
                os.kill(run.pid, number)
            time.sleep(ending.delay_s / 4)
        run.wait()
        written = _artefacts(run)
        if ending.way == "killed":
            # What AWS was asked for by then it still does.
            time.sleep(0.1)
            assert main(["reap"]) == 0
        left, usd_per_h, usd = run.fake.holds(), run.fake.usd_per_h, run.fake.usd
        notes = list(Notes("endpoints").folder.glob("*"))
        billed_on = run.fake.usd - usd
    written += capsys.readouterr().out

    assert left == {}, run.said
    assert (usd_per_h, billed_on) == (0, 0)
    assert notes == []
    assert [secret for secret in SECRETS if secret in written] == []


def test_a_program_that_ends_before_its_event_loop(programs: Programs, tmp_path: Path) -> None:
    """A thread that nobody waits for ends nothing; the interpreter's end does."""
    ending = Ending("abandoning", "deleting", "by itself", 0)
    with programs.running(tmp_path, ending) as run:
        status = run.wait()

        assert run.fake.holds() == {}, run.said
        assert status == 0


def test_what_a_kill_leaves_is_listed_first(
    programs: Programs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--dry-run` names it, where it is, what it costs and why it may go, and deletes nothing."""
    with programs.running(tmp_path, Ending("library", "measuring", "killed", 0)) as run:
        assert main(["reap"]) == 0
        alive = capsys.readouterr().out
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        [name] = run.fake.holds()["Endpoint"]
        assert main(["reap", "--dry-run"]) == 0
        listed = capsys.readouterr().out
        held = run.fake.holds()
        assert main(["reap", "--journal"]) == 0
        removed = capsys.readouterr().out
        assert main(["reap"]) == 0

        assert run.fake.holds() == {}
    assert alive == "nothing is left running\n"
    assert f"would remove endpoint (InService) and endpoint-config and model {name}" in listed
    assert f"in us-west-2, 1.5 USD/h: process {run.pid}, which made it, has ended" in listed
    assert "Endpoint" in held
    assert removed == listed.replace("would remove", "removed")


def test_who_interrupts_again_is_told_what_bills(programs: Programs, tmp_path: Path) -> None:
    """And what to do if it has to be killed."""
    ending = Ending("library", "deleting", "interrupted", 0)
    with programs.running(tmp_path, ending, deleting_s=5000) as run:
        for _ in range(3):
            os.kill(run.pid, signal.SIGINT)
            time.sleep(0.01)
        run.wait()

    assert "in us-west-2 is being deleted, and bills 1.5 USD/h until it is gone" in run.said
    assert "if this is killed, run: llmperf reap" in run.said
