"""A study that is killed and resumed measures what an undisturbed one does, and nothing twice.

What was measured is counted by the servers that were asked, not by what the study says of itself.
By default it is killed a few times, at places that the seed says; `LLMPERF_KILLS` says how often.
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread
import pytest
from anyio.abc import Process
from attrs import Factory, define

from llmperf_core.studies import CellResult, load_study, read_study
from llmperf_core.studies.folder import done_cells
from tests.scripted import END, HEAD, Peer, answer, chunk, serving, tgi_last, tgi_token

KILLS = int(os.environ.get("LLMPERF_KILLS", "4"))
REQUESTS = 4
TARGETS = 2
PATIENCE_S = 120.0
TAG = "LLMPERF_TEST_TAG"
STUDY = """
workload = {{ kind = "fixed", text = "Write of llamas", max_new_tokens = 3 }}
loads = [{{ kind = "concurrency", slots = [1, 2] }}]
targets = {targets}

[settings]
requests = {requests}
warmup_s = 0
drain_s = 5
telemetry = false
"""


@define
class Asked:
    """A server of TGI that notes the prompts that it was asked, in order."""

    prompts: list[str] = Factory(list)

    async def play(self, peer: Peer) -> None:
        """Answer each request of a connection, three tokens to a prompt."""
        while True:
            request = await peer.request()
            if request.startswith(b"GET"):
                await peer.send(answer(b'{"model_id":"llama","max_total_tokens":4096}'))
                continue
            self.prompts.append(json.loads(request.partition(b"\r\n\r\n")[2])["inputs"])
            await peer.send(HEAD)
            for event in (tgi_token(), tgi_token(), tgi_last(3)):
                await anyio.sleep(0.02)
                await peer.send(chunk(event))
            await peer.send(END)


def tagged(tag: str) -> list[int]:
    """Return the processes that have the tag in their environment."""
    wanted = f"{TAG}={tag}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds; a test that would hang fails."""
    with anyio.fail_after(PATIENCE_S):
        while not await anyio.to_thread.run_sync(condition):  # noqa: ASYNC110 -- others make it true
            await anyio.sleep(0.02)


def progress(out: Path) -> int:
    """Return how far a study has come: its files, and the requests in them."""
    files = list(out.rglob("*"))
    lines = sum(path.read_bytes().count(b"\n") for path in files if path.suffix == ".jsonl")
    return len(files) + lines


@asynccontextmanager
async def studying(file: Path, out: Path, tag: str, *options: str) -> AsyncIterator[Process]:
    """Run a study in a process of its own; what is left of it is killed."""
    command = [sys.executable, "-P", "-m", "llmperf_core", "study", str(file), "--out", str(out)]
    async with await anyio.open_process(
        [*command, "--quiet", "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, TAG: tag},
    ) as process:
        yield process
        if process.returncode is None:
            process.kill()


@asynccontextmanager
async def servers(count: int) -> AsyncIterator[tuple[list[str], list[Asked]]]:
    """Serve several targets; yield their URLs, and what each was asked."""
    asked = [Asked() for _ in range(count)]
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(one.play)) for one in asked]
        yield urls, asked


def owners_in(file: Path) -> list[dict[str, str]]:
    """Return for each target the cells that its prompts belong to."""
    study = read_study(file)
    return [
        {
            prompt.text: cell.id
            for cell in study.question.cells(entry.name, entry.describe())
            for prompt in islice(study.workload.prompts(cell.seed), REQUESTS)
        }
        for entry in study.targets
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
async def test_a_study_killed_anywhere_measures_each_cell_once(tmp_path: Path) -> None:
    """The same cells, none of them again once it is there, and no process left."""
    random, killed = Random(20), 0  # noqa: S311 -- chance, not secrecy
    while killed < KILLS:
        life = tmp_path / f"{killed}"
        life.mkdir()
        async with servers(TARGETS) as (urls, asked):
            # One that is brought up is among them: its server must go, too.
            targets = json.dumps([*urls, "sim:llama-2-7b@ml.g5.12xlarge?decode=0.1"])
            (life / "study.toml").write_text(STUDY.format(targets=targets, requests=REQUESTS))
            killed += await live_and_die(life, asked, random, KILLS - killed)


async def live_and_die(life: Path, asked: list[Asked], random: Random, at_most: int) -> int:
    """Kill a study until it is done, or often enough; finish it, and look what was asked."""
    file, out, tag = life / "study.toml", life / "out", uuid.uuid4().hex
    owners, killed = owners_in(file), 0
    done: set[str] = set()
    while killed < at_most and done != all_cells(file):
        seen = [len(server.prompts) for server in asked]
        await kill_somewhere(file, out, tag, random)
        killed += 1
        refuse_again(done, seen, asked, owners)
        done = done_cells(out)
    seen = [len(server.prompts) for server in asked]
    async with studying(file, out, tag, "--resume") as process:
        assert process.stderr is not None
        assert b"".join([piece async for piece in process.stderr]) == b""
        await process.wait()
    await until(lambda: not tagged(tag))
    refuse_again(done, seen, asked, owners)
    for server, its_owners in zip(asked, owners, strict=False):
        assert set(server.prompts) == set(its_owners)

    undisturbed = await read_study(file).arun(life / "undisturbed")
    resumed = load_study(out)
    assert not resumed.missing
    assert [cell.id for cell in resumed.cells] == [cell.id for cell in undisturbed.cells]
    assert {requests_of(cell) for cell in (*resumed.cells, *undisturbed.cells)} == {REQUESTS}
    stages = [s for target in resumed.targets for run in target.runs for s in run.stages]
    complete = Counter(stage.cell for stage in stages if not stage.observation.interrupted)
    assert set(complete.values()) == {1}
    return killed


def refuse_again(
    done: set[str], seen: list[int], asked: list[Asked], owners: list[dict[str, str]]
) -> None:
    """Fail if a server was asked what belongs to a cell that was there already."""
    for server, before, its_owners in zip(asked, seen, owners, strict=False):
        assert not done & {its_owners[prompt] for prompt in server.prompts[before:]}


def requests_of(cell: CellResult) -> int:
    """Return how many requests of a cell were answered."""
    assert cell.stage is not None
    return cell.stage.summary.requests.completed


def all_cells(file: Path) -> set[str]:
    """Return the addresses of all cells of a study."""
    study = read_study(file)
    return {
        cell.id
        for entry in study.targets
        for cell in study.question.cells(entry.name, entry.describe())
    }


async def kill_somewhere(file: Path, out: Path, tag: str, random: Random) -> None:
    """Run the study, kill it when it has come so far as chance says, and see that nothing is left.

    How far is counted in files and lines, so that it may be anywhere, however fast the machine is.
    """
    enough = progress(out) + random.randrange(1, 25)
    options = ["--resume"] if (out / "study.json").exists() else []
    async with studying(file, out, tag, *options) as process:
        await until(lambda: progress(out) >= enough or process.returncode is not None)
        await anyio.sleep(random.uniform(0, 0.1))
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await until(lambda: not tagged(tag))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
async def test_ctrl_c_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    """What was measured until then is kept, nothing runs on, and the rest can be resumed."""
    tag = uuid.uuid4().hex
    file, out = tmp_path / "study.toml", tmp_path / "out"
    async with servers(1) as (urls, asked):
        file.write_text(STUDY.format(targets=json.dumps(urls), requests=100))
        async with studying(file, out, tag) as process:
            await until(lambda: len(asked[0].prompts) > 110)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            said = b"".join([piece async for piece in process.stderr])
            assert await process.wait() == 130
        await until(lambda: not tagged(tag))

        assert b"interrupted; go on with --resume" in said
        assert len(done_cells(out)) == 1
        journal = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
        assert [event["event"] for event in journal] == ["begun", "gone"]
        [run] = load_study(out)[urls[0]].runs
        assert [stage.observation.interrupted for stage in run.stages] == [False, True]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
async def test_another_machine_goes_on(tmp_path: Path) -> None:
    """The folder is all that it needs, wherever it is."""
    tag = uuid.uuid4().hex
    file, out = tmp_path / "study.toml", tmp_path / "out"
    async with servers(1) as (urls, asked):
        file.write_text(STUDY.format(targets=json.dumps(urls), requests=REQUESTS))
        async with studying(file, out, tag) as process:
            await until(lambda: done_cells(out))
            process.kill()
            await process.wait()
        await until(lambda: not tagged(tag))
        done, before = done_cells(out), len(asked[0].prompts)
        (tmp_path / "elsewhere").mkdir()
        moved = out.rename(tmp_path / "elsewhere" / "study")
        async with studying(file, moved, tag, "--resume") as process:
            await process.wait()
        refuse_again(done, [before], asked, owners_in(file))
    assert not load_study(moved).missing
