"""What a llama.cpp server says of itself."""

from collections.abc import Mapping
from typing import TypeVar

import httpx
import msgspec

from llmperf_core.target import Json

_UNKNOWN_BUILD = "b0-unknown"
"""What llama.cpp calls its build when it was not compiled in its own repository."""


class _Settings(msgspec.Struct):
    n_ctx: int


class _Props(msgspec.Struct):
    """The part of `GET /props` that we keep."""

    total_slots: int
    model_ftype: str
    build_info: str
    default_generation_settings: _Settings


class _Meta(msgspec.Struct):
    n_params: int
    n_vocab: int


class _Model(msgspec.Struct):
    meta: _Meta


class _Models(msgspec.Struct):
    """The part of `GET /v1/models` that we keep."""

    data: list[_Model]


_Answer = TypeVar("_Answer", _Props, _Models)


async def llama_facts(url: str) -> Mapping[str, Json]:
    """Ask a llama.cpp server what it runs, and how.

    Returns:
        `build` (None if it does not know), `weights` (their type, such as `Q4_1`), `parameters`,
        `vocabulary`, `slots`, and `context` (tokens per slot).

    Raises:
        httpx.HTTPError: it does not answer.
        msgspec.DecodeError: it is not llama.cpp, or not one that we know.
    """
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        props = await _ask(client, "/props", _Props)
        model = (await _ask(client, "/v1/models", _Models)).data[0].meta
    return {
        "build": None if props.build_info == _UNKNOWN_BUILD else props.build_info,
        "weights": props.model_ftype,
        "parameters": model.n_params,
        "vocabulary": model.n_vocab,
        "slots": props.total_slots,
        "context": props.default_generation_settings.n_ctx,
    }


async def _ask(client: httpx.AsyncClient, path: str, answer: type[_Answer]) -> _Answer:
    response = await client.get(path)
    return msgspec.json.decode(response.raise_for_status().content, type=answer)
