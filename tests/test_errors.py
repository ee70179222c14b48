"""Errors: a tree that is drawn where it stands, and messages that say what to do."""

import inspect
import re
from pathlib import Path

import pytest

from llmperf_core import errors
from llmperf_core.errors import (
    BudgetError,
    DecodeError,
    LLMPerfError,
    MeasuringProcessError,
    MissingExtraError,
    ProtocolError,
    RefusedByServerError,
    StartError,
    StoredRunError,
    TargetUrlError,
    UnreachableError,
)

INDENT = 4


def drawn() -> dict[str, str | None]:
    """Return the parent of each class in the tree of the module's docstring."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr] # it has one
        if match := re.match(r"( {4}[│├└─ ]*)(\w+Error)\b", line):
            depth = len(match[1]) // INDENT - 1
            path = [*path[:depth], match[2]]
            parents[match[2]] = path[-2] if depth else None
    return parents


def real() -> dict[str, str | None]:
    """Return the parent of each error class of the module."""
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    return {
        cls.__name__: cls.__base__.__name__ if cls is not LLMPerfError else None
        for cls in classes
        if issubclass(cls, LLMPerfError) and cls.__base__
    }


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    """Each class stands in the drawing, below the class that it derives from."""
    assert drawn() == real()


@pytest.mark.parametrize("line", re.findall(r".*exit status.*", errors.__doc__ or ""))
def test_the_exit_status_in_the_docstring_is_the_real_one(line: str) -> None:
    """The command line ends with the status that the drawing promises for a branch."""
    (name,), (status,) = re.findall(r"\w+Error", line), re.findall(r"exit status (\d)", line)

    assert getattr(errors, name).exit_status == int(status)


def test_each_branch_has_its_exit_status() -> None:
    """A class of a branch ends the command line as its branch does."""
    assert TargetUrlError("x:", "no").exit_status == 2
    assert UnreachableError("http://x", "no").exit_status == 3
    assert StoredRunError("runs/x", "no").exit_status == 1
    assert DecodeError("no").exit_status == 1


@pytest.mark.parametrize(
    ("error", "data", "advice"),
    [
        (
            TargetUrlError("gopher:x", "no backend has this scheme; see `llmperf targets`"),
            {"url": "gopher:x", "reason": "no backend has this scheme; see `llmperf targets`"},
            "see `llmperf targets`",
        ),
        (
            BudgetError("sagemaker:llama", "1.52 USD/h × 2 h = 3.03 USD", 2.5),
            {
                "what": "sagemaker:llama",
                "arithmetic": "1.52 USD/h × 2 h = 3.03 USD",
                "max_usd": 2.5,
            },
            "allow more",
        ),
        (
            MissingExtraError("cpu", "xllamacpp"),
            {"extra": "cpu", "module": "xllamacpp"},
            "pip install 'llmperf-toolkit[cpu]'",
        ),
        (
            UnreachableError("http://127.0.0.1:9", "connection refused"),
            {"url": "http://127.0.0.1:9", "reason": "connection refused"},
            "is the server up",
        ),
        (
            RefusedByServerError("http://x", 401, "name a key with --api-key-env"),
            {"url": "http://x", "status": 401, "advice": "name a key with --api-key-env"},
            "name a key",
        ),
        (
            ProtocolError("http://x", "HTTP 200 text/html"),
            {"url": "http://x", "saw": "HTTP 200 text/html"},
            "--protocol tgi, openai-chat or openai-completions",
        ),
        (
            StartError("the container", "no space left"),
            {"what": "the container", "reason": "no space left"},
            "nothing is left running",
        ),
        (
            MeasuringProcessError("signal 9", "Killed"),
            {"reason": "signal 9", "last_words": "Killed"},
            "a run folder keeps what it had sent",
        ),
        (
            StoredRunError("runs/llama", "is not empty; name another with --out"),
            {"path": Path("runs/llama"), "reason": "is not empty; name another with --out"},
            "name another",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LLMPerfError) else "",
)
def test_a_message_holds_its_data_and_what_to_do(
    error: LLMPerfError, data: dict[str, object], advice: str
) -> None:
    """What happened can be read from the message, and in code from the attributes."""
    assert {name: getattr(error, name) for name in data} == data
    assert [value for value in data.values() if str(value) not in str(error)] == []
    assert advice in str(error)


def test_no_last_words_leave_no_gap() -> None:
    """A process that died silently is reported without an empty clause."""
    assert str(MeasuringProcessError("exit status 1")) == (
        "the measuring process died (exit status 1); a run folder keeps what it had sent"
    )
