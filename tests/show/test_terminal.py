"""What a real terminal gets while a run goes on, and what a pipe does not."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmperf_core.testing import ReferenceServer, Script
from llmperf_core.units import NS_PER_MS

_RUN = f"""
from llmperf_core.show.live import Live
from llmperf_core.timeline import Completed, Progress, Timeline

live = Live()
with live.waiting("bringing up http://model") as report:
    report("loading")
with live.stage("concurrency 20", 12.0) as stage:
    stage.note(Timeline(index=0, due_at_ns=None, sent_at_ns=0, token_at_ns=[{NS_PER_MS}],
                        ended_at_ns={2 * NS_PER_MS}, outcome=Completed()))
    stage.report(Progress(phase="measuring", elapsed_ns=5 * 10**9, in_flight=3, started=4, ended=1))
print("the end")
"""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*([A-Za-z])")
_QUIET = {"CI", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES"}


def on_terminal(argv: list[str], *, columns: int, **environment: str) -> str:
    """Return what a program writes to a terminal that is so wide, on both streams."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written: list[bytes] = []

    def read() -> None:
        # Linux says that the other side is gone with an error and not with an end of file.
        try:
            while chunk := os.read(ours, 65536):
                written.append(chunk)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    env = {**_clean(), "TERM": "xterm-256color", **environment}
    try:
        subprocess.run(argv, stdin=its, stdout=its, stderr=its, env=env, check=True, timeout=100)
    finally:
        os.close(its)
        reader.join()
        os.close(ours)
    return b"".join(written).decode()


def _clean() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _QUIET}


def left_on_screen(written: str) -> list[str]:
    """Return the lines that stand on the screen in the end, as far as our control codes go."""
    screen, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", written):
        control = _CONTROL.fullmatch(part)
        if control is None and part not in "\r\n":
            screen[row] = (
                screen[row][:column].ljust(column) + part + screen[row][column + len(part) :]
            )
            column += len(part)
        elif part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            screen += [""] * (row + 1 - len(screen))
        elif control is not None and control[1] == "A":
            row -= int(re.sub(r"\D", "", part) or 1)
        elif control is not None and control[1] == "K":
            screen[row] = ""
    return [line for line in screen if line.strip()]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_progress_fits_and_leaves_nothing(columns: int) -> None:
    """No line reaches the terminal's edge, and at the end only what was printed is there."""
    written = on_terminal([sys.executable, "-c", _RUN], columns=columns)
    lines = re.split(r"[\r\n]+", _CONTROL.sub("", written))

    assert "3 in flight" in written
    assert max(map(len, lines)) < columns
    assert left_on_screen(written) == ["the end"]


@pytest.mark.parametrize("variable", ["CI=true", "TERM=dumb"])
def test_logs_get_no_progress(variable: str) -> None:
    """Where all that is written is kept, progress would be nothing but noise."""
    name, value = variable.split("=")
    assert on_terminal([sys.executable, "-c", _RUN], columns=80, **{name: value}) == "the end\r\n"


def test_no_color_is_heeded() -> None:
    """The progress is there, without a colour."""
    written = on_terminal([sys.executable, "-c", _RUN], columns=80, NO_COLOR="1")
    colours = [
        code for code in re.findall(r"\x1b\[([\d;]*)m", written) if re.search("3[0-7]|38", code)
    ]

    assert "3 in flight" in written
    assert colours == []


def test_pipe_gets_the_table_alone() -> None:
    """No progress, no blanks at the ends of lines; FORCE_COLOR is about colours only."""
    with ReferenceServer(Script(first_token_s=0.01, gap_s=0.002)) as server:
        command = f"bench {server.url} --concurrency 2 --requests 20 --warmup 0"
        done = subprocess.run(
            [Path(sys.executable).with_name("llmperf"), *command.split()],
            env={**_clean(), "FORCE_COLOR": "1"},
            check=False,
            capture_output=True,
            text=True,
            timeout=100,
        )
    plain = _CONTROL.sub("", done.stdout)

    assert done.stderr == ""
    assert "concurrency 2" in plain
    assert [line for line in plain.splitlines() if line != line.rstrip()] == []
