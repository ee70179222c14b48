"""What the pages show works as it is shown."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from llmperf_core.cli.main import _parser
from llmperf_core.testing import ReferenceServer, Script
from tests.test_compare import SERVER, SLOWER, SPEC, run, stage

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page.name for page in DOCS.glob("*.md"))
WITH_PYTHON = [
    "index.md",
    "comparing.md",
    "extending.md",
    "importing.md",
    "instrument.md",
    "loads_and_workloads.md",
    "reading.md",
    "recommending.md",
    "searching.md",
    "simulator.md",
    "studies.md",
    "telemetry.md",
    "test_suites.md",
]
"""Their Python runs here, one block after the other."""
ELSEWHERE = {
    "fake_sagemaker.md": "tests/sagemaker/test_page_fake.py",
    "local.md": "tests/local/container/test_page.py",
    "testing.md": "tests/testing/test_docs_testing.py",
}
"""Their Python runs there: it needs what stands there."""
ON_AWS = {"sagemaker.md"}
"""Their Python would run in an AWS account; what it imports is held to exist."""
OTHER_COMMANDS = {"pip", "pytest", "python", "export"}
"""What else a shell is shown to run. `tests/test_readme.py` runs what README shows."""
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
    (tmp_path / "study.toml").write_text(blocks("studies.md", "toml")[0])
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
    assert namespace.keys() > {"__builtins__"}


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_every_page_runs_somewhere(page: str) -> None:
    """A block that nothing runs is wrong sooner or later."""
    here, there = page in WITH_PYTHON, ELSEWHERE.get(page)
    assert bool(blocks(page, "python")) == (here or there is not None or page in ON_AWS)
    if there is not None:
        assert page in (DOCS.parent / there).read_text("utf-8")


@pytest.mark.parametrize("page", sorted(ON_AWS))
def test_what_is_for_an_account_can_be_imported(page: str) -> None:
    """And it is Python, with an `await` where a notebook may have one."""
    for block in blocks(page, "python"):
        tree = compile(
            block, page, "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        imports: list[ast.stmt] = [
            node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        exec(compile(ast.Module(imports, []), page, "exec"), {})  # noqa: S102 -- our own page


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page: str) -> None:
    """Each `llmperf` command line has only options that exist; no other program is unknown."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "llmperf":
                _parser().parse_args(words[1:])
            elif words:
                assert words[0] in OTHER_COMMANDS, line


def test_the_example_of_two_settings() -> None:
    """It measures both, and says what all figures come to."""
    example = DOCS.parent / "examples" / "compare_settings.py"
    ran = subprocess.run(
        [sys.executable, example, "--duration", "2"], capture_output=True, text=True, check=True
    )
    assert "?max_batch_prefill_tokens=8192 against" in ran.stdout
    assert re.search(r"All figures together: (better|worse|same|cannot tell)\.$", ran.stdout)


def test_options_of_loads_are_understood() -> None:
    """Each form of the command line in the tables is one that the parser takes."""
    text = (DOCS / "loads_and_workloads.md").read_text("utf-8")
    shown = [code for code in re.findall(r"`(--[^`]+)`", text) if not code.endswith("-prompts")]
    assert len(shown) > 12
    for options in shown:
        _parser().parse_args(["bench", SHOWN_URL, *shlex.split(options)])
