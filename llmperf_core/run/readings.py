"""Telemetry as a file of a stage's folder: `telemetry.jsonl`, one line a reading."""

from pathlib import Path

import msgspec
from attrs import asdict

from llmperf_core.errors import StoredRunError
from llmperf_core.telemetry import Sample, Telemetry

FILE = "telemetry.jsonl"


class _Head(msgspec.Struct):
    """The first line."""

    meters: dict[str, str]
    failures: dict[str, int] = {}


def telemetry_file(telemetry: Telemetry) -> bytes:
    """Return the content of the file: what was read and what failed, then each reading."""
    head = {"meters": telemetry.meters, "failures": telemetry.failures}
    return msgspec.json.Encoder().encode_lines([head, *map(asdict, telemetry.samples)])


def read_telemetry(folder: Path) -> Telemetry | None:
    """Return the telemetry that a stage's folder holds; None if it holds none.

    Raises:
        StoredRunError: the file is damaged.
    """
    path = folder / FILE
    try:
        head, *lines = path.read_bytes().splitlines()
        meters = msgspec.json.decode(head, type=_Head)
        samples = tuple(msgspec.json.decode(line, type=Sample) for line in lines)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # which what msgspec raises is, too
        raise StoredRunError(path, f"is damaged: {error}") from error
    return Telemetry(meters=meters.meters, failures=meters.failures, samples=samples)
