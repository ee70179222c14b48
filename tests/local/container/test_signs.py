"""What logs and a Docker engine's errors mean."""

import pytest

from llmperf_core.signs import SERVER_FAILURES, failure_in, plain
from llmperf_local.container.bringup import why_ended
from llmperf_local.container.daemon import addresses, told
from llmperf_local.container.engines import TGI


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("Download encountered an error: huggingface_hub.errors.GatedRepoError: 401", "gated"),
        ("Cannot access gated repo for url https://huggingface.co/meta-llama", "gated"),
        ("huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error", "no such model"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 500.00 MiB", "too small"),
        (
            (
                "Not enough memory to handle 4096 prefill tokens. You need to decrease "
                "`--max-batch-prefill-tokens`"
            ),
            "too small for that many tokens",
        ),
        ("Error: Backend(NotEnoughMemory(1024))", "too small for that many tokens"),
        ("ValueError: No available memory for the cache blocks.", "KV cache"),
        ("RuntimeError: Found no NVIDIA driver on your system.", "sees no GPU"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("failed to build prometheus recorder", "Prometheus"),
        ("Failed to bind to 0.0.0.0:80: Address already in use", "port is taken"),
        ("error: unexpected argument '--max-input-tokens' found", "does not know an argument"),
        ("launch_server.py: error: unrecognized arguments: --foo", "does not know an argument"),
        ('Error: ArgumentValidation("`max_input_tokens` must be < ...")', "combination"),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "no network"),
    ],
)
def test_a_servers_last_words_are_understood(line: str, cause: str) -> None:
    """Each way to fail has its sign, and says what to do."""
    failure = failure_in(["INFO something else", line], SERVER_FAILURES)

    assert failure is not None
    assert cause in failure.cause
    assert failure.advice


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "no GPU driver"),
        ("driver failed ...: Bind for 127.0.0.1:80 failed: port is already allocated", "the port"),
        ("listen tcp4 127.0.0.1:80: bind: address already in use", "the port is taken"),
        ("Get https://x/v2/: dial tcp: lookup x on 1.1.1.1:53: no such host", "registry cannot"),
        ("manifest for vllm/vllm-openai:v9 not found: manifest unknown", "no such image or tag"),
        ("pull access denied for x, repository does not exist", "registry refuses"),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk of the Docker engine"),
        ("Something\nnew", "the Docker engine says: Something new"),
    ],
)
def test_an_engines_refusal_is_understood(said: str, cause: str) -> None:
    """Its own words stay in the message, on one line."""
    message = str(told(said))

    assert cause in message
    assert " ".join(said.split()) in message


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"ExitCode": 137, "OOMKilled": True}, "killed as it ran out of memory (exit status 137)"),
        ({"ExitCode": 137, "OOMKilled": False}, "killed (exit status 137), perhaps"),
        ({"ExitCode": 3, "OOMKilled": False}, "it ended with exit status 3"),
    ],
)
def test_an_end_is_explained_by_its_status(state: dict[str, object], words: str) -> None:
    """Where the log holds no sign."""
    assert words in why_ended(state, ["hello"], TGI)[0]


def test_a_line_is_shown_without_colours_and_time() -> None:
    """What is left is what it says."""
    line = "\x1b[2m2026-01-01T00:00:00.000000Z\x1b[0m \x1b[32m INFO\x1b[0m Connected\x07"

    assert plain(line) == "INFO Connected"


@pytest.mark.parametrize(
    ("url", "at", "reached"),
    [
        ("unix:///var/run/docker.sock", "127.0.0.1", "127.0.0.1"),
        ("npipe:////./pipe/docker_engine", "127.0.0.1", "127.0.0.1"),
        ("tcp://gpu7:2375", "0.0.0.0", "gpu7"),
        ("ssh://me@gpu7", "0.0.0.0", "gpu7"),
    ],
)
def test_ports_are_open_to_this_machine_alone(url: str, at: str, reached: str) -> None:
    """Unless the engine is on another one, which we must reach."""
    assert addresses(url) == (at, reached)
