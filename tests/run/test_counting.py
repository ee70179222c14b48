"""Tokens are counted before a run: by a real server, or with a real tokenizer's file."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread

import pytest

from llmperf_core.errors import MissingExtraError, UsageError
from llmperf_core.run.counting import counted
from llmperf_core.target import Endpoint, Json, Options
from llmperf_core.wire.tgi import Tgi
from llmperf_core.workload import Conversations, Fixed, Synthetic, Uniform
from llmperf_local.cpu import backend
from tests.run.asking import TGI

NOWHERE = Endpoint(base_url="http://127.0.0.1:9", codec=TGI)
_WORDS = """
time year people way day man thing woman life child world school state family student group
country problem hand part
"""
WORDS = _WORDS.split()


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """A tokenizer of whole words, punctuation apart, with a token at the beginning."""
    tokenizers = pytest.importorskip("tokenizers")
    instruction = ["Continue", "this", "text", "at", "length", ":", "."]
    names = ["<s>", "<unk>", *instruction, *WORDS]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


async def test_a_file_counts(tokenizer_file: Path) -> None:
    """Prompts have exactly as many tokens as were asked, by that tokenizer."""
    from tokenizers import Tokenizer

    workload = await counted(Synthetic(Uniform(20, 60), tokenizer=tokenizer_file), NOWHERE)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    lengths = [len(tokenizer.encode(p.text).ids) for p in islice(workload.prompts(1), 200)]

    assert 20 <= min(lengths) < max(lengths) <= 60
    assert len(set(lengths)) > 30
    assert workload.describe()["counted_by"] == "the file tokenizer.json"


@pytest.mark.llm
async def test_a_real_server_counts() -> None:
    """What llama.cpp counts for each prompt in the end is what was asked."""
    import httpx

    async with backend.target("cpu:smollm2", Options()).open() as endpoint:
        workload = await counted(Synthetic(40, tokenizer="server"), endpoint)
        async with httpx.AsyncClient(base_url=endpoint.base_url, timeout=60) as client:
            for prompt in islice(workload.prompts(1), 5):
                body = {"prompt": prompt.text, "max_tokens": 1}
                answer = await client.post("/v1/completions", json=body)
                assert answer.json()["usage"]["prompt_tokens"] == 40


@contextmanager
def answering(status: int, said: Json) -> Iterator[Endpoint]:
    """Serve one answer to whatever is asked; a function of the text if it is `None`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            tokens = body["inputs"].split()
            shape = {"tgi": tokens, "vllm": {"count": len(tokens)}, "llama": {"tokens": tokens}}
            content = json.dumps(shape.get(str(said), said)).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Endpoint(base_url=f"http://127.0.0.1:{server.server_port}", codec=Tgi())
        server.shutdown()


@pytest.mark.parametrize("shape", ["tgi", "vllm", "llama"])
async def test_each_server_answers_in_its_own_shape(shape: str) -> None:
    """TGI a list, vLLM a count, llama.cpp an object with a list."""
    with answering(200, shape) as endpoint:
        workload = await counted(Conversations(Synthetic(30, tokenizer="server")), endpoint)

    assert len(next(workload.prompts(1)).text.split()) == 30
    assert "the server's /tokenize" in str(workload.describe())


@pytest.mark.parametrize(
    ("status", "said", "why"),
    [(404, {"error": "no"}, "HTTP 404"), (200, {"a": 1}, "HTTP 200"), (200, "text", "HTTP 200")],
)
async def test_a_server_that_counts_nothing(status: int, said: Json, why: str) -> None:
    """The message says what to do instead."""
    with (
        answering(status, said) as endpoint,
        pytest.raises(UsageError, match=f"{why}; name the model's tokenizer.json"),
    ):
        await counted(Synthetic(tokenizer="server"), endpoint)


async def test_a_server_that_is_not_there() -> None:
    """Said in our words."""
    with pytest.raises(UsageError, match="/tokenize does not answer"):
        await counted(Synthetic(tokenizer="server"), NOWHERE)


async def test_files_that_are_no_tokenizer(tmp_path: Path) -> None:
    """Missing, or of another kind."""
    pytest.importorskip("tokenizers")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        await counted(Synthetic(tokenizer=tmp_path / "none"), NOWHERE)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="is none"):
        await counted(Synthetic(tokenizer=tmp_path / "tokenizer.json"), NOWHERE)


async def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"llmperf-toolkit\[tokenizers\]"):
        await counted(Synthetic(tokenizer=Path("tokenizer.json")), NOWHERE)


async def test_what_needs_no_counting_is_left_alone() -> None:
    """And nobody is asked."""
    for workload in (Fixed("x"), Synthetic(), Conversations(Fixed("x"))):
        assert await counted(workload, NOWHERE) is workload
