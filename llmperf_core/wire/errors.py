"""What a server says when it refuses, made short."""

import html
import re
from collections.abc import Mapping, Sequence

import msgspec

from llmperf_core.target import Json

_MOST_CHARACTERS = 200
_HTML = re.compile(r"\s*(?:<!doctype html|<html|<head|<body)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)

# Where servers put it: TGI and OpenAI `error`, FastAPI `detail` and `msg`, vLLM before 0.10 and
# gateways `message`, AWS `Message`. And what kind of error it is.
_SAID = ("error", "detail", "message", "Message", "msg", "errors")
_KIND = ("error_type", "type")


def error_text(body: bytes) -> str:
    """Return what the body of an error says: one line, at most 200 characters.

    Knows the JSON of TGI, OpenAI, vLLM, llama.cpp and FastAPI, plain text, and HTML, of which it
    takes the title. Empty for an empty body. An error's kind stands before its message, as in
    `overloaded: Model is overloaded`. Never raises.
    """
    return _one_line(_from_json(body) or _from_text(body.decode(errors="replace")))


def _from_json(body: bytes) -> str:
    try:
        return _message(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _message(said: Json) -> str:
    """Return the message in what a server said; empty if there is none in a known place."""
    if isinstance(said, str):
        return said
    if isinstance(said, Mapping):
        message = next(filter(None, (_message(said.get(name)) for name in _SAID)), "")
        kind = next((said[name] for name in _KIND if said.get(name)), None)
        where = said.get("loc")  # FastAPI: the path to the field that it did not like
        if message and isinstance(where, list):
            message = f"{message} ({'.'.join(map(str, where))})"
        return f"{kind}: {message}" if message and isinstance(kind, str) else message
    if isinstance(said, Sequence):
        return "; ".join(filter(None, map(_message, said)))
    return ""


def _from_text(text: str) -> str:
    if not _HTML.match(text):
        return text
    title = _TITLE.search(text)
    return f"HTML page: {html.unescape(title[1])}" if title else "HTML page"


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text[: 10 * _MOST_CHARACTERS])
    line = " ".join(printable.split())
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 1] + "…"
