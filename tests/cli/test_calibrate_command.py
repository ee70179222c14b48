"""`llmperf calibrate`, and a calibration beside what `llmperf bench` measures."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from llmperf_core import instrument, load_run
from llmperf_core.cli import bench, calibrate, main
from llmperf_core.judge import Calibration
from llmperf_core.load import LoadProfile
from llmperf_core.testing import ReferenceServer, Script
from tests.calibrated import GOOD

pytestmark = pytest.mark.usefixtures("deadline")

QUICK = ("--duration", "0.5", "--warmup", "0", "--workload", "fixed:x", "--output-tokens", "5")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take as little time for each part as shows that it is there, and search for nothing."""
    monkeypatch.setattr(instrument, "_WARMUP_S", 0.3)
    monkeypatch.setattr(instrument, "_LAG_WINDOW_S", 0.5)
    monkeypatch.setattr(instrument, "_SEARCH_S", 0)


@pytest.fixture(scope="module")
def server() -> Iterator[ReferenceServer]:
    """A server that answers in TGI's dialect, a token each 5 ms."""
    with ReferenceServer(script=Script(first_token_s=0.01, gap_s=0.005)) as running:
        yield running


@pytest.mark.usefixtures("brief")
def test_it_prints_this_hosts_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure with what it is; the status says whether they are good. No progress in CI."""
    status = main(["calibrate", "--concurrency", "2", "--gap", "5"])
    printed = capsys.readouterr()

    first, *rest = printed.out.splitlines()
    assert first == f"concurrency 2: {'degraded' if status else 'good'}"
    said = "\n".join(rest)
    for figure in ("stamp error", "read lag", "lag", "coalesced", "client CPU", "server late"):
        assert f"  {figure} " in said
    assert "2 streams × 200 tokens/s" in said
    assert printed.err == ""


@pytest.mark.usefixtures("brief")
def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a rate, too."""
    status = main(["calibrate", "--rate", "20", "--gap", "5", "--output-tokens", "10", "--json"])
    found = json.loads(capsys.readouterr().out)

    assert status == (found["status"] == "degraded")
    assert found["load"] == {"kind": "poisson", "value": 20}
    assert found["gap_ms"] == 5
    assert found["stamp_error"]["count"] > 100


@pytest.mark.parametrize(("found", "status"), [(GOOD, 0), (evolve(GOOD, failed=1), 1)])
def test_degraded_is_status_one(
    found: Calibration, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a script can stop there."""
    monkeypatch.setattr(calibrate, "calibrate", lambda *_, **__: found)

    assert main(["calibrate"]) == status


@pytest.mark.parametrize(
    "wrong", [["--concurrency", "0"], ["--rate", "0"], ["--gap", "0"], ["--output-tokens", "-1"]]
)
def test_what_cannot_be_is_wrong_usage(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and status 2."""
    assert main(["calibrate", *wrong]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("brief")
def test_bench_calibrates_first_and_keeps_it(
    server: ReferenceServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the largest load; it is in the folder and in the document, and read back."""
    out = tmp_path / "run"
    words = ["bench", server.url, "--concurrency", "1,3,2", "--calibrate", "--json"]
    main([*words, "--out", str(out), *QUICK])
    environment = json.loads(capsys.readouterr().out)["environment"]
    kept = load_run(out)

    assert environment["calibration"]["load"] == {"kind": "concurrency", "value": 3}
    assert kept.to_dict()["environment"] == environment
    assert kept.spec.settings.calibration is not None
    assert kept.spec.settings.calibration.streams == 3
    assert "instrument: stamps ±" in repr(kept)


def test_a_degraded_calibration_makes_every_stage_suspect(
    server: ReferenceServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line and the reason stand beside the numbers."""
    asked: list[LoadProfile] = []

    def degraded(load: LoadProfile, **_: object) -> Calibration:
        asked.append(load)
        return evolve(GOOD, coalesced_share=0.5)

    monkeypatch.setattr(bench, "calibrate", degraded)
    main(["bench", server.url, "--rate", "20,40", "--calibrate", *QUICK])
    printed = capsys.readouterr().out

    assert [load.value for load in asked] == [40]
    assert "DEGRADED: coalesced" in printed
    assert printed.count("degraded_instrument: when calibrated, 50.0 % of the tokens") == 2
