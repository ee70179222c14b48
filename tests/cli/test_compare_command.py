"""`llmperf compare`: what it prints, and its status for gates."""

import json
from pathlib import Path

import pytest

from llmperf_core.cli import main
from llmperf_core.load import Concurrency
from tests.test_compare import SERVER, SLOWER, SPEC, run, stage


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs in folders: before, again, slower, and one under another load."""
    folder = tmp_path_factory.mktemp("runs")
    run(stage(SERVER, 1)).save(folder / "before")
    run(stage(SERVER, 2)).save(folder / "again")
    run(stage(SLOWER, 3)).save(folder / "slower")
    run(stage(SERVER, 4, load=Concurrency(9), spec=SPEC)).save(folder / "other")
    return folder


@pytest.mark.parametrize(
    ("candidate", "options", "status"),
    [
        ("again", (), 0),
        ("slower", (), 1),
        ("slower", ("--margin", "50%"), 0),
        ("other", ("--allow-differences",), 0),
        ("other", ("--allow-differences", "load"), 0),
        ("again,before", (), 0),
    ],
)
def test_the_status_is_a_gate(
    folders: Path,
    candidate: str,
    options: tuple[str, ...],
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """0 where nothing is worse, 1 where something is; a table is printed."""
    paths = ",".join(str(folders / name) for name in candidate.split(","))
    assert main(["compare", str(folders / "before"), paths, *options]) == status
    said = capsys.readouterr()
    assert "itl p50 ms" in said.out
    assert said.err == ""


def test_the_json_document(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints one document and nothing else, with the same status."""
    both = [str(folders / "before"), str(folders / "slower")]
    assert main(["compare", *both, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["outcome"]) == ("llmperf.comparison/1", "worse")
    (pair,) = document["stages"]
    assert {"metric", "statistic", "outcome", "effect", "ci95", "detectable"} <= set(
        pair["changes"][0]
    )


def test_a_baseline_alone_says_what_could_be_seen(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a table and as a document."""
    assert main(["compare", str(folders / "before")]) == 0
    assert "detectable" in capsys.readouterr().out
    assert main(["compare", str(folders / "before"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["detectable"]
    assert any(row["metric"] == "itl" and row["detectable"] < 0.05 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("before", "other"), 2, "--allow-differences load"),
        (("before", "nowhere"), 1, "is it a run's folder?"),
        (("before", "again", "--allow-differences", "colour"), 2, "no difference 'colour'"),
        (("before", "again", "--margin=-3"), 2, "the margin must be"),
    ],
)
def test_what_cannot_be_is_one_line(
    folders: Path,
    arguments: tuple[str, ...],
    status: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Unlike runs and bad input are status 2, a damaged folder 1; one line says why."""
    given = [a if a.startswith("-") or a == "colour" else str(folders / a) for a in arguments]
    assert main(["compare", *given]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert len(said.err.splitlines()) == 1


def test_a_margin_is_a_number(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is a usage error."""
    with pytest.raises(SystemExit) as raised:
        main(["compare", str(folders / "before"), "--margin", "wide"])
    assert raised.value.code == 2
    assert "a number of per cent" in capsys.readouterr().err
