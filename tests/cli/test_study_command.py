"""`llmperf study`: plan, run, resume; what it prints, and its status."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmperf_core.cli import main
from llmperf_core.studies import Study
from llmperf_core.testing import ReferenceServer, Script
from tests.studies.metered import Meter, Metered

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the URL of a reference server."""
    with ReferenceServer(Script(first_token_s=0.002, gap_s=0.002)) as server:
        yield server.url


@pytest.fixture
def file(url: str, tmp_path: Path) -> Path:
    """Return a study of a server that is there, and of one that is not."""
    path = tmp_path / "study.toml"
    path.write_text(f"""
loads = [{{ kind = "concurrency", slots = [1, 2] }}]
workload = {{ kind = "fixed", text = "Write of llamas", max_new_tokens = 2 }}

[settings]
duration_s = 0.3
warmup_s = 0
in_process = true

[[targets]]
url = "{url}"

[[targets]]
url = "http://127.0.0.1:9"
price_usd_per_h = 1.5
price_as_of = "2026-11-25"
price_source = "a list"
""")
    return path


def test_the_plan_is_printed_and_nothing_is_brought_up(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it takes, and what would be refused; 1 if something would."""
    assert main(["study", str(file), "--plan"]) == 1
    said = capsys.readouterr().out
    assert "2 stages (concurrency 1, concurrency 2)" in said
    assert "refused: cannot reach http://127.0.0.1:9" in said
    assert "2 cells in 1 bring-ups" in said
    assert main(["study", str(file), "--plan", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["schema"] == "llmperf.plan/1"
    assert [path.name for path in file.parent.iterdir()] == ["study.toml"]


def test_a_study_is_run_and_resumed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What failed and what is missing is said, with the status 1."""
    out = file.parent / "out"
    assert main(["study", str(file), "--out", str(out), "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "failed: cannot reach http://127.0.0.1:9" in said
    assert "missing: concurrency 1, concurrency 2" in said
    assert "2 of 4 cells are measured" in said

    assert main(["study", str(file), "--out", str(out)]) == 1
    assert "there is a study in it already; resume it: --resume" in capsys.readouterr().err
    assert main(["study", str(file), "--out", str(out), "--resume", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["missing"]) == ("llmperf.study/1", 2)
    assert main(["study", str(file), "--plan", "--out", str(out)]) == 1
    assert "all 2 cells are measured" in capsys.readouterr().out


def test_without_a_folder_it_is_only_planned(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A study is worth keeping."""
    assert main(["study", str(file)]) == 2
    assert "--out DIR; or only plan it: --plan" in capsys.readouterr().err


def test_a_file_that_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The place in it, and what was expected."""
    (tmp_path / "study.toml").write_text("targetz = []")
    assert main(["study", str(tmp_path / "study.toml"), "--plan"]) == 2
    said = capsys.readouterr().err
    assert said.endswith("targetz: there is no such key; did you mean 'targets'?\n")
    assert said.count("\n") == 1


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.mark.parametrize(
    ("answer", "options", "status", "bring_ups"),
    [
        ("n\n", ("--budget-usd", "1000"), {2}, 0),
        ("", ("--budget-usd", "1000"), {2}, 0),
        ("y\n", ("--budget-usd", "1000"), {0, 1}, 1),
        ("", ("--budget-usd", "1000", "--yes"), {0, 1}, 1),
        ("y\n", (), {2}, 0),
        ("y\n", ("--budget-usd", "1"), {1}, 0),
    ],
)
def test_before_money_is_spent_it_is_asked(
    answer: str,
    options: tuple[str, ...],
    status: set[int],
    bring_ups: int,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a terminal, unless `--yes` is said; and a budget is needed in any case."""
    meter = Meter()
    planned = _study(Metered(name="paid", meter=meter))
    monkeypatch.setattr("llmperf_core.cli.study.read_study", lambda _: planned)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    out = str(file.parent / "out")

    assert main(["study", str(file), "--out", out, "--quiet", *options]) in status
    assert len(meter.bring_ups) == bring_ups


def _study(target: Metered) -> Study:
    from llmperf_core.load import Concurrency
    from llmperf_core.run import Settings
    from llmperf_core.workload import Fixed

    how = Settings(duration_s=0.3, warmup_s=0, drain_s=1, in_process=True)
    return Study(
        targets=[target],
        loads=[Concurrency(1)],
        workload=Fixed("llamas", max_new_tokens=2),
        settings=how,
    )
