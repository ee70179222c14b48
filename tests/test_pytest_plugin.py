"""The pytest plugin, used as another team's test suite uses it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "examples" / "test_suite"
SLOWER = "sim:llama-2-7b@ml.g5.12xlarge?decode=1.2"
TRIES = 4
HEAD = """
import pytest
import llmperf_core as lp
from llmperf_core.testing import ReferenceServer, Script

QUICK = Script(first_token_s=0.02, gap_s=0.02)
SETTINGS = lp.Settings(duration_s=1, warmup_s=0, quiet=True)
ASK = lp.Fixed("Write of llamas", max_new_tokens=5)
"""


def run_pytest(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest in a folder, as a user does."""
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:randomly", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def outcomes(said: str) -> dict[str, int]:
    """Return how many tests passed, failed or were skipped, from the last line."""
    words = "passed|failed|skipped|error"
    return {word: int(n) for n, word in re.findall(rf"(\d+) ({words})", said.splitlines()[-1])}


def suite_of(folder: Path, tests: str, **conftest: str) -> Path:
    """Write a small suite."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_server.py").write_text(HEAD + tests)
    for name, text in conftest.items():
        (folder / f"{name}.py").write_text(HEAD + text)
    return folder


CONFTEST = """
@pytest.fixture(scope="session")
def llmperf_target(llmperf_scripted):
    return llmperf_scripted(QUICK)
"""


def until(expected: dict[str, int], folder: Path, *arguments: str) -> str:
    """Return what pytest prints once it ends as expected: a busy machine makes runs invalid."""
    for _ in range(TRIES):
        said = run_pytest(folder, *arguments).stdout
        if outcomes(said) == expected:
            return said
    pytest.fail(said)


def test_the_example_suite(tmp_path: Path) -> None:
    """It passes against the server of its baseline, and fails against one that is 20 % slower."""
    suite = shutil.copytree(SUITE, tmp_path / "suite")

    before = run_pytest(suite, "-k", "fast").stdout
    assert "make it with --llmperf-update" in before
    assert "Traceback" not in before

    until({"passed": 1}, suite, "-k", "fast", "--llmperf-update")
    (baseline,) = suite.glob("baselines/chat/*")
    assert sorted(repeat.name for repeat in baseline.iterdir()) == ["1", "2", "3"]
    until({"passed": 1}, suite, "-k", "fast")

    slower = until({"failed": 1}, suite, "-k", "fast", "--llmperf-target", SLOWER)
    assert "llmperf: worse than the baseline by more than 5.00 % (3 against 3" in slower
    assert re.search(r"itl\.p50: [\d.]+ → [\d.]+ ms, \+\d", slower)
    assert "SIMULATED" in slower


def test_a_suite_without_a_target_is_skipped(tmp_path: Path) -> None:
    """And says what to give."""
    suite = suite_of(tmp_path, "def test_it(llmperf_bench): llmperf_bench(lp.Concurrency(1))")
    ran = run_pytest(suite)
    assert outcomes(ran.stdout) == {"skipped": 1}
    assert "give --llmperf-target URL" in ran.stdout


def test_a_server_that_is_down_fails_in_one_line(tmp_path: Path) -> None:
    """With the address and no traceback."""
    suite = suite_of(tmp_path, "def test_it(llmperf_bench): llmperf_bench(lp.Concurrency(1))")
    ran = run_pytest(suite, "--llmperf-target", "http://127.0.0.1:9")
    assert ran.returncode == 1
    assert "llmperf: cannot reach http://127.0.0.1:9" in ran.stdout
    assert "Traceback" not in ran.stdout
    assert "pytest_plugin.py" not in ran.stdout


def test_limits_and_verdicts_on_several_workers(tmp_path: Path) -> None:
    """Under pytest-xdist and without a cache: what holds passes, what is broken says so."""
    suite = suite_of(
        tmp_path,
        """
@pytest.mark.llmperf(slo="ttft.p90=2000")
def test_holds(llmperf_bench):
    stage = llmperf_bench(lp.Concurrency(8), workload=ASK, settings=SETTINGS)
    assert stage["ttft"].p50 is not None

@pytest.mark.llmperf(slo="ttft.p90=2000,e2e.p50=1")
def test_breaks(llmperf_bench):
    llmperf_bench(lp.Concurrency(8), workload=ASK, settings=SETTINGS)

def test_is_invalid(llmperf_bench):
    with ReferenceServer(QUICK, fault="http-503-json") as server:
        llmperf_bench(lp.Concurrency(1), server.url, workload=ASK, settings=SETTINGS)

@pytest.mark.llmperf(slow="ttft.p90=2000")
def test_is_written_otherwise(llmperf_bench):
    llmperf_bench(lp.Concurrency(1), workload=ASK, settings=SETTINGS)

@pytest.mark.llmperf(slo="ttft.p90")
def test_is_no_limit(llmperf_bench):
    llmperf_bench(lp.Concurrency(1), workload=ASK, settings=SETTINGS)

@pytest.mark.anyio
async def test_in_a_running_loop(llmperf_bench):
    llmperf_bench(lp.Concurrency(2), workload=ASK, settings=SETTINGS)
""",
        conftest=CONFTEST + '\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n',
    )
    junit = tmp_path / "junit.xml"
    expected = {"failed": 3, "passed": 2, "skipped": 1}
    said = until(expected, suite, "-n", "2", "-p", "no:cacheprovider", f"--junitxml={junit}")

    assert "e2e.p50=1: 100 % of the values lie beyond, 50 % may" in said
    assert "ttft.p90=2000:" not in said
    assert "llmperf: the numbers cannot be used: no_completed_request" in said
    assert "a marker is written otherwise: llmperf(slo=None, baseline=None" in said
    assert "write METRIC.pPERCENTILE=MS" in said
    assert "llmperf_ttft_p50_ms" in junit.read_text()


def test_a_damaged_baseline_is_named(tmp_path: Path) -> None:
    """With what to do."""
    suite = suite_of(
        tmp_path,
        """
@pytest.mark.llmperf(baseline="it", gate=lp.Gate(repeats=1))
def test_it(llmperf_bench):
    llmperf_bench(lp.Concurrency(8), workload=ASK, settings=SETTINGS)
""",
        conftest=CONFTEST,
    )
    until({"passed": 1}, suite, "--llmperf-update", "--llmperf-baselines", "kept")
    (path,) = suite.glob("kept/it/*/1/run.json")
    path.write_text("{")
    assert "--llmperf-update" in until({"failed": 1}, suite, "--llmperf-baselines", "kept")
