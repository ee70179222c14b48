"""The journal: whatever happens to the process or the disk, whole lines can be read."""

import stat
from pathlib import Path

import numpy as np
import pytest
from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import StoredRunError
from llmperf_core.run import Journal, read_journal
from llmperf_core.run.journal import StoredTimelines, line_of, timeline_of
from llmperf_core.timeline import (
    Cancelled,
    Censored,
    Completed,
    Connection,
    Failed,
    Timeline,
    TokenCount,
)

# What JSON carries exactly, and a run can last: 292 years in nanoseconds.
instants = st.integers(-(2**62), 2**62)
counts = st.integers(0, 2**53)
# Lone surrogates are not text: no decoder of ours lets one through.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
outcomes = (
    st.builds(Completed, st.none() | texts)
    | st.builds(Failed, texts, texts)
    | st.builds(Censored)
    | st.builds(Cancelled, st.sampled_from(["time", "tokens"]))
)
timelines = st.builds(
    Timeline,
    index=counts,
    due_at_ns=st.none() | instants,
    sent_at_ns=st.none() | instants,
    token_at_ns=st.lists(instants, max_size=5).map(sorted),
    read_lag_ns=st.lists(instants, max_size=5),
    ended_at_ns=instants,
    outcome=outcomes,
    tokens=st.builds(
        TokenCount,
        output=counts,
        input=st.none() | counts,
        cached=st.none() | counts,
        counted_by=st.sampled_from(["stream", "usage", "tokenizer"]),
    ),
    asked_tokens=st.none() | counts,
    connection=st.builds(
        Connection, fresh=st.booleans(), connect_ns=counts, tls_ns=counts, reopened=counts
    ),
    server_ns=st.dictionaries(texts, instants, max_size=3),
    stamps=st.sampled_from(["kernel", "user"]),
)

THREE = [
    Timeline(
        index=k,
        due_at_ns=None,
        sent_at_ns=10 * k,
        token_at_ns=[10 * k + 3, 10 * k + 4],
        ended_at_ns=10 * k + 5,
        outcome=Failed("http_500", "weiß nicht ☠"),
    )
    for k in range(3)
]


def plain(timeline: Timeline) -> dict[str, object]:
    """Return what a timeline says, in types that compare."""
    fields = asdict(timeline, recurse=False)
    arrays = {name: value.tolist() for name, value in fields.items() if hasattr(value, "tolist")}
    return {**fields, **arrays}


def written(path: Path) -> Path:
    """Write three timelines, and return the journal's path."""
    with Journal(path) as journal:
        for timeline in THREE:
            journal.append(timeline)
    return path


@given(timelines)
def test_timeline_comes_back_as_it_was(timeline: Timeline) -> None:
    """Every field, to the nanosecond, in types that compute the same."""
    line = line_of(timeline)
    back = timeline_of(line)

    assert plain(back) == plain(timeline)
    assert back.token_at_ns.dtype == back.read_lag_ns.dtype == np.int64
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


def test_journal_is_read_in_the_order_of_writing(tmp_path: Path) -> None:
    """Which is the order in which the requests ended."""
    back = list(read_journal(written(tmp_path / "timelines.jsonl")))

    assert [plain(timeline) for timeline in back] == [plain(timeline) for timeline in THREE]


def test_line_is_on_its_way_to_the_disk_when_append_returns(tmp_path: Path) -> None:
    """Nothing is held back: a process that is killed has lost none of them."""
    path = tmp_path / "timelines.jsonl"
    with Journal(path) as journal:
        for count, timeline in enumerate(THREE, start=1):
            journal.append(timeline)
            assert len(list(read_journal(path))) == count


def test_journal_cut_anywhere_yields_every_whole_line(tmp_path: Path) -> None:
    """As a crash leaves it: a half last line is left out, and nothing else."""
    path = written(tmp_path / "timelines.jsonl")
    whole = path.read_bytes()

    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        assert len(list(read_journal(path))) == whole[:size].count(b"\n")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"null",
        b"\xff\xfe",
        b'{"index":0',
        line_of(THREE[1])[:-1].replace(b'"failed"', b'"lost"'),
        line_of(THREE[1])[:-1].replace(b'"index":1', b'"index":"1"'),
        line_of(THREE[1])[:-1].replace(b'"ended_at_ns":15', b'"ended_at_ns":1e400'),
        line_of(THREE[1])[:-1].replace(b"[13,14]", b"[13,99999999999999999999]"),
    ],
)
def test_damaged_line_inside_is_named(tmp_path: Path, damage: bytes) -> None:
    """A line that is whole but wrong is no crash: it is not passed over."""
    path = tmp_path / "timelines.jsonl"
    path.write_bytes(line_of(THREE[0]) + damage + b"\n" + line_of(THREE[2]))

    with pytest.raises(StoredRunError, match="line 2 is damaged") as raised:
        list(read_journal(path))
    assert str(path) in str(raised.value)


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    """Fields may be added under the same schema."""
    path = tmp_path / "timelines.jsonl"
    path.write_bytes(line_of(THREE[0]).replace(b'{"index"', b'{"mood":"fine","index"'))

    assert len(list(read_journal(path))) == 1


def test_full_disk_is_said() -> None:
    """The kernel's own full device: a run that cannot be kept must not go on unnoticed."""
    with Journal(Path("/dev/full")) as journal, pytest.raises(StoredRunError, match="No space"):
        journal.append(THREE[0])


def test_journal_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """Before anything is measured."""
    with pytest.raises(StoredRunError, match="cannot be written: No such file"):
        Journal(tmp_path / "nowhere" / "timelines.jsonl")


def test_journal_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A folder in its place."""
    with pytest.raises(StoredRunError, match="cannot be read: Is a directory"):
        list(read_journal(tmp_path))


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """Also in a folder that others may look into: it holds what a server said."""
    path = written(tmp_path / "timelines.jsonl")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_stored_journal_is_a_sequence_that_is_read_when_wanted(tmp_path: Path) -> None:
    """By index, by slice, from its end, as often as one likes; half a line is left out."""
    path = tmp_path / "timelines.jsonl"
    whole = [line_of(evolve(THREE[0], index=k)) for k in range(5)]
    path.write_bytes(b"".join(whole) + whole[0][:-5])
    stored = StoredTimelines(path)
    assert len(stored) == 5
    assert [t.index for t in stored] == [t.index for t in stored] == [0, 1, 2, 3, 4]
    assert (stored[1].index, stored[-1].index) == (1, 4)
    assert [t.index for t in stored[1:4:2]] == [1, 3]
    with pytest.raises(IndexError):
        stored[5]
    with pytest.raises(StoredRunError, match="cannot be read"):
        StoredTimelines(tmp_path / "none")
