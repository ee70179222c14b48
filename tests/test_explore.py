"""Questions to a real server: each load is chosen by what the stages before it said."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmperf_core as lp
from llmperf_core.cli import main
from llmperf_core.testing import ReferenceServer, Script

# Its answers take 10 + 3 × 40 ms however many there are; a late reader has 40 ms.
SCRIPT = Script(first_token_s=0.01, gap_s=0.04)
WORKLOAD = lp.Synthetic(16, 4)
SETTINGS = lp.Settings(warmup_s=0, quiet=True)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the address of a server that is never saturated."""
    with ReferenceServer(script=SCRIPT) as server:
        yield server.url


def test_a_limit_that_always_holds(url: str, tmp_path: Path) -> None:
    """The search doubles up to the most; its stages are kept like those of a sweep."""
    question = lp.Search(
        limits=[lp.PercentileLimit("e2e", 50, 10_000)], by="concurrency", most=4, duration_s=3
    )
    settings = lp.Settings(warmup_s=0, quiet=True, folder=tmp_path / "run")
    found = lp.explore(url, question, workload=WORKLOAD, settings=settings)

    assert isinstance(found.answer, lp.Capacity)
    assert [probe.value for probe in found.answer.probes] == [1, 2, 4]
    assert (found.answer.holds_at, found.answer.broken_at) == (4, None)
    kept = [stage.load.value for stage in lp.load_run(tmp_path / "run").stages]
    assert list(dict.fromkeys(kept)) == [1, 2, 4]  # one that proves nothing is measured again
    assert repr(found).startswith("e2e.p50=10000: still holds at 4 in flight, the most tried\n")
    assert "still holds at 4 in flight" in found._repr_html_()


async def test_a_limit_that_never_holds(url: str) -> None:
    """Half the load is tried until the least; the asynchronous form says the same."""
    question = lp.Search(
        limits=[lp.PercentileLimit("e2e", 50, 100)], start=20, least=10, duration_s=3
    )
    found = await lp.aexplore(url, question, workload=WORKLOAD, settings=SETTINGS)

    assert isinstance(found.answer, lp.Capacity)
    assert (found.answer.holds_at, found.answer.broken_at) == (None, 10)


def test_a_server_that_is_not_saturated(url: str) -> None:
    """Twice the requests in flight bring twice the tokens."""
    found = lp.explore(
        url, lp.Saturation(most=2, duration_s=2), workload=WORKLOAD, settings=SETTINGS
    )

    assert isinstance(found.answer, lp.SaturationPoint)
    assert not found.answer.saturated
    assert [slots for slots, _ in found.answer.tokens_per_s] == [1, 2]


def search(url: str, *more: str) -> int:
    """Run the command."""
    quick = ["--duration", "3", "--warmup", "0", "--output-tokens", "4", "--quiet"]
    return main(["search", url, *quick, *more])


def test_the_command_prints_the_answer_first(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is one line, then come the stages; the status is that of a gate."""
    status = search(url, "--limit", "e2e.p50=10000", "--by", "concurrency", "--most", "1")

    answer, _, rest = capsys.readouterr().out.partition("\n")
    assert status == 0
    assert answer == "e2e.p50=10000: still holds at 1 in flight, the most tried"
    assert "concurrency 1" in rest


def test_a_limit_that_holds_nowhere_fails_the_gate(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1; the JSON document has the answer and the run."""
    status = search(url, "--limit", "e2e.p50=50", "--by", "concurrency", "--json")

    document = json.loads(capsys.readouterr().out)
    assert status == 1
    assert document["schema"] == "llmperf.exploration/1"
    assert document["answer"]["broken_at"] == 1
    assert document["answer"]["limits"] == ["e2e.p50=50"]
    assert {stage["load"]["value"] for stage in document["run"]["stages"]} == {1}


def test_the_saturation_of_the_command_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--saturation` takes no limit."""
    assert search(url, "--saturation", "--most", "1") == 0
    assert capsys.readouterr().out.startswith("not saturated: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit", "ttft=5"], "limit 'ttft=5'"),
        (["--limit", "ttft.p99=5", "--start", "0"], "'start' must be > 0"),
    ],
)
def test_a_wrong_question_is_a_usage_error(
    url: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what is wrong; nothing is measured."""
    assert search(url, *words) == 2
    assert said in capsys.readouterr().err
