"""What the pages on comparing and importing show works as it is shown."""

import re
import shlex
from pathlib import Path

import pytest

from llmperf_core.cli.main import _parser
from tests.test_compare import SERVER, SLOWER, run, stage

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "comparing.md", ROOT / "docs" / "importing.md"]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs_as_shown(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks run one after the other, on the runs and files that they name."""
    run(stage(SERVER, 1)).save(tmp_path / "runs" / "before")
    run(stage(SLOWER, 2)).save(tmp_path / "runs" / "after")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)  # noqa: S102 -- our own page
    assert "lp" in namespace


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    """Each `llmperf` command line has only options that exist."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        _parser().parse_args(shlex.split(line, comments=True)[1:])
