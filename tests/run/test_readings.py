"""Telemetry as a file: what is written is what is read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import StoredRunError
from llmperf_core.run.readings import FILE, read_telemetry, telemetry_file
from llmperf_core.telemetry import Sample, Telemetry

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
VALUES = st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
SAMPLES = st.builds(Sample, at_ns=st.integers(-(10**15), 10**15), meter=NAMES, values=VALUES)
TELEMETRY = st.builds(
    Telemetry,
    meters=st.dictionaries(NAMES, NAMES, max_size=2),
    samples=st.lists(SAMPLES, max_size=4).map(tuple),
    failures=st.dictionaries(NAMES, st.integers(1, 9), max_size=2),
)


@given(telemetry=TELEMETRY)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, telemetry: Telemetry
) -> None:
    """Whatever a meter is called and says."""
    folder = tmp_path_factory.mktemp("stage")
    (folder / FILE).write_bytes(telemetry_file(telemetry))

    assert read_telemetry(folder) == telemetry


def test_a_stage_without_readings_has_none(tmp_path: Path) -> None:
    """No file is no telemetry."""
    assert read_telemetry(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"meters":{}}\n{"at_ns":"late"}\n', b"\xff"])
def test_damage_is_told(tmp_path: Path, content: bytes) -> None:
    """An empty, a shortened or a foreign file is damage, not an absence of readings."""
    (tmp_path / FILE).write_bytes(content)

    with pytest.raises(StoredRunError, match=r"telemetry\.jsonl.*is damaged"):
        read_telemetry(tmp_path)
