"""Read files that others wrote, and say in one line what is wrong with one."""

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from llmperf_core.errors import ImportFileError

T = TypeVar("T")
LARGEST_BYTES = 1 << 31
"""More is no result of a benchmark, and would fill the memory."""
_SHOWN = 200

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
"""A duration, up to eleven days."""
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
"""A duration, up to eleven days."""
UnixSeconds = Annotated[float, msgspec.Meta(ge=0, le=5e9)]
"""An instant, up to the year 2128."""
UnixNanoseconds = Annotated[int, msgspec.Meta(ge=0, le=5 * 10**18)]
"""An instant, up to the year 2128."""


def read_bytes(path: Path, format: str) -> bytes:  # noqa: A002 -- the word of the command line
    """Return the content of a file.

    Raises:
        ImportFileError: it cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ImportFileError(path, format, "it is larger than 2 GiB")
        return path.read_bytes()
    except OSError as error:
        raise ImportFileError(path, format, error.strerror or "it cannot be read") from error


def decoded(content: bytes | str, kind: type[T], path: Path, format: str) -> T:  # noqa: A002
    """Return the JSON text as a value of that type.

    Raises:
        ImportFileError: it is no JSON, or has other fields.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ImportFileError(path, format, _first_line(str(error))) from error


def lines(path: Path, kind: type[T], format: str) -> list[T]:  # noqa: A002
    """Return the lines of a file of JSON lines, the empty ones left out.

    Raises:
        ImportFileError: the file cannot be read, holds none, or a line has other fields.
    """
    found = []
    for number, line in enumerate(read_bytes(path, format).splitlines(), start=1):
        if line.strip():
            try:
                found.append(decoded(line, kind, path, format))
            except ImportFileError as error:
                reason = f"line {number}: {error.reason}"
                raise ImportFileError(path, format, reason) from error
    if not found:
        raise ImportFileError(path, format, "it holds no request")
    return found


def _first_line(text: str) -> str:
    return (text.splitlines() or ["it is damaged"])[0][:_SHOWN]
