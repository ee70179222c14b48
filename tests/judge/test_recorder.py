"""Histograms against the library that they wrap and against exact values."""

import base64
import contextlib
import io
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmperf_core.errors import StoredRunError
from llmperf_core.judge import E2E, TTFT, Recorder, read_log, record_all, write_log
from llmperf_core.judge.recorder import DIGITS, HIGHEST_NS, LOWEST_NS
from llmperf_core.timeline import Completed, Timeline, Window

WINDOW = Window(open_at_ns=2_000_000_000, close_at_ns=12_000_000_000)

durations = arrays(np.int64, st.integers(0, 200), elements=st.integers(0, HIGHEST_NS))
anything = arrays(np.int64, st.integers(0, 50), elements=st.integers(-(2**63), 2**63 - 1))


def recorded(values: list[int] | np.ndarray) -> Recorder:
    """Return a recorder of these values."""
    recorder = Recorder()
    recorder.record(np.asarray(values, dtype=np.int64))
    return recorder


def state(recorder: Recorder) -> tuple[object, ...]:
    """Return all that a recorder knows."""
    return (
        recorder.counts.tolist(),
        recorder.count,
        recorder.total_ns,
        recorder.min_ns,
        recorder.max_ns,
        recorder.saturated,
    )


@given(anything)
def test_recording_in_bulk_is_recording_one_by_one(values: np.ndarray) -> None:
    """The vectorised bucket index agrees with the library's on any int64, however large."""
    reference = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    kept = [value for value in values.tolist() if reference.record_value(value)]
    recorder = recorded(values)
    assert recorder.counts.tolist() == list(reference.counts)
    assert recorder.count == reference.get_total_count()
    assert recorder.saturated == len(values) - len(kept)
    assert recorder.total_ns == sum(kept)


def test_bucket_edges_agree_with_the_library() -> None:
    """Each power of two, its neighbours, and the largest value that fits."""
    edges = [0, *(2**k + d for k in range(1, 47) for d in (-1, 0, 1))]
    reference = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    for value in edges:
        reference.record_value(value)
    assert recorded(edges).counts.tolist() == list(reference.counts)
    assert recorded(edges).saturated == 2  # 2**46 and one more


def test_what_does_not_fit_is_counted() -> None:
    """Negative and endless values are out of the histogram and not out of the account."""
    recorder = recorded([-1, 5, 2**62])
    assert (recorder.count, recorder.saturated, recorder.min_ns, recorder.max_ns) == (1, 2, 5, 5)
    only = recorded([-1])
    assert (only.count, only.saturated, only.percentile(50)) == (0, 1, None)


def test_zero_is_a_value() -> None:
    """Coalesced tokens are 0 apart, and that must be recordable."""
    recorder = recorded([0, 0, 0, 8])
    assert (recorder.count, recorder.percentile(50), recorder.min_ns) == (4, 0, 0)
    assert Recorder.decode(recorded([0]).encode()).max_ns == 0


def test_an_empty_histogram_says_so() -> None:
    """No data is None, not 0."""
    empty = Recorder()
    assert [empty.percentile(99), empty.mean_ns, empty.min_ns, empty.max_ns] == [None] * 4
    assert empty.count == 0
    assert state(Recorder.decode(empty.encode())) == state(empty)


@given(durations.filter(len), st.sampled_from([0, 1, 25, 50, 90, 95, 99, 99.9, 100]))
def test_percentiles_are_within_a_thousandth(values: np.ndarray, percentile: float) -> None:
    """They are NumPy's, to three digits, and never below."""
    exact = int(np.percentile(values, percentile, method="inverted_cdf"))
    found = recorded(values).percentile(percentile)
    assert found is not None
    assert exact <= found <= exact * 1.001


@given(durations.filter(len))
def test_mean_and_extremes_are_exact(values: np.ndarray) -> None:
    """They are kept beside the buckets, not taken from them."""
    recorder = recorded(values)
    exact = [int(value) for value in values]
    assert recorder.mean_ns == sum(exact) / len(exact)
    assert (recorder.min_ns, recorder.max_ns) == (min(exact), max(exact))


def test_the_sum_does_not_overflow() -> None:
    """A million values of ten hours are more than int64 holds."""
    values = np.full(1_000_000, HIGHEST_NS)
    assert recorded(values).mean_ns == HIGHEST_NS


@settings(max_examples=20)
@given(anything, durations, durations)
def test_merging_is_associative_and_is_recording_all(
    a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> None:
    """However the workers are put together, the whole comes out; the parts stay as they were."""
    parts = [recorded(values) for values in (a, b, c)]
    before = [state(part) for part in parts]
    left = parts[0].merge(parts[1]).merge(parts[2])
    right = parts[0].merge(parts[1].merge(parts[2]))
    assert state(left) == state(right) == state(recorded(np.concatenate((a, b, c))))
    assert [state(part) for part in parts] == before


@settings(max_examples=30)
@given(durations.filter(len))
def test_encoding_keeps_every_count(values: np.ndarray) -> None:
    """What comes back has the same buckets, and the mean and extremes to a thousandth."""
    recorder = recorded(values)
    back = Recorder.decode(recorder.encode())
    assert back.counts.tolist() == recorder.counts.tolist()
    assert back.count == recorder.count
    for found, exact in [
        (back.mean_ns, recorder.mean_ns),
        (back.min_ns, recorder.min_ns),
        (back.max_ns, recorder.max_ns),
    ]:
        assert found is not None
        assert exact is not None
        assert math.isclose(found, exact, rel_tol=0.001)
    again = back.merge(back)
    assert again.counts.tolist() == (recorder.counts * 2).tolist()
    assert Recorder.decode(again.encode()).count == 2 * recorder.count


def test_a_percentile_beyond_100_is_refused() -> None:
    """The library drops it silently; we do not."""
    with pytest.raises(ValueError, match="between 0 and 100"):
        recorded([1]).percentile(101)


def test_it_says_how_many_it_has() -> None:
    """In a notebook one sees at a glance whether anything was lost."""
    assert repr(recorded([1, 2, -1])) == "Recorder(count=2, saturated=1)"


def test_the_log_is_read_by_the_librarys_own_reader(tmp_path: Path) -> None:
    """Any HdrHistogram tool can read it: one tagged interval a metric, over the window."""
    recorders = {"ttft": recorded([5_000_000, 7_000_000, -1]), "itl": recorded([0, 20_000_000])}
    path = tmp_path / "histograms.hlog"
    with path.open("w", encoding="utf-8") as stream:
        write_log(stream, recorders, window=WINDOW)
    reader = HistogramLogReader(str(path), HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS))
    found = {}
    while (histogram := reader.get_next_interval_histogram()) is not None:
        found[histogram.get_tag()] = histogram
    reader.close()
    assert {tag: h.get_total_count() for tag, h in found.items()} == {"ttft": 2, "itl": 2}
    assert found["ttft"].get_value_at_percentile(100) == pytest.approx(7_000_000, rel=0.001)
    assert (found["itl"].get_start_time_stamp(), found["itl"].get_end_time_stamp()) == (2e3, 12e3)


def test_a_log_comes_back() -> None:
    """What was written is read, with what did not fit."""
    stream = io.StringIO()
    written = {"ttft": recorded([5, 6, -1]), "itl": Recorder()}
    write_log(stream, written, window=WINDOW)
    back = read_log(stream.getvalue().splitlines())
    assert {name: (r.count, r.saturated) for name, r in back.items()} == {
        "ttft": (2, 1),
        "itl": (0, 0),
    }


OTHER = HdrHistogram(1, 1000, 2)
OTHER.record_value(5)


@pytest.mark.parametrize(
    "payload",
    [
        "???",
        "HISTFAAA",
        "QUJD",
        recorded([1, 2, 3]).encode()[:-8],
        OTHER.encode().decode(),
    ],
    ids=["characters", "short", "cookie", "cut", "layout"],
)
def test_a_broken_log_names_its_line(payload: str) -> None:
    """A log that cannot be read is a stored run that cannot be read, never a crash of a library."""
    lines = ["#[comment]", f"Tag=ttft,0.0,1.0,2.0,{payload}"]
    with pytest.raises(StoredRunError, match=r"'x\.hlog': line 2"):
        read_log(lines, source="x.hlog")


WHOLE = base64.b64decode(recorded([1, 2_000, 3_000_000]).encode())
COOKIE, BODY = WHOLE[:4], zlib.decompress(WHOLE[8:])


@given(st.lists(st.tuples(st.integers(0, len(BODY) - 1), st.integers(0, 255)), max_size=3))
def test_changed_bytes_are_a_value_error_or_a_histogram(changes: list[tuple[int, int]]) -> None:
    """Whatever the file has suffered, no other error gets out."""
    body = bytearray(BODY)
    for position, byte in changes:
        body[position] = byte
    packed = zlib.compress(bytes(body))
    encoded = base64.b64encode(COOKIE + len(packed).to_bytes(4, "big") + packed)
    with contextlib.suppress(ValueError):
        assert isinstance(Recorder.decode(encoded.decode()), Recorder)


def test_every_metric_gets_a_recorder() -> None:
    """Metrics without a value too: then the histogram is empty and says so."""
    request = Timeline(index=0, due_at_ns=None, sent_at_ns=10, ended_at_ns=30, outcome=Completed())
    recorders = record_all(iter([request]), [E2E, TTFT])
    assert {name: r.max_ns for name, r in recorders.items()} == {"e2e": 20, "ttft": None}
