"""`llmperf import`: what it keeps, what it prints, and its status."""

from pathlib import Path

import pytest

from llmperf_core import load_run
from llmperf_core.cli import main
from tests.importers.test_importers import FILES, STUDY


def test_a_run_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run goes into the folder itself, and its path is printed."""
    out = tmp_path / "run"
    assert main(["import", "guidellm", str(FILES["guidellm"]), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert len(load_run(out).stages) == 2


def test_several_runs_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The study's deployments get a folder each, which `llmperf compare` reads."""
    assert main(["import", "published-study", str(STUDY), "--out", str(tmp_path)]) == 0
    folders = capsys.readouterr().out.splitlines()
    assert len(folders) == 15
    both = ["compare", folders[0], folders[2], "--allow-differences"]
    assert main(both) == 0
    assert "time_per_token p50 ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "file", "status", "says"),
    [
        ("k6", str(STUDY), 2, "no format 'k6'"),
        ("guidellm", str(STUDY), 2, "cannot be imported as guidellm: JSON is malformed"),
        ("guidellm", "nowhere.json", 2, "No such file"),
    ],
)
def test_what_cannot_be_is_one_line(
    name: str,
    file: str,
    status: int,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bad input is status 2, and nothing is kept."""
    assert main(["import", name, file, "--out", str(tmp_path / "out")]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
