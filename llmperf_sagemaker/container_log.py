"""The log of TGI's container: the exact timings of each answer, in its `Success` lines.

Source: router/src/server.rs and logging.rs of text-generation-inference, 1.0.3 to 3.3: the span of
a request records them last, so in a line of text they stand at the end of the innermost span.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from attrs import frozen

from llmperf_core.errors import DecodeError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MESSAGE = re.compile(r"(?:^|[:\s])Success\s*$")
# Fields that were recorded last, the end of their span, and what says where the line is from. What
# a user wrote stands before them, with its quotes escaped.
_RECORDED = re.compile(r'(?P<fields>(?:\s\w+="(?:[^"\\]|\\.)*")+)\}(?:[^"{}]*:)?\s*Success\s*$')
_FIELD = re.compile(r'\s(?P<name>\w+)="(?P<value>(?:[^"\\]|\\.)*)"')
_RECORDED_CHARS = 1_000
"""The fields take less than 250; a prompt in the same line may take a megabyte."""
_DURATION = re.compile(r"(?P<number>\d{1,12}(?:\.\d{1,9})?)(?P<unit>ns|µs|μs|us|ms|s)")
_UNIT_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_SEED = re.compile(r"Some\((\d+)\)")


@frozen(kw_only=True)
class Success:
    """What TGI says of one answer that it gave whole."""

    at: datetime | None
    """When it wrote the line, by its machine's clock; None where the line does not say."""
    total_ns: int
    """From the request's being read to the answer's end; the next three are its parts."""
    validation_ns: int
    queue_ns: int
    inference_ns: int
    """Prefill included."""
    time_per_token_ns: int
    """Inference ÷ output tokens."""
    seed: int | None

    @property
    def tokens(self) -> int | None:
        """Output tokens, as they follow from the above; None if they took no time."""
        if not self.time_per_token_ns:
            return None
        # Cut off to whole nanoseconds, of which there are far more than tokens.
        return round(self.inference_ns / self.time_per_token_ns)


def success_of(line: str) -> Success | None:
    """Return what a line says of an answer; None if it is a line of something else.

    Args:
        line: as the container wrote it: plain, coloured, or JSON (JSON_OUTPUT=true).

    Raises:
        DecodeError: it is of an answer, and its timings cannot be read.
    """
    plain = _COLOUR.sub("", line).strip()
    told = _json_fields(plain) if plain.startswith("{") else _text_fields(plain)
    if told is None:
        return None
    fields, written_at = told
    return Success(
        at=written_at,
        total_ns=_duration_ns(fields, "total_time"),
        validation_ns=_duration_ns(fields, "validation_time"),
        queue_ns=_duration_ns(fields, "queue_time"),
        inference_ns=_duration_ns(fields, "inference_time"),
        time_per_token_ns=_duration_ns(fields, "time_per_token"),
        seed=_seed(fields),
    )


def _text_fields(line: str) -> tuple[Mapping[str, Any], datetime | None] | None:
    if not _MESSAGE.search(line):
        return None
    recorded = _RECORDED.search(line[-_RECORDED_CHARS:])
    if recorded is None:
        raise DecodeError("a Success line of the container has no timings")
    fields = {field["name"]: field["value"] for field in _FIELD.finditer(recorded["fields"])}
    return fields, _instant(line.partition(" ")[0])


def _json_fields(line: str) -> tuple[Mapping[str, Any], datetime | None] | None:
    try:
        said = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None  # it began like JSON and is something else
    event = said.get("fields")
    message = said.get("message") or (event.get("message") if isinstance(event, dict) else None)
    if message != "Success":
        return None
    outer = said.get("spans")
    spans = [said.get("span"), *(reversed(outer) if isinstance(outer, list) else ())]
    fields = next((one for one in spans if isinstance(one, dict) and "total_time" in one), None)
    if fields is None:
        raise DecodeError("a Success line of the container has no timings")
    return fields, _instant(str(said.get("timestamp")))


def _instant(said: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _duration_ns(fields: Mapping[str, Any], name: str) -> int:
    """Return a duration, as Rust writes it for people and without loss: `184.26µs`, `2.458s`."""
    said = _DURATION.fullmatch(str(fields.get(name)))
    if said is None:
        raise DecodeError(f"{name}={str(fields.get(name))[:40]!r} of the container is no duration")
    duration_ns = Decimal(said["number"]) * _UNIT_NS[said["unit"]]
    if duration_ns != int(duration_ns):
        raise DecodeError(f"{name}={said[0]!r} of the container is no whole nanoseconds")
    return int(duration_ns)


def _seed(fields: Mapping[str, Any]) -> int | None:
    said = _SEED.fullmatch(str(fields.get("seed")))
    return int(said[1]) if said is not None else None
