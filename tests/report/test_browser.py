"""A real browser opens the report from disk, without a network."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from llmperf_core import write_report
from tests.report.hostile import EVIL, evil_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]
LIMIT_S = 120


def opened(page: Path, profile: Path) -> tuple[str, str]:
    """Return the document as the browser has it after loading, and what its console said."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            *("--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"),
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "HOME": str(profile)},
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(console)


def test_the_report_opens_and_nothing_in_it_runs(tmp_path: Path) -> None:
    """No console message, no request, no script; every picture is one with its words."""
    page = write_report(evil_run(), tmp_path / "run")
    document, console = opened(page, tmp_path / "profile")
    assert console == ""
    title = re.search(r"<title>(.*?)</title>", document)
    assert title is not None
    assert title[1].startswith("llmperf: &lt;script&gt;")
    pictures = re.findall(r"<svg.*?</svg>", document, flags=re.DOTALL)
    assert len(pictures) == 14
    assert all('role="img"' in one and "<desc" in one for one in pictures)
    assert "<script" not in document


def test_a_script_would_be_seen(tmp_path: Path) -> None:
    """The same text unescaped does run, and the test above would say so."""
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html><title>whole</title>{EVIL}", encoding="utf-8")
    document, console = opened(page, tmp_path / "profile")
    assert "broken in" in console
    assert "<title>broken in</title>" in document
