"""A simulated server for a test, in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import msgspec
from attrs import define

from llmperf_local import Hardware, ServerOptions
from llmperf_local.sim.record import Played, Record
from llmperf_local.sim.server import Setup

FAST = Hardware(prefill_tokens_per_s=1e6, decode_base_ns=2e6, kv_tokens=1_000_000)
"""2 ms a step."""
SLOW = Hardware(prefill_tokens_per_s=1e6, decode_base_ns=50e6, kv_tokens=1_000_000)
"""50 ms a step: what is under way stays so while a test asks something else."""
ENDLESS = "tell a story that never ends"
"""What `streaming` asks."""


@define
class Served:
    """A server that runs, and a client of it."""

    process: "subprocess.Popen[bytes]"
    client: httpx.Client

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.client.base_url).rstrip("/")

    def post(self, path: str, body: object) -> httpx.Response:
        """Send JSON, and return the whole answer."""
        return self.client.post(path, json=body)

    def generate(self, inputs: str, **parameters: object) -> httpx.Response:
        """Ask `/generate`."""
        return self.post("/generate", {"inputs": inputs, "parameters": parameters})

    def record(self) -> list[Played]:
        """What it has played."""
        return msgspec.json.decode(self.client.get("/llmperf/record").content, type=Record).requests

    def metrics(self) -> Mapping[str, float]:
        """What it counts."""
        lines = self.client.get("/metrics").text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    @contextmanager
    def streaming(self) -> Iterator[httpx.Response]:
        """Hold a stream open, of which the first token has come."""
        body = {"inputs": ENDLESS, "parameters": {"max_new_tokens": 1024}}
        with self.client.stream("POST", "/generate_stream", json=body) as response:
            pieces = response.iter_raw()  # the answer is given up with this
            next(pieces)
            yield response


@contextmanager
def served(setup: Setup) -> Iterator[Served]:
    """Run a server while the block lasts."""
    command = [sys.executable, "-m", "llmperf_local.sim", msgspec.json.encode(setup).decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["listening"]
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                yield Served(process, client)
        finally:
            process.kill()


def setup_of(hardware: Hardware = FAST, **options: object) -> Setup:
    """Return the setup of a fast server with these options of TGI."""
    return Setup(
        model="sim:test",
        hardware=hardware,
        options=msgspec.convert(options, ServerOptions),
    )


def words(tokens: int) -> str:
    """Return a text that counts as so many tokens, with the one that begins each prompt."""
    return " ".join(["a"] * (tokens - 1))
