"""The scheme `sim:`, from a URL to a result that says it is simulated."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from importlib.metadata import entry_points

import attrs
import httpx
import msgspec
import numpy as np
import pytest

from llmperf_core import Concurrency, Fixed, Settings, bench
from llmperf_core.errors import StartError, TargetUrlError
from llmperf_core.target import CanServe, Options
from llmperf_local import Answers, Hardware, ServerOptions, Simulated
from llmperf_local.sim.presets import presets
from llmperf_local.sim.target import backend
from tests.local.sim.serving import FAST

pytestmark = pytest.mark.usefixtures("deadline")

PRESET = "llama-2-7b@ml.g5.2xlarge"


def simulated(url: str, options: Options | None = None) -> Simulated:
    """Return the target that a URL names."""
    target = backend.target(url, options or Options())
    assert isinstance(target, Simulated)
    return target


def test_it_is_found_by_its_scheme() -> None:
    """The entry point yields the backend, which can serve as well."""
    (entry,) = entry_points(group="llmperf.targets", name="sim")
    assert entry.load() is backend
    assert list(backend.schemes) == ["sim"]
    assert isinstance(backend, CanServe)


def test_a_url_names_a_preset() -> None:
    """The preset's figures are taken as they are, and the name is the URL."""
    target = simulated(f"sim:{PRESET}")
    assert (target.hardware, target.server) == (
        presets()[PRESET].hardware,
        presets()[PRESET].options,
    )
    assert target.name == f"sim:{PRESET}"
    assert pickle.loads(pickle.dumps(target)) == target  # noqa: S301 -- our own bytes


def test_the_query_changes_it() -> None:
    """Times can be scaled, and any option of hardware, server and answers set under its name."""
    target = simulated(
        f"sim:{PRESET}?decode=2&max_concurrent_requests=7&jitter=0.1&prefill_chunking=true"
        "&eos_hazard=0.25&dialect=1.0.3&seed=3"
    )
    preset = presets()[PRESET]
    assert target.hardware == attrs.evolve(preset.hardware.scaled(decode=2), jitter=0.1)
    assert target.server == attrs.evolve(
        preset.options,
        max_concurrent_requests=7,
        prefill_chunking=True,
        answers=attrs.evolve(preset.options.answers, eos_hazard=0.25),
    )
    assert (target.dialect, target.seed) == ("1.0.3", 3)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sim:", "no preset ''; there are, for example, llama-2-"),
        ("sim:llama-2-7b@ml.g5.2xlage", "for example, llama-2-7b@ml.g5.2xlarge"),
        ("sim://llama", "it is not sim:PRESET"),
        (f"sim:{PRESET}#x", "it is not sim:PRESET"),
        (f"sim:{PRESET}?decoder=1", "'decoder' cannot be set here; did you mean decode?"),
        (f"sim:{PRESET}?zzz=1", "'zzz' cannot be set here; there are decode, prefill"),
        (f"sim:{PRESET}?decode=fast", "decode cannot be 'fast'"),
        (f"sim:{PRESET}?decode=0", "they must be positive"),
        (f"sim:{PRESET}?decode=1&decode=2", "'decode' comes twice"),
        (f"sim:{PRESET}?max_batch_size=0", "'max_batch_size' must be > 0"),
        (f"sim:{PRESET}?eos_hazard=2", "'eos_hazard' must be < 1"),
        (f"sim:{PRESET}?dialect=9", "'dialect' must be in"),
    ],
)
def test_a_wrong_url_is_explained(url: str, reason: str) -> None:
    """The error names what is wrong, and what would be right."""
    with pytest.raises(TargetUrlError) as caught:
        backend.target(url, Options())
    assert reason in str(caught.value)


def test_a_wrong_protocol_is_explained() -> None:
    """There are three, and the old dialect has one."""
    with pytest.raises(TargetUrlError, match="no protocol 'grpc'"):
        backend.target(f"sim:{PRESET}", Options(protocol="grpc"))
    with pytest.raises(TargetUrlError, match=r"TGI 1\.0\.3 does not speak openai-chat"):
        backend.target(f"sim:{PRESET}?dialect=1.0.3", Options(protocol="openai-chat"))


def test_a_server_that_does_not_start_is_explained() -> None:
    """Who cannot listen is a start error, and its words are passed on."""
    with pytest.raises(StartError, match="was not ready after"):
        bench(
            Simulated(FAST, options=Options(startup_s=0.001)),
            Concurrency(1),
            settings=Settings(duration_s=None, requests=1, quiet=True),
        )


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("protocol", ["tgi", "openai-chat", "openai-completions"])
def test_it_is_measured_and_labelled(protocol: str, stream: bool) -> None:  # noqa: FBT001 -- of the test
    """Each protocol, streamed or not, works end to end, and the run says that it is simulated."""
    target = Simulated(FAST, options=Options(protocol=protocol, stream=stream))
    stage = bench(
        target,
        Concurrency(2),
        workload=Fixed("tell a story", max_new_tokens=10),
        settings=Settings(duration_s=None, requests=6, warmup_s=0, quiet=True),
    )
    assert [timeline.completed for timeline in stage.timelines] == [True] * 6
    assert {timeline.tokens.output for timeline in stage.timelines} == {10}
    assert stage.spec.simulated


def test_the_wire_agrees_with_the_record() -> None:
    """Every token that the server sent was stamped after it was handed to the kernel, once.

    Planned, sent and measured agree where no machine can disturb it: in count, in order, and in
    that the gaps the client saw add up to those in which the server sent.
    """
    from tests.local.sim.measuring import measured_and_played

    measured, played = measured_and_played(
        Simulated(FAST, server=ServerOptions(answers=Answers(eos_hazard=0.02))), streams=4
    )
    assert len(measured) == len(played) == 12
    for entry in played:
        came = measured[entry.prompt]
        sent, planned = np.asarray(entry.sent_at_ns), np.asarray(entry.planned_at_ns)
        assert came.size == sent.size == planned.size
        assert (sent >= planned).all()
        assert (came >= sent).all()
        # The kernel stamped it before the server could send the next token of the stream, unless
        # the client had still to read the one before: then both have the later stamp.
        alone = np.diff(came, append=came[-1] + 1) > 0
        following = np.append(sent[1:], np.iinfo(np.int64).max)
        assert (came[alone] <= following[alone]).all()


def command(*arguments: str) -> "subprocess.Popen[str]":
    """Start the command as a user does."""
    return subprocess.Popen(
        [sys.executable, "-m", "llmperf_core", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_interrupted(number: signal.Signals) -> None:
    """`llmperf serve` says where and what it serves in one line, and ends without complaint."""
    with command("serve", f"sim:{PRESET}") as serving:
        assert serving.stdout is not None
        line = serving.stdout.readline()
        url = line.split()[1]
        info = httpx.get(f"{url}/info").json()
        serving.send_signal(number)
        rest, complaints = serving.communicate()
    assert line == f"serving {url} (sim:{PRESET}, simulated: no model answers)\n"
    assert (info["model_id"], info["simulated"]) == (f"sim:{PRESET}", True)
    assert (serving.returncode, rest, complaints) == (0, "", "")


def test_serve_where_somebody_listens() -> None:
    """A port that is taken is one clear line, and status 3."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with command("serve", f"sim:{PRESET}", "--port", port) as serving:
            said, complaints = serving.communicate()
    assert (serving.returncode, said) == (3, "")
    assert complaints == (
        f"llmperf: sim:{PRESET} did not start: it cannot listen at 127.0.0.1:{port} "
        "(Address already in use); nothing is left running\n"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("cpu:tiny",), "it can be measured, but not served; what can: sim:"),
        (("http://127.0.0.1",), "it can be measured, but not served; what can: sim:"),
        (("nothing:x",), "no backend knows the scheme 'nothing'"),
        ((f"sim:{PRESET}", "--port", "70000"), "a whole number from 0 to 65535, not '70000'"),
    ],
)
def test_what_cannot_be_served_is_explained(arguments: tuple[str, ...], reason: str) -> None:
    """One clear line, and status 2."""
    with command("serve", *arguments) as serving:
        _, complaints = serving.communicate()
    assert serving.returncode == 2
    assert reason in complaints


def test_a_setup_travels() -> None:
    """What the process is told is what the target says, whatever is in it."""
    target = Simulated(
        Hardware(prefill_tokens_per_s=1e4, decode_base_ns=1e7, kv_tokens=99, jitter=0.1),
        server=ServerOptions(speculate=2, answers=Answers(acceptance=0.5)),
        seed=4,
    )
    setup = target.setup(port=1)
    assert msgspec.json.decode(msgspec.json.encode(setup), type=type(setup)) == setup
