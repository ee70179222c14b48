"""A key that is planted wherever one may be, and looked for wherever it must not be."""

import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from attrs import evolve, frozen

from llmperf_core import (
    Concurrency,
    Endpoint,
    Fixed,
    Options,
    Prompt,
    Settings,
    asweep,
    sweep,
    target_of,
)
from llmperf_core.errors import LLMPerfError
from llmperf_core.run.job import Job
from llmperf_core.target import Json, Request
from llmperf_core.testing import ReferenceServer, Script
from llmperf_core.timeline import Failed
from llmperf_core.wire.tgi import Tgi
from tests.scripted import Peer, answer, serving

pytestmark = pytest.mark.usefixtures("deadline")


KEY = "sk-planted-7f3a9c"
TWO = Fixed("Write of llamas", max_new_tokens=2)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the URL of a reference server."""
    with ReferenceServer(Script(first_token_s=0.002, gap_s=0.002)) as server:
        yield server.url


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Options:
    """Return options with a key in a header, and the name of the variable of another."""
    monkeypatch.setenv("PLANTED_KEY", KEY)
    return Options(api_key_env="PLANTED_KEY", headers={"X-Api-Key": KEY})


@frozen
class Fails:
    """A workload that fails in the measuring process."""

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Fail at the second prompt."""
        yield Prompt(text=f"{seed}", max_new_tokens=2)
        raise RuntimeError("no llamas")

    def describe(self) -> Mapping[str, Json]:
        """Return the kind."""
        return {"kind": "fails"}


def settings(folder: Path, *, in_process: bool = False) -> Settings:
    """Return the settings of a brief run that is kept."""
    return Settings(
        duration_s=None, requests=2, warmup_s=0, folder=folder / "run", in_process=in_process
    )


def kept(folder: Path) -> bytes:
    """Return everything that is in a folder's files, and their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return b"".join(str(path).encode() + path.read_bytes() for path in files)


def test_no_file_of_a_run_holds_it(url: str, options: Options, tmp_path: Path) -> None:
    """Neither the key in the header nor that of the variable."""
    sweep(target_of(url, options), [Concurrency(2)], workload=TWO, settings=settings(tmp_path))

    assert KEY.encode() not in kept(tmp_path)


def test_no_object_shows_it(url: str, options: Options, tmp_path: Path) -> None:
    """What is printed, logged or shown by a debugger."""
    target = target_of(url.replace("//", f"//me:{KEY}@"), Options(headers={"X-Api-Key": KEY}))
    endpoint = Endpoint(
        base_url=url,
        codec=Tgi(),
        headers={"authorization": f"Bearer {KEY}"},
        auth=httpx.BasicAuth("me", KEY),
    )
    job = Job(
        endpoint=endpoint,
        load=Concurrency(1),
        workload=TWO,
        settings=settings(tmp_path),
        seed=0,
    )
    run = sweep(target, [Concurrency(2)], workload=TWO, settings=settings(tmp_path))
    objects = [options, target, target.name, endpoint, job, run, run.spec, *run.stages]
    shown = [f"{thing!r}{thing}" for thing in objects]
    shown += [run._repr_html_(), str(run.to_dict()), *map(repr, run.stages[0].timelines)]

    assert [text for text in shown if KEY in text] == []
    assert KEY.encode() not in kept(tmp_path)


@pytest.mark.parametrize("in_process", [True, False])
def test_no_traceback_shows_it(
    url: str, options: Options, tmp_path: Path, *, in_process: bool
) -> None:
    """Of an error in the workload, wherever it ran; its notes and its causes among it."""
    with pytest.raises((LLMPerfError, RuntimeError), match="no llamas") as raised:
        sweep(
            target_of(url, options),
            [Concurrency(1)],
            workload=Fails(),
            settings=settings(tmp_path, in_process=in_process),
        )

    assert KEY not in "".join(traceback.format_exception(raised.value))


@frozen
class There:
    """A target that is open already."""

    endpoint: Endpoint
    name: str = "there"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Yield the endpoint."""
        yield self.endpoint


@frozen
class Breaks(Tgi):
    """A codec whose header would break out of its line."""

    def request(self, prompt: Prompt) -> Request:
        """Return the request with that header."""
        return evolve(super().request(prompt), headers={"x-key": f"{KEY}\r\nx: y"})


def test_no_failure_of_ours_shows_it(url: str, tmp_path: Path) -> None:
    """A header that cannot be sent is named, and not quoted."""
    target = There(Endpoint(base_url=url, codec=Breaks()))
    run = sweep(
        target, [Concurrency(1)], workload=TWO, settings=settings(tmp_path, in_process=True)
    )

    assert run.stages[0].summary.requests.by_error == {"transport": 2}
    assert KEY.encode() not in kept(tmp_path)


async def test_no_failure_of_a_servers_shows_it(tmp_path: Path) -> None:
    """A server that refuses a key may quote it, in an error's body or inside a stream."""
    asked: list[bytes] = []

    async def quotes(peer: Peer) -> None:
        asked.append(await peer.request())
        said = b'{"error":"invalid key: %b"}' % KEY.encode()
        if len(asked) % 2:
            await peer.send(answer(said, status=b"401 Unauthorized"))
        else:
            await peer.send(answer(b"data: " + said + b"\n\n", kind=b"text/event-stream"))

    async with serving(quotes) as url:
        headers = {"authorization": f"Bearer {KEY}"}
        target = There(Endpoint(base_url=url, codec=Tgi(), headers=headers))
        run = await asweep(target, [Concurrency(1)], workload=TWO, settings=settings(tmp_path))

    assert all(KEY.encode() in request for request in asked)
    assert run.stages[0].summary.requests.by_error == {"http_401": 1, "in_band_error": 1}
    assert {t.outcome.detail for t in run.stages[0].timelines if isinstance(t.outcome, Failed)} == {
        "invalid key: ***"
    }
    assert KEY.encode() not in kept(tmp_path)
