"""`llmperf recommend`: what it prints, and its status."""

import json
from pathlib import Path

import pytest
from attrs import evolve

from llmperf_core.cli import main
from llmperf_core.load import Concurrency
from tests.judge.queue_model import Model
from tests.test_compare import SERVER, SPEC, run, stage

FAST = evolve(SERVER, step_ms=SERVER.step_ms / 2)
PRICES = ("--price", "http://fast=8", "--price", "http://s*=1")


def stage_of(name: str, model: Model, seed: int, folder: Path, *, slots: int = 8) -> None:
    """Keep a run of a target with one stage."""
    spec = evolve(SPEC, target=f"http://{name}")
    run(stage(model, seed, spec=spec, load=Concurrency(slots))).save(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a fast server, and of two that are alike."""
    folder = tmp_path_factory.mktemp("runs")
    stage_of("fast", FAST, 1, folder / "study" / "fast")
    stage_of("slow", SERVER, 2, folder / "study" / "slow")
    stage_of("same", SERVER, 3, folder / "same")
    return folder


def test_a_folder_of_runs_is_chosen_among(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 0 where every rule has its winner; the answers come first, prices have their day."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["recommend", str(folders / "study"), *PRICES]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    answers = said.out.splitlines()[1:4]
    assert answers[0].startswith("most cost-effective: http://slow at concurrency 8: ")
    assert answers[1].startswith("best throughput: http://fast at concurrency 8: ")
    assert answers[2].startswith("best latency: http://fast at concurrency 8: ")
    assert "given with --price: http://fast" in said.out


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 1),
        (("--rule", "throughput"), 1),
        (("--rule", "latency", "--latency", "ttft.p99"), 1),
        (("--rule", "throughput", "--budget", "2", "--price", "*=1"), 1),
        (("--rule", "cost", "--at-load", "8", "--price", "http://same=2", *PRICES[2:]), 0),
        (("--rule", "cost", "--at-load", "cost=8", "--utilisation", "50%", *PRICES[2:]), 1),
        (("--rule", "throughput", "--limit", "e2e.p90=1100,ttft.p99=5000"), 1),
        (("--rule", "throughput", "--slo", "e2e=900", "--loads", "1:8"), 1),
    ],
)
def test_the_status_says_whether_there_is_a_winner(
    folders: Path, options: tuple[str, ...], status: int
) -> None:
    """1 where two servers alike are all there is, 0 where a price decides between them."""
    given = [str(folders / "study" / "slow"), str(folders / "same")]
    assert main(["recommend", *given, *options]) == status


def test_constraints_reach_the_choice(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget leaves the fast one out; the document says so."""
    study = str(folders / "study")
    options = ("--budget", "2", "--memory", "80", "--between-runs", "1", "--json")
    assert main(["recommend", study, *PRICES, *options]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "llmperf.recommendation/1"
    assert {left["target"]: left["why"] for left in document["left_out"]} == {
        "http://fast": "8.00 USD/h are over the budget of 2 USD/h",
        "http://slow": "nobody saw how much memory it uses",
    }


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (("--at-load", "7"), 2, "nothing was measured at load 7"),
        (("--at-load", "poisson 8/s"), 2, "nothing was measured at load poisson 8/s"),
        (("--price", "nobody=1"), 2, "is for no target"),
        (("--rule", "beauty"), 2, "rules"),
        (("--latency", "ttft"), 2, "write METRIC.mean"),
        (("--limit", "ttft=3"), 2, "write METRIC.pPERCENTILE=MS"),
        (("--allow-differences", "colour"), 2, "no difference 'colour'"),
    ],
)
def test_what_cannot_be_is_one_line(
    folders: Path,
    options: tuple[str, ...],
    status: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on stderr, status 2."""
    assert main(["recommend", str(folders / "study"), *options]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--price", "seven"), "TARGET=USD/H"),
        (("--price", "=7"), "TARGET=USD/H"),
        (("--price", "a=-7"), "TARGET=USD/H"),
        (("--price", "a=inf"), "TARGET=USD/H"),
        (("--at-load", "beauty=5"), "'beauty' is none of cost, throughput, latency"),
        (("--loads", "5"), "LOW:HIGH"),
        (("--utilisation", "half"), "a number of per cent"),
    ],
)
def test_options_are_checked(
    options: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any folder is read."""
    with pytest.raises(SystemExit) as raised:
        main(["recommend", "nowhere", *options])
    assert raised.value.code == 2
    assert says in capsys.readouterr().err


def test_a_folder_without_runs_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says so."""
    assert main(["recommend", str(tmp_path)]) == 1
    assert "is it a run's folder?" in capsys.readouterr().err
