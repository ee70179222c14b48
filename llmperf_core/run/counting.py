"""Counting tokens before a run, with the server's tokenizer or with a file's."""

from pathlib import Path

import anyio.to_thread
import httpx
import msgspec

from llmperf_core.errors import MissingExtraError, UsageError
from llmperf_core.target import Endpoint
from llmperf_core.workload import Counted, Workload

_PATIENCE_S = 30.0


async def counted(workload: Workload, endpoint: Endpoint) -> Workload:
    """Return the workload made to the measure of the tokenizer that it names, if it names one.

    Raises:
        UsageError: the server counts no tokens, the file is no tokenizer's, or it knows too few of
            the words.
        MissingExtraError: a file is named, and the extra `tokenizers` is not installed.
    """
    if not isinstance(workload, Counted) or workload.tokenizer is None:
        return workload
    if workload.tokenizer == "server":
        return await anyio.to_thread.run_sync(_by_server, workload, endpoint)
    return await anyio.to_thread.run_sync(_by_file, workload, Path(str(workload.tokenizer)))


def _by_file(workload: Counted, path: Path) -> Workload:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizers", "tokenizers") from error
    try:
        tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"tokenizer {str(path)!r} cannot be read: {error.strerror}") from error
    except Exception as error:  # the library has no class of its own for it
        raise UsageError(f"tokenizer {str(path)!r} is none: {error}") from error
    return workload.counted(lambda text: len(tokenizer.encode(text).ids), f"the file {path.name}")


def _by_server(workload: Counted, endpoint: Endpoint) -> Workload:
    # Not over the measuring wire: these requests are no part of the load.
    with httpx.Client(
        base_url=endpoint.base_url,
        headers=dict(endpoint.headers),
        auth=endpoint.auth,
        verify=endpoint.verify,
        trust_env=False,
        timeout=_PATIENCE_S,
    ) as client:
        return workload.counted(lambda text: _tokens(client, text), "the server's /tokenize")


def _tokens(client: httpx.Client, text: str) -> int:
    """Return how many tokens the server makes of a text, special ones at its beginning included.

    TGI takes `inputs` and answers with a list; vLLM takes `prompt` and answers with a `count`;
    llama.cpp takes `content` and answers with `tokens`. Each ignores the others' names.

    Source: TGI `router/src/server.rs`; vLLM `entrypoints/serve/tokenize/protocol.py`; llama.cpp
    `tools/server/README.md`.
    """
    body = {"inputs": text, "prompt": text, "content": text, "add_special": True}
    try:
        response = client.post("/tokenize", json=body)
        said = msgspec.json.decode(response.content) if response.status_code == 200 else None
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise UsageError(f"the server's /tokenize does not answer: {error}") from error
    if isinstance(said, list):
        return len(said)
    if isinstance(said, dict) and isinstance(said.get("count"), int):
        return int(said["count"])
    if isinstance(said, dict) and isinstance(said.get("tokens"), list):
        return len(said["tokens"])
    raise UsageError(
        f"the server counts no tokens: POST /tokenize gave HTTP {response.status_code}; name the "
        "model's tokenizer.json instead, or leave `tokenizer` out"
    )
