"""What is no result of the tool is refused in one line, whatever it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmperf_core import import_results
from llmperf_core.errors import ImportFileError
from tests.importers.test_importers import AGGREGATES, FILES, STUDY

# By what is damaged: the format, and the file that is, with those beside it in its folder.
DAMAGED = {
    "aiperf records": ("aiperf", FILES["aiperf"]),
    "aiperf summary": ("aiperf", FILES["aiperf"].parent / "profile_export_aiperf.json"),
    "guidellm": ("guidellm", FILES["guidellm"]),
    "llmeter responses": ("llmeter", FILES["llmeter"] / "responses.jsonl"),
    "llmeter summary": ("llmeter", FILES["llmeter"] / "summary.json"),
    "study json": ("published-study", FILES["published-study"]),
    "study csv": ("published-study", STUDY),
    "vllm": ("vllm-bench", FILES["vllm-bench"]),
    "vllm figures": ("vllm-bench", AGGREGATES),
}


def import_with(which: str, content: bytes) -> None:
    """Import a folder in which one file has other content."""
    name, file = DAMAGED[which]
    with TemporaryDirectory() as folder:
        place = Path(folder) / "it"
        shutil.copytree(file.parent, place)
        (place / file.name).write_bytes(content)
        import_results(name, place / file.name)


def refuse(which: str, content: bytes) -> str:
    """Return the one line that says why a file with this content cannot be imported."""
    with pytest.raises(ImportFileError) as raised:
        import_with(which, content)
    (line,) = str(raised.value).splitlines()
    assert len(line) < 600
    return line


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("which", DAMAGED)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(which: str, data: st.DataObject) -> None:
    """Bytes that are changed, cut off or doubled end in a run or in one clear line."""
    content = bytearray(DAMAGED[which][1].read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["digits", "byte", "drop", "cut"]))
        if how == "digits":
            content[at:at] = data.draw(st.sampled_from([b"9" * 20, b"-", b"e300", b"."]))
        elif how == "byte":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "drop":
            del content[at : at + data.draw(st.integers(1, 50))]
        elif at:
            del content[at:]
    said = ""
    try:
        import_with(which, bytes(content))
    except ImportFileError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize("which", DAMAGED)
@pytest.mark.parametrize(
    "content", [b"", b"\n", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b"\0" * 10]
)
def test_what_is_no_result_is_refused(which: str, content: bytes) -> None:
    """Nothing, something else, no text, endless nesting."""
    refuse(which, content)


def changed(file: Path, change: Callable[[Any], None]) -> bytes:
    """Return a JSON file with a change."""
    found = json.loads(file.read_bytes())
    change(found)
    return json.dumps(found).encode()


def set_strategy(report: Any) -> None:  # noqa: ANN401 -- JSON of any shape
    """Make the first benchmark a replay of a trace."""
    report["benchmarks"][0]["config"]["strategy"] = {"type_": "trace"}


def drop_requests(report: Any) -> None:  # noqa: ANN401 -- JSON of any shape
    """Leave out a request, as a sample does."""
    report["benchmarks"][0]["requests"]["successful"].pop()


def drop_end(report: Any) -> None:  # noqa: ANN401 -- JSON of any shape
    """Leave out when a request ended."""
    timings = report["benchmarks"][0]["requests"]["successful"][0]["info"]["timings"]
    timings["request_end"] = timings["resolve_end"] = None


def turn_round(report: Any) -> None:  # noqa: ANN401 -- JSON of any shape
    """Let a request end before its first token."""
    timings = report["benchmarks"][0]["requests"]["successful"][0]["info"]["timings"]
    timings["request_end"] = timings["request_start"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_strategy, "its strategy is 'trace'"),
        (drop_requests, "it holds 4 of 5 requests"),
        (drop_end, "a request has no end"),
        (turn_round, "the instants of request 0 are not in order"),
        (lambda report: report["benchmarks"].clear(), "it holds no result"),
    ],
)
def test_what_guidellm_may_not_say(change: Callable[[Any], None], says: str) -> None:
    """Loads that are none of ours, samples, and requests that cannot have been."""
    assert says in refuse("guidellm", changed(FILES["guidellm"], change))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(request_rate=4, burstiness=-1), "'shape' must be > 0"),
        (lambda r: r["ttfts"].pop(), "not of the same length"),
        (lambda r: r.update(ttfts=None, mean_ttft_ms=-1), "mean_ttft_ms"),
        (lambda r: r.update(request_rate=-4), "'rate_rps' must be > 0"),
    ],
)
def test_what_vllm_may_not_say(change: Callable[[Any], None], says: str) -> None:
    """Loads that are none of ours, and arrays and figures that cannot be."""
    assert says in refuse("vllm", changed(FILES["vllm-bench"], change))


def test_a_phase_that_aiperf_may_not_have() -> None:
    """A load that is none of ours is named."""

    def users(summary: Any) -> None:  # noqa: ANN401 -- JSON of any shape
        summary["input_config"]["phases"] = [{"type": "user_centric"}]

    content = changed(FILES["aiperf"].parent / "profile_export_aiperf.json", users)
    assert "its load is 'user_centric'" in refuse("aiperf summary", content)


def test_a_value_that_aiperf_may_not_have() -> None:
    """Text where a number belongs, and a time that goes backwards, are refused."""
    for before, after in ((b'"value":9.72475', b'"value":"soon"'), (b"[0.0,", b"[-1.0,")):
        content = FILES["aiperf"].read_bytes().replace(before, after)
        assert "a value is out of range" in refuse("aiperf records", content)


def test_a_study_row_without_a_column() -> None:
    """The column that is missing is named as the file names it."""
    content = STUDY.read_bytes().replace(b"Queue time ms max", b"Queue max")
    assert "it has no 'Queue time ms max'" in refuse("study csv", content)
