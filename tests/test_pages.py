"""What README and the pages show works as it is shown.

A new page is found by itself: its Python is run and its commands are parsed. What cannot be run
here goes into `NOT_RUN`, with the reason.
"""

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attrs import evolve

from llmperf_core.cli.main import _parser, main
from llmperf_core.testing import ReferenceServer, Script
from tests.test_compare import SERVER, SLOWER, SPEC, run, stage

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
SHOWN_URL = "http://127.0.0.1:8080"
RUN_ELSEWHERE: Mapping[str, str] = {
    "README.md": "tests/test_readme.py",
    "fake_sagemaker.md": "tests/sagemaker/test_page_fake.py",
    "testing.md": "tests/testing/test_docs_testing.py",
}
"""Pages whose Python another test runs."""
NOT_RUN: Mapping[str, tuple[frozenset[int], str]] = {
    "local.md": (frozenset({0}), "needs an engine, a GPU and 35 GB of weights"),
    "sagemaker.md": (
        frozenset(range(4)),
        "runs on a fake in test_page_sagemaker.py, but for what waits for AWS's own records",
    ),
}
"""The Python blocks of a page, from 0, of which only the names are checked, and why."""
OTHER_PROGRAMS: Mapping[str, str] = {
    "export": "sets a variable of the shell",
    "nox": "runs the tests: .ci/run does",
    "pip": "installs from an index",
    "pytest": "tests/test_pytest_plugin.py runs the plugin",
    "python": "runs a script of benchmarks/: tests/test_scripts.py does",
    "python3": "makes an environment",
}
"""What a line of a shell may begin with other than `llmperf`, and why it is not run here."""
RUNS = {"runs/before", "runs/after", "runs/study"}
"""The runs of the fixture `folder`."""
OUTPUT = {"", "text"}
"""Languages of blocks that show what is printed."""


def page_text(page: str) -> str:
    """Return the text of a page, or of README."""
    return (ROOT / page if page == "README.md" else DOCS / page).read_text("utf-8")


def fenced(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each fenced block, in order."""
    return re.findall(
        r"^```(\S*)[^\n]*\n(.*?)^```$", page_text(page), flags=re.DOTALL | re.MULTILINE
    )


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return [text for name, text in fenced(page) if name == language]


def commands(page: str) -> list[list[str]]:
    """Return the words of each command that a page shows."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    parts = (part for line in lines for part in line.split(" && "))
    return [words for part in parts if (words := shlex.split(part, comments=True))]


WITH_PYTHON = [page for page in PAGES if page not in RUN_ELSEWHERE and blocks(page, "python")]
WITH_COMMANDS = [page for page in ["README.md", *PAGES] if commands(page)]


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


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_every_block_is_seen_by_a_test(page: str) -> None:
    """A block in a language that nothing runs, reads or knows as output is a snippet unproved."""
    unknown = {name for name, _ in fenced(page)} - OUTPUT - {"python", "sh", "json", "toml"}
    assert not unknown, f"{page}: add a test for blocks in {unknown}, or call them text"
    assert page_text(page).count("```") % 2 == 0
    assert len(fenced(page)) == page_text(page).count("```") // 2, f"{page}: indented fence"
    for text in blocks(page, "json"):
        assert json.loads(text)
    for text in blocks(page, "toml"):
        assert tomllib.loads(text)


def test_what_is_run_elsewhere_is_so() -> None:
    """Each page of the list is there, and so is the test, which names it."""
    for page, test in RUN_ELSEWHERE.items():
        assert blocks(page, "python")
        assert page in (ROOT / test).read_text("utf-8")
    for page, (numbers, _) in NOT_RUN.items():
        assert max(numbers) < len(blocks(page, "python"))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_runs_as_shown(page: str, url: str) -> None:
    """The Python blocks run one after the other, against a server at another address."""
    namespace: dict[str, object] = {}
    left_out, _ = NOT_RUN.get(page, (frozenset[int](), ""))
    for number, block in enumerate(blocks(page, "python")):
        if number in left_out:
            assert_names_exist(page, block)
            continue
        source = block.replace(SHOWN_URL, url)
        try:
            exec(compile(source, page, "exec"), namespace)  # noqa: S102 -- our own page
        except Exception as error:
            error.add_note(
                f"docs/{page}, Python block {number}. If it needs what is not here, name it in "
                "NOT_RUN of tests/test_pages.py with the reason."
            )
            raise


def assert_names_exist(page: str, block: str) -> None:
    """Hold what a block imports of ours, and what it takes from `lp`, against what there is."""
    tree = compile(block, page, "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmperf_"):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            lp = importlib.import_module("llmperf_core")
            assert node.value.id != "lp" or hasattr(lp, node.attr), f"{page}: lp.{node.attr}"


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_are_understood(page: str) -> None:
    """Each `llmperf` command has only options that exist; other programs are known by name."""
    for words in commands(page):
        program = words[0].removeprefix(".venv/bin/")
        if program == "llmperf":
            _parser().parse_args(words[1:])
        else:
            assert program in OTHER_PROGRAMS, f"{page}: what is {program}? See OTHER_PROGRAMS"


def is_cheap(words: list[str]) -> bool:
    """Return whether a command asks the shown server, or only runs that the fixture has."""
    if words[0] != "llmperf":
        return False
    named = {part for word in words for part in word.split(",") if part.startswith("runs/")}
    # Those runs have one load, and it is none of those that the page picks.
    reads = words[1] in ("compare", "recommend", "targets") and "--at-load" not in words
    return words[1:3] == ["bench", SHOWN_URL] or (reads and named <= RUNS)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "words",
    [words for page in WITH_COMMANDS for words in commands(page) if is_cheap(words)],
    ids=shlex.join,
)
def test_cheap_commands_run(words: list[str], url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What reads runs that are there and what asks the shown server work; it prints an answer."""
    argv = [url if word == SHOWN_URL else word for word in words[1:]]
    if words[1] == "bench":
        argv += ["--duration", "0.3", "--warmup", "0", "--quiet"]
    status = main(argv)

    # 1 is an answer too: worse, or a window too short to be trusted.
    assert status in (0, 1)
    assert capsys.readouterr().out


def test_the_example_of_two_settings() -> None:
    """It measures both, and says what all figures come to."""
    example = ROOT / "examples" / "compare_settings.py"
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
