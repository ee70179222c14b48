"""What the pages show works as it is shown."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from llmperf_core.cli.main import _parser
from llmperf_core.testing import ReferenceServer, Script
from tests.test_compare import SERVER, SLOWER, SPEC, run, stage

DOCS = Path(__file__).parents[1] / "docs"
WITH_PYTHON = [
    "index.md",
    "comparing.md",
    "importing.md",
    "loads_and_workloads.md",
    "reading.md",
    "recommending.md",
    "searching.md",
    "test_suites.md",
]
WITH_COMMANDS = ["comparing.md", "importing.md", "reading.md", "recommending.md", "searching.md"]
SHOWN_URL = "http://127.0.0.1:8080"


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the runs and the files that the pages name."""
    run(stage(SERVER, 1)).save(tmp_path / "runs" / "before")
    run(stage(SLOWER, 2)).save(tmp_path / "runs" / "after")
    for name, model in (("small", SLOWER), ("large", SERVER)):
        spec = evolve(SPEC, target=f"http://{name}:8080")
        run(stage(model, 3, spec=spec)).save(tmp_path / "runs" / "study" / name)
    (tmp_path / "examples").symlink_to(DOCS.parent / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def url() -> Iterator[str]:
    """Yield the address of a server that is really there."""
    with ReferenceServer(Script(first_token_s=0.01, gap_s=0.002)) as server:
        yield server.url


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_runs_as_shown(page: str, url: str) -> None:
    """The Python blocks run one after the other, against a server at another address."""
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        source = block.replace(SHOWN_URL, url)
        exec(compile(source, page, "exec"), namespace)  # noqa: S102 -- our own page
    assert "lp" in namespace


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_are_understood(page: str) -> None:
    """Each `llmperf` command line has only options that exist."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        _parser().parse_args(shlex.split(line, comments=True)[1:])


def test_options_of_loads_are_understood() -> None:
    """Each form of the command line in the tables is one that the parser takes."""
    text = (DOCS / "loads_and_workloads.md").read_text("utf-8")
    shown = [code for code in re.findall(r"`(--[^`]+)`", text) if not code.endswith("-prompts")]
    assert len(shown) > 12
    for options in shown:
        _parser().parse_args(["bench", SHOWN_URL, *shlex.split(options)])
