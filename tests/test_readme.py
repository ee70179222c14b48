"""What README shows works as it is shown."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.llm
def test_python_runs_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks run one after the other, against a real server."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), namespace)  # noqa: S102 -- our own README
    assert (tmp_path / "runs" / "tiny" / "run.json").exists()


def test_continuous_integration_runs_the_same_tests() -> None:
    """README's second command and `.ci/run` both run the default sessions of nox."""
    assert ".venv/bin/nox\n" in blocks("sh")[1]
    assert '/bin/nox" --nocolor' in (README.parent / ".ci" / "run").read_text("utf-8")
