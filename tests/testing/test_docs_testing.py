"""What the page about testing shows works as it is shown."""

import re
import subprocess
import sys
from pathlib import Path

from llmperf_core.testing import DIALECTS, FAULTS, Fault

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
_ONLY: dict[tuple[str, ...] | None, str] = {
    None: "",
    ("openai-chat", "openai-completions"): " (OpenAI)",
    ("openai-chat",): " (OpenAI chat)",
}


def row(fault: Fault) -> str:
    """Return the line that the table of faults has for it."""
    return f"| `{fault.name}` | {fault.played}{_ONLY[fault.protocols]} | `{fault.outcome}` |"


def test_its_code_runs(tmp_path: Path) -> None:
    """The blocks are a test module, one after the other: it runs, and its tests pass."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    (tmp_path / "test_page.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "test_page.py"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(blocks) == 6
    for test in ("test_codec", "test_recordings", "test_backend", "test_target"):
        assert f"::{test}" in done.stdout


def test_its_tables_are_complete() -> None:
    """Each fault has its line, and nothing else has one; each dialect is there."""
    lines = PAGE.read_text("utf-8").splitlines()
    faults = lines[lines.index("| fault | what is played | outcome |") + 2 :]
    assert faults[: len(FAULTS)] == [row(fault) for fault in FAULTS.values()]
    assert faults[len(FAULTS)] == ""
    for name in DIALECTS:
        assert any(f"| `{name}` |" in line for line in lines)
