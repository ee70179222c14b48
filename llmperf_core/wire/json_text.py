"""JSON in and out: typed decoding that fails in one way, and request bodies in layers."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from llmperf_core.errors import DecodeError
from llmperf_core.target import Json

T = TypeVar("T")

_EXCERPT_CHARACTERS = 80


def parse(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Return what the JSON says.

    Raises:
        DecodeError: the bytes are not JSON in UTF-8, or it does not have the decoder's type.
    """
    try:
        if not data.isascii():
            data.decode()  # msgspec does not look into the strings that it skips
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise DecodeError(f"not UTF-8: {excerpt(data)}") from error
    except RecursionError as error:
        raise DecodeError(f"JSON nested too deep: {excerpt(data)}") from error
    except msgspec.ValidationError as error:
        raise DecodeError(f"JSON of another shape ({error}): {excerpt(data)}") from error
    except msgspec.DecodeError as error:
        raise DecodeError(f"not JSON: {excerpt(data)}") from error


def excerpt(data: bytes) -> str:
    """Return the beginning of the data in quotes, at most 80 characters, for an error message."""
    shown = repr(data[:_EXCERPT_CHARACTERS].decode(errors="replace"))
    whole = len(data) <= _EXCERPT_CHARACTERS and len(shown) <= _EXCERPT_CHARACTERS
    return shown if whole else shown[: _EXCERPT_CHARACTERS - 1] + "…"


def layered(*layers: Mapping[str, Json]) -> bytes:
    """Return the layers as one JSON object, later ones over earlier ones.

    Objects are merged field by field; None removes a field.
    """
    fields: dict[str, Json] = {}
    for layer in layers:
        fields = _merged(fields, layer)
    return msgspec.json.encode(fields)


def _merged(below: Mapping[str, Json], above: Mapping[str, Json]) -> dict[str, Json]:
    fields = dict(below)
    for name, value in above.items():
        if value is None:
            fields.pop(name, None)
        elif isinstance(value, Mapping):
            under = fields.get(name)
            fields[name] = _merged(under if isinstance(under, Mapping) else {}, value)
        else:
            fields[name] = value
    return fields
