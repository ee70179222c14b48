"""What the page on loads and workloads shows works as it is shown."""

import re
import shlex
from pathlib import Path

import pytest

from llmperf_core.cli.main import _parser
from llmperf_core.testing import ReferenceServer, Script

PAGE = (Path(__file__).parents[1] / "docs" / "loads_and_workloads.md").read_text("utf-8")


def test_python_runs_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks run one after the other, against a server at another address."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    namespace: dict[str, object] = {}
    with ReferenceServer(Script(first_token_s=0.01, gap_s=0.002)) as server:
        for block in blocks:
            source = block.replace("http://127.0.0.1:8080", server.url)
            exec(compile(source, "the page", "exec"), namespace)  # noqa: S102 -- our own page
    assert len(blocks) == 3


def test_options_are_understood() -> None:
    """Each form of the command line in the tables is one that the parser takes."""
    shown = [code for code in re.findall(r"`(--[^`]+)`", PAGE) if not code.endswith("-prompts")]
    assert len(shown) > 12
    for options in shown:
        _parser().parse_args(["bench", "http://127.0.0.1:8080", *shlex.split(options)])
