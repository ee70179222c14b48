"""Recorded arrivals, as they are published and as we record them."""

from pathlib import Path

import pytest

from llmperf_core.errors import StoredRunError, UsageError
from llmperf_core.load import Replay
from llmperf_core.run.journal import Journal
from llmperf_core.timeline import Completed, Timeline, TokenCount
from llmperf_core.traces import read_trace
from llmperf_core.units import NS_PER_MS, NS_PER_S

# Their first lines, as published.
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:48.2224670,879,55
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
"""
MOONCAKE = """{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}
{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [46, 47, 48]}
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,ChatGPT,1087,230,1317,Conversation log
1106,ChatGPT,0,0,0,Conversation log
"""
BURSTGPT_2 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Log Type
5,7,1.5,GPT-4,472,18,Conversation log
"""


def read(tmp_path: Path, text: str, **options: float) -> Replay:
    """Return the trace that a file with this text holds."""
    path = tmp_path / "trace"
    path.write_text(text)
    return read_trace(path, **options)  # type: ignore[arg-type] # by name


def test_azure(tmp_path: Path) -> None:
    """Seven digits of a second, without a zone, and put in order."""
    replay = read(tmp_path, AZURE)

    assert [at_ns // 1000 for at_ns in replay.at_ns] == [0, 1_541_877, 4_314_579]
    assert (replay.input_tokens, replay.output_tokens) == ((374, 879, 396), (44, 55, 109))


def test_azure_of_2024(tmp_path: Path) -> None:
    """The same columns, with a zone."""
    assert read(tmp_path, AZURE_2024).at_ns == (0, 7_405_000)


def test_mooncake(tmp_path: Path) -> None:
    """Milliseconds, from any zero."""
    replay = read(tmp_path, MOONCAKE)

    assert replay.at_ns == (0, 3053 * NS_PER_MS)
    assert (replay.input_tokens, replay.output_tokens) == ((6955, 6472), (52, 26))


def test_burstgpt(tmp_path: Path) -> None:
    """Seconds; a failed request has no lengths there, and still asks for something here."""
    replay = read(tmp_path, BURSTGPT)

    assert replay.at_ns == (0, round(40.5 * NS_PER_S), 1101 * NS_PER_S)
    assert (replay.input_tokens, replay.output_tokens) == ((472, 1087, 1), (18, 230, 1))
    assert read(tmp_path, BURSTGPT_2).input_tokens == (472,)


def test_speed_and_limit(tmp_path: Path) -> None:
    """Twice as fast, and only the first ones."""
    assert read(tmp_path, BURSTGPT, speed=2, limit=2).at_ns == (0, round(20.25 * NS_PER_S))


def journal(tmp_path: Path, *timelines: Timeline) -> Path:
    """Write a journal, and return where."""
    path = tmp_path / "timelines.jsonl"
    with Journal(path) as file:
        for timeline in timelines:
            file.append(timeline)
    return path


def request(due_at_ns: int | None, sent_at_ns: int | None, tokens: TokenCount) -> Timeline:
    """Return a request with these figures."""
    return Timeline(
        index=0,
        due_at_ns=due_at_ns,
        sent_at_ns=sent_at_ns,
        ended_at_ns=99,
        outcome=Completed(),
        tokens=tokens,
    )


def test_our_own_journal(tmp_path: Path) -> None:
    """From due where it was, else from sent; in the order of starting, not of ending."""
    counts = TokenCount(output=5, input=7)
    path = journal(tmp_path, request(None, 40, counts), request(10, 30, counts))
    replay = read_trace(path)

    assert replay.at_ns == (0, 30)
    assert (replay.input_tokens, replay.output_tokens) == ((7, 7), (5, 5))


def test_lengths_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    """Some would be made up."""
    path = journal(
        tmp_path,
        request(None, 40, TokenCount(output=5, input=7)),
        request(None, 50, TokenCount(output=6)),
        request(None, None, TokenCount()),
    )
    replay = read_trace(path)

    assert len(replay.at_ns) == 2
    assert (replay.input_tokens, replay.output_tokens) == (None, (5, 6))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no known format"),
        ("a,b\n1,2\n", "first line is 'a,b'"),
        ("[1]\n", "no known format"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no arrival"),
        (AZURE + "yesterday,1,2\n", "entry 4: Invalid isoformat"),
        (AZURE + "2023-11-16 18:15:46,1\n", "entry 4"),
        (BURSTGPT + "inf,ChatGPT,1,2,3,API log\n", "entry 4"),
        (MOONCAKE + '{"timestamp": 1}\n', "entry 3.*input_length"),
        (MOONCAKE + "{\n", "entry 3"),
    ],
)
def test_what_is_no_trace_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    """With the file, the place in it, and what is wrong."""
    with pytest.raises(UsageError, match=said) as raised:
        read(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, no text, or a journal that is damaged."""
    with pytest.raises(UsageError, match="No such file"):
        read_trace(tmp_path / "none")
    (tmp_path / "image").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        read_trace(tmp_path / "image")
    (tmp_path / "timelines.jsonl").write_text("{}\n")
    with pytest.raises(StoredRunError, match="line 1 is damaged"):
        read_trace(tmp_path / "timelines.jsonl")


@pytest.mark.parametrize("options", [{"speed": 0}, {"limit": 0}])
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, float]) -> None:
    """No time, or no requests."""
    with pytest.raises(ValueError, match="must be > 0"):
        read(tmp_path, BURSTGPT, **options)
