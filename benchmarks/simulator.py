"""How true is the simulated TGI? Its own lateness, and what our wire measures of it.

The model plans when each token leaves; the server notes when it left; our wire stamps when it came.
A row holds the three against each other, for one simulated server under one closed-loop load: late
= left − planned, error = came − planned, and the tokens/s that came against those planned. Each is
one thread, and needs a core to itself: what else runs meanwhile shows as lateness.

    python benchmarks/simulator.py                # three presets, and 1,000 streams
    python benchmarks/simulator.py --check        # exit status 1 if a promise of the docs is broken
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import anyio
import httpx
import msgspec
import numpy as np
import uvloop
from attrs import frozen

from llmperf_core.load import Concurrency
from llmperf_core.run.job import Job, Listener
from llmperf_core.run.settings import Settings
from llmperf_core.run.stage import measure
from llmperf_core.run.worker import calm_garbage_collection
from llmperf_core.target import Endpoint, Json, Options, Prompt
from llmperf_core.timeline import Timeline
from llmperf_core.wire.tgi import Tgi
from llmperf_local import Hardware, ServerOptions, Simulated
from llmperf_local.sim.record import Record
from llmperf_local.sim.target import backend

WARM_UP = "warm-up"
PRESETS = (
    ("sim:llama-2-7b@ml.g5.2xlarge", 5),
    ("sim:llama-2-13b-gptq@ml.g5.2xlarge", 10),
    ("sim:llama-2-70b@ml.p4d.24xlarge", 20),
)
CROWD = 1_000
"""Streams at once, of the last row."""
MOST_ERROR_MS, MOST_THROUGHPUT_ERROR, MOST_LATE_MS = 1.0, 0.01, 5.0


class Load(msgspec.Struct, array_like=True):
    """What a reader is given."""

    url: str
    streams: int
    requests: int
    tokens: int
    name: str = "stream"

    @property
    def prompts(self) -> list[str]:
        """What each request asks: its own words, by which the server's record is found."""
        return [
            f"{self.name} {number}: {'tell of llamas ' * 20}" for number in range(self.requests)
        ]


@frozen
class Asks:
    """A workload of given prompts."""

    load: Load

    def prompts(self, seed: int) -> Iterator[Prompt]:  # noqa: ARG002 -- nothing is random here
        """Yield each once."""
        for prompt in self.load.prompts:
            yield Prompt(text=prompt, max_new_tokens=self.load.tokens)

    def describe(self) -> dict[str, Json]:
        """Return nothing: no run is kept."""
        return {}


class Figures(msgspec.Struct):
    """A row of the table."""

    name: str
    streams: int
    tokens: int
    lost: int
    tokens_per_s: float
    throughput_error: float
    late_ms: list[float]
    error_ms: list[float]
    wire_p99_ms: float
    """What of the error is the wire's: came − left."""


async def read(load: Load) -> dict[str, list[int]]:
    """Return when each prompt's tokens came, on the monotonic clock."""
    job = Job(
        endpoint=Endpoint(base_url=load.url, codec=Tgi()),
        load=Concurrency(load.streams),
        workload=Asks(load),
        settings=Settings(duration_s=None, requests=load.requests, warmup_s=0),
        seed=0,
    )
    timelines: list[Timeline] = []
    seen = await measure(job, Listener(note=timelines.append), anyio.Event())
    return {
        load.prompts[timeline.index]: (timeline.token_at_ns + seen.zero_at_ns).tolist()
        for timeline in timelines
    }


def read_in_own_process(load: Load) -> dict[str, list[int]]:
    """Read in a fresh process."""
    said = subprocess.run(
        [sys.executable, __file__, "--reader", msgspec.json.encode(load).decode()],
        stdout=subprocess.PIPE,
        check=True,
        timeout=200,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return msgspec.json.decode(said.stdout, type=dict[str, list[int]])


async def row(target: Simulated, streams: int, requests: int, tokens: int) -> Figures:
    """Measure one simulated server."""
    async with target.open() as endpoint:
        load = Load(endpoint.base_url, streams, requests, tokens)
        came = await anyio.to_thread.run_sync(read_in_own_process, load)
        async with httpx.AsyncClient(base_url=load.url, timeout=60) as client:
            said = await client.get("/llmperf/record")
    record = msgspec.json.decode(said.content, type=Record)
    return figures(target.name, load, came, record)


def figures(name: str, load: Load, came: dict[str, list[int]], record: Record) -> Figures:
    """Hold what came and what left against what was planned."""
    played = [request for request in record.requests if not request.prompt.startswith(WARM_UP)]
    planned = np.concatenate([request.planned_at_ns for request in played])
    sent = np.concatenate([request.sent_at_ns for request in played])
    whole = [request for request in played if len(came[request.prompt]) == len(request.sent_at_ns)]
    measured = np.concatenate([came[request.prompt] for request in whole])
    left = np.concatenate([request.sent_at_ns for request in whole])
    errors = measured - np.concatenate([request.planned_at_ns for request in whole])
    rate, planned_rate = (
        (instants.size - 1) / float(np.ptp(instants)) * 1e9 for instants in (measured, planned)
    )
    quantiles = [50, 99, 99.9]
    return Figures(
        name=name,
        streams=load.streams,
        tokens=planned.size,
        lost=int(planned.size - measured.size),
        tokens_per_s=rate,
        throughput_error=rate / planned_rate - 1,
        late_ms=np.percentile((sent - planned) / 1e6, quantiles).tolist(),
        error_ms=np.percentile(errors / 1e6, quantiles).tolist(),
        wire_p99_ms=float(np.percentile((measured - left) / 1e6, 99)),
    )


def show(found: Figures) -> None:
    """Print a row of the table."""
    late, error = (
        " | ".join(f"{ms:6.3f}" for ms in row) for row in (found.late_ms, found.error_ms)
    )
    print(
        f"| {found.name:<34} | {found.streams:>5,} | {found.tokens:>7,} | {found.lost:>4} "
        f"| {found.tokens_per_s:>8,.0f} | {found.throughput_error:>+7.2%} | {late} | {error} "
        f"| {found.wire_p99_ms:.3f} |",
        flush=True,
    )


def broken_promises(found: Figures) -> list[str]:
    """Return what the docs promise and this row did not show."""
    broken = []
    if found.lost:
        broken.append(f"{found.lost} tokens lost")
    if abs(found.throughput_error) > MOST_THROUGHPUT_ERROR:
        broken.append(f"throughput is {found.throughput_error:+.2%} off")
    if found.streams == CROWD:
        if found.late_ms[1] > MOST_LATE_MS:
            broken.append(f"late p99 {found.late_ms[1]:.2f} > {MOST_LATE_MS} ms")
    elif found.error_ms[1] > MOST_ERROR_MS:
        broken.append(f"error p99 {found.error_ms[1]:.2f} > {MOST_ERROR_MS} ms")
    return [f"{found.name}: {what}" for what in broken]


def crowd() -> Simulated:
    """Return a server of a thousand streams: a step of 80 ms, 12,500 events a second."""
    return Simulated(
        Hardware(
            prefill_tokens_per_s=200_000,
            decode_base_ns=20_000_000,
            decode_per_sequence_ns=60_000,
            kv_tokens=10_000_000,
            emit_ns=20_000,  # this server takes 10 to 16 µs to write an event; TGI's router 8
        ),
        server=ServerOptions(max_concurrent_requests=CROWD, max_batch_prefill_tokens=16_384),
        label="crowd",
    )


def rows(seconds: float) -> Iterator[tuple[Simulated, int, int, int]]:
    """Yield each server with its streams, its requests, and the tokens of each of those."""
    for url, streams in PRESETS:
        target = backend.target(url, Options())
        assert isinstance(target, Simulated)
        step_s = target.hardware.decode_ns(streams, streams * 150) / 1e9
        requests = max(2 * streams, round(seconds / (50 * step_s)) * streams)
        yield target, streams, requests, 50
    yield crowd(), CROWD, CROWD, max(20, round(seconds / 0.08))


def pin(which: int) -> None:
    """Keep this process, and what it starts, on one processor.

    Whoever is woken by a write is often put beside the writer, which then waits for it.
    """
    os.sched_setaffinity(0, {range(os.cpu_count() or 1)[which]})


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="of each row, about")
    parser.add_argument("--only", help="rows whose name contains this")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.reader:
        load = msgspec.json.decode(given.reader, type=Load)
        pin(-1)
        calm_garbage_collection()
        uvloop.run(read(Load(load.url, 1, 1, 20, WARM_UP)))
        print(json.dumps(uvloop.run(read(load))))
        return 0
    print(
        "| simulated | streams | tokens | lost | tokens/s | against the plan "
        "| late p50 ms | p99 | p99.9 | error p50 ms | p99 | p99.9 | came − left p99 |\n"
        + "|---" * 13
        + "|"
    )
    broken: list[str] = []
    pin(0)
    for target, streams, requests, tokens in rows(given.seconds):
        if not given.only or given.only in target.name:
            found = anyio.run(row, target, streams, requests, tokens)
            show(found)
            broken += broken_promises(found)
    for line in broken if given.check else ():
        print("broken:", line, file=sys.stderr)
    return 1 if given.check and broken else 0


if __name__ == "__main__":
    sys.exit(main())
