"""The command line is a contract: what it prints, where, and its exit status."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from llmperf_core.testing import ReferenceServer, Script

PATIENCE_S = 60
QUICK = ("--duration", "1", "--warmup", "0", "--workload", "fixed:x", "--output-tokens", "5")


def llmperf(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a user does, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "llmperf_core", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ReferenceServer]:
    """A server that answers in TGI's dialect, a token each 100 ms.

    The status is that of the verdict, too: on a busy machine the client may be tens of milliseconds
    late, and then the numbers of a quicker server are invalid, as they should be.
    """
    with ReferenceServer(script=Script(first_token_s=0.01, gap_s=0.1)) as running:
        yield running


def test_a_table_for_each_load(server: ReferenceServer) -> None:
    """Without a terminal there is a plain table, nothing on standard error, and status 0."""
    done = llmperf("bench", server.url, "--concurrency", "1,3", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    assert "concurrency 1" in done.stdout
    assert "concurrency 3" in done.stdout
    assert "stamps: kernel" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("options", "label"),
    [
        (("--rate", "30", "--arrival", "gamma:0.5"), "gamma:0.5 30/s"),
        (("--ramp", "10:40:1"), "ramp 10→40/s in 1 s"),
        (("--steps", "10:0.5,40:0.5", "--arrival", "constant"), "steps 10, 40/s"),
    ],
)
def test_loads_that_change_or_burst(
    server: ReferenceServer, options: tuple[str, ...], label: str
) -> None:
    """Each is written in a word, runs, and is told apart by its label."""
    done = llmperf("bench", server.url, *options, "--max-in-flight", "50", "--json", *QUICK)

    assert done.stderr == ""
    [stage] = json.loads(done.stdout)["stages"]
    assert stage["load"]["label"] == label
    assert stage["requests"]["completed"] > 3


@pytest.mark.parametrize(
    "options",
    [
        ("--workload", "synthetic:uniform(20,60)?prefix=0.5", "--output-tokens", "uniform(3,9)"),
        ("--workload", "conversation:16?turns=2&think=0.05"),
        ("--workload", "fixed:x", "--repeat-prompts"),
    ],
)
def test_workloads_of_each_form(server: ReferenceServer, options: tuple[str, ...]) -> None:
    """Each is written in a word, and is asked."""
    done = llmperf("bench", server.url, *QUICK, "--concurrency", "4", "--json", *options)

    [stage] = json.loads(done.stdout)["stages"]
    assert stage["requests"]["failed"] == 0
    assert stage["requests"]["completed"] > 3
    cached = [r for r in stage["verdict"]["reasons"] if r["code"] == "cached_prompts"]
    assert bool(cached) == ("--repeat-prompts" in options)


def test_what_tgi_refuses_is_not_sent(server: ReferenceServer, tmp_path: Path) -> None:
    """It is said before the first request, and nothing is written."""
    body = '{"parameters": {"top_p": 1.0}}'
    out = tmp_path / "run"
    done = llmperf("bench", server.url, "--body", body, "--out", str(out), *QUICK)

    assert (done.returncode, done.stdout) == (2, "")
    assert "TGI refuses top_p = 1.0: it must be above 0 and below 1" in done.stderr
    assert not out.exists()


def test_what_tgi_ignores_is_said(server: ReferenceServer) -> None:
    """As a reason of the verdict: the numbers are of another question."""
    body = '{"parameters": {"ignore_eos": true}}'
    done = llmperf("bench", server.url, "--body", body, "--json", *QUICK)

    [stage] = json.loads(done.stdout)["stages"]
    assert {"caveats"} <= {reason["code"] for reason in stage["verdict"]["reasons"]}


def test_a_run_replays_an_earlier_one(server: ReferenceServer, tmp_path: Path) -> None:
    """Its journal is a trace: as many requests start again, at the same gaps."""
    llmperf("bench", server.url, "--rate", "20", "--out", str(tmp_path / "first"), *QUICK)
    [journal] = (tmp_path / "first").rglob("timelines.jsonl")
    again = llmperf("bench", server.url, "--replay", str(journal), "--json", *QUICK)

    [stage] = json.loads(again.stdout)["stages"]
    assert stage["load"]["kind"] == "replay"
    assert stage["offered"]["asked"] == len(journal.read_text().splitlines())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", "5", "--arrival", "bursts"), "poisson, constant or gamma:SHAPE, not 'bursts'"),
        (("--rate", "5", "--arrival", "gamma:-1"), "'shape' must be > 0.0"),
        (("--ramp", "1:5"), "FROM:TO:SECONDS, such as 1:20:60, not '1:5'"),
        (("--ramp", "1:5:0"), "'duration_s' must be > 0"),
        (("--ramp", "1:5:9", "--arrival", "gamma:2"), "poisson or constant; not gamma"),
        (("--steps", "1"), "RATE:SECONDS with commas between them, not '1'"),
        (("--replay", "no/such/file"), "trace 'no/such/file' cannot be read"),
        (("--max-in-flight", "0"), "'max_in_flight' must be > 0"),
        (("--workload", "random:5"), "workload 'random:5' is none of fixed:TEXT"),
        (("--output-tokens", "some"), "length 'some' is neither a number nor"),
        (("--workload", "dataset:no/such/file"), "dataset 'no/such/file' cannot be read"),
    ],
)
def test_loads_that_cannot_be(options: tuple[str, ...], said: str) -> None:
    """One line on standard error and status 2, before anything is sent."""
    done = llmperf("bench", "http://127.0.0.1:9", *QUICK, *options)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]


def test_the_json_document(server: ReferenceServer) -> None:
    """`--json` prints one document with the keys of the contract, and nothing else."""
    done = llmperf("bench", server.url, "--rate", "50", "--arrival", "constant", "--json", *QUICK)
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr, document["schema"]) == (0, "", "llmperf.summary/1")
    assert {"target", "environment", "stages"} <= document.keys()
    (stage,) = document["stages"]
    assert stage["load"] == {"kind": "constant", "value": 50, "label": "constant 50/s"}
    assert stage["requests"]["failed"] == 0
    assert stage["tokens"]["counted_by"] == "usage"
    assert stage["tokens"]["output"] == 5 * stage["requests"]["completed"]
    assert {"ttft", "itl", "tpot", "e2e", "time_per_token", "lag", "read_lag"} <= stage[
        "metrics"
    ].keys()
    assert {"unit", "count", "mean", "min", "max", "p50", "p90", "p95", "p99", "p99_9", "ci95"} <= (
        stage["metrics"]["ttft"].keys()
    )
    assert stage["verdict"]["status"] in {"valid", "suspect", "invalid"}
    assert {"output_tokens_per_s", "requests_per_s"} <= stage["rates"].keys()


def test_a_run_is_kept(server: ReferenceServer, tmp_path: Path) -> None:
    """`--out` keeps the run's files, and refuses a folder that holds one already."""
    out = tmp_path / "run"
    done = llmperf("bench", server.url, "--requests", "4", "--out", str(out), *QUICK[2:])
    assert done.returncode == 0
    (stage,) = (out / "stages").iterdir()
    assert {path.name for path in stage.iterdir()} == {
        *("stage.json", "timelines.jsonl", "summary.json", "histograms.hlog"),
    }
    assert len((stage / "timelines.jsonl").read_text().splitlines()) == 4
    again = llmperf("bench", server.url, "--out", str(out), *QUICK)
    assert again.returncode == 1
    assert "there is a run in it already" in again.stderr


def test_goodput_under_limits(server: ReferenceServer) -> None:
    """`--slo` adds the goodput: everything meets a loose limit, nothing an impossible one."""
    done = llmperf("bench", server.url, "--slo", "e2e=60000", "--json", *QUICK)
    (stage,) = json.loads(done.stdout)["stages"]
    assert stage["goodput"]["value"] > 0
    assert stage["goodput"]["slo"]["e2e_ms"] == 60000
    done = llmperf("bench", server.url, "--slo", "ttft=0.001", "--json", *QUICK)
    (stage,) = json.loads(done.stdout)["stages"]
    assert stage["goodput"]["value"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ((), 2, "usage"),
        (("bench",), 2, "TARGET"),
        (("bench", "localhost:8080"), 2, "did you mean http://localhost:8080?"),
        (("bench", "127.0.0.1"), 2, "it has no scheme"),
        (("bench", "htp://127.0.0.1:1"), 2, "did you mean http:?"),
        (("bench", "http://127.0.0.1:1", "--concurrency", "0"), 2, "'slots' must be > 0: 0"),
        (("bench", "http://127.0.0.1:1", "--concurrency", "1,x"), 2, "whole numbers"),
        (("bench", "http://127.0.0.1:1", "--rate", "-1"), 2, "'rate_rps' must be > 0"),
        (("bench", "http://127.0.0.1:1", "--rate", "1", "--concurrency", "1"), 2, "not allowed"),
        (("bench", "http://127.0.0.1:1", "--duration", "0"), 2, "'duration_s' must be > 0"),
        (("bench", "http://127.0.0.1:1", "--workload", "poem"), 2, "workload 'poem' is none of"),
        (("bench", "http://127.0.0.1:1", "--slo", "ttft"), 2, "needs milliseconds"),
        (("bench", "http://127.0.0.1:1", "--slo", "speed=1"), 2, "is none of"),
        (("bench", "http://127.0.0.1:1", "--body", "[]"), 2, "a JSON object"),
        (("bench", "http://127.0.0.1:1", "--header", "secret"), 2, "NAME:VALUE"),
        (("bench", "http://127.0.0.1:1", "--protocol", "grpc"), 2, "openai-chat"),
        (("bench", "http://127.0.0.1:1", "--conc", "1"), 2, "unrecognized arguments"),
        (("bench", "http://127.0.0.1:1"), 3, "connection refused"),
        (("bench", "http://no-such-host.invalid"), 3, "no-such-host.invalid"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    arguments: tuple[str, ...], status: int, says: str
) -> None:
    """Bad input is status 2, a dead target 3; the reason is on standard error, no traceback."""
    done = llmperf(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()[-1]) < 300


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with the status and the body that its server was given."""

    status, body, kind = 200, b"", "text/plain"

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(self.status)
        self.send_header("content-type", self.kind)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"", "--api-key-env"),
        (404, b"not here", "speaks no protocol"),
        (429, b"", "429"),
        (500, b"oops", "500"),
        (200, b"<html><title>Sign in</title></html>", "HTML"),
    ],
)
def test_a_server_that_does_not_serve(status: int, body: bytes, says: str) -> None:
    """A server that answers something else is status 3, and what it said is named."""
    handler = type("Handler", (Refusing,), {"status": status, "body": body, "kind": "text/html"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        done = llmperf("bench", f"http://127.0.0.1:{running.server_port}")
        running.shutdown()
    assert (done.returncode, done.stdout) == (3, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_measured(
    server: ReferenceServer, tmp_path: Path, signal_number: signal.Signals
) -> None:
    """Ctrl-C in the middle prints what there is, keeps the folder, and exits with 130."""
    out = tmp_path / "run"
    arguments = ["bench", server.url, "--duration", "50", "--out", str(out), "--warmup", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "llmperf_core", *arguments, "--workload", "fixed:x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        journal = out / "stages" / "01-concurrency-1" / "timelines.jsonl"
        deadline_s = time.monotonic() + PATIENCE_S
        while not (journal.exists() and journal.stat().st_size > 0):
            assert running.poll() is None
            assert time.monotonic() < deadline_s
        running.send_signal(signal_number)
        said, complained = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130
    assert "concurrency 1" in said
    assert "interrupted" in complained
    assert "Traceback" not in complained
    assert (journal.parent / "summary.json").exists()


def test_the_targets_are_listed() -> None:
    """`llmperf targets` names each scheme once, and what it is."""
    done = llmperf("targets")
    assert (done.returncode, done.stderr) == (0, "")
    schemes = [line.split()[0] for line in done.stdout.splitlines()]
    assert schemes == sorted(set(schemes))
    assert {"http:", "https:", "cpu:"} <= set(schemes)


def test_the_version() -> None:
    """`llmperf --version` says which one."""
    done = llmperf("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("llmperf ")


def test_a_key_is_never_shown(server: ReferenceServer, tmp_path: Path) -> None:
    """Neither the key nor a header's value is in anything that is printed or kept."""
    secret = "sk-planted-4711"
    done = llmperf(
        *("bench", server.url, "--api-key-env", "PLANTED", "--header", f"x-extra: {secret}"),
        *("--out", str(tmp_path / "run"), *QUICK),
        PLANTED=secret,
    )
    assert done.returncode == 0
    kept = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(kept) >= 5
    assert not any(secret.encode() in content for content in kept)
    assert secret not in done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_traceback(server: ReferenceServer) -> None:
    """`llmperf … | head -0` ends quietly."""
    with subprocess.Popen(
        [sys.executable, "-m", "llmperf_core", "bench", server.url, *QUICK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()
        complained = running.stderr.read()
    assert complained == ""
