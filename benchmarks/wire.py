"""How wrong are arrival stamps, and what does an event cost? Our wire beside httpx and aiohttp.

A reference server in a process of its own streams TGI events and notes the monotonic instant at
which each left. Each reader takes the same load from it, on uvloop, in a fresh process: error = the
reader's stamp − the server's. The figures of one run belong together; only
the ratios between its rows travel to other machines.

    python benchmarks/wire.py                  # plain, 100, 200 and 800 streams × 50 events/s
    python benchmarks/wire.py --tls            # over TLS, 100 streams
    python benchmarks/wire.py --readers c llmperf   # beside the floor, which needs a C compiler
    python benchmarks/wire.py --check          # exit status 1 if a promise of the README is broken
"""

import argparse
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
import numpy as np
import uvloop
from attrs import evolve, frozen

from llmperf_core.errors import HarnessError
from llmperf_core.load import Concurrency
from llmperf_core.run.job import Job, Listener
from llmperf_core.run.settings import Settings
from llmperf_core.run.stage import measure
from llmperf_core.run.worker import calm_garbage_collection
from llmperf_core.target import Endpoint, Json, Prompt
from llmperf_core.testing import ReferenceServer, Script, Truth
from llmperf_core.timeline import Timeline
from llmperf_core.wire import stamping
from llmperf_core.wire.tgi import Tgi

EVENTS_PER_S = 50
"""Of each stream, as a fast model sends to each of many users."""
WARM_UP = 20
"""Events of a first request, which no figure counts: it loads what is loaded on first use."""
MOST_ERROR_US, MOST_TLS_ERROR_US = 50, 100
"""At p99. A machine with nothing else to do shows 6 to 15 µs, and 16 to 18 µs over TLS."""
LEAST_RATIOS = {"httpx aiter_lines": 4, "aiohttp lines": 1.5}
"""Processor time an event, theirs ÷ ours: 4.9 to 7.4 and 1.7 to 2.7 were seen on such a machine."""

Stamps = dict[str, list[int]]
"""The reader's stamps of each stream by its prompt, in nanoseconds of the monotonic clock."""


@frozen
class Load:
    """What every reader of a row is given."""

    url: str
    streams: int
    tokens: int
    """Events of each stream, which is one request."""
    authority: str | None = None
    name: str = "stream"

    @property
    def events(self) -> int:
        """Of all streams together."""
        return self.streams * self.tokens

    @property
    def prompts(self) -> list[str]:
        """What each stream asks: its own name, by which the server's stamps are found."""
        return [f"{self.name} {number}" for number in range(self.streams)]

    def body(self, prompt: str) -> dict[str, object]:
        """What a request asks for."""
        return {"inputs": prompt, "parameters": {"max_new_tokens": self.tokens, "details": True}}


class Reading(msgspec.Struct):
    """What one reader made of a load."""

    seconds: float
    cpu_s: float
    stamps: Stamps


class Figures(msgspec.Struct):
    """A row of the table."""

    reader: str
    streams: int
    rate: float
    lost: int
    cpu_us_per_event: float
    error_p50_us: float
    error_p99_us: float
    error_p999_us: float
    late_p99_us: float
    """Of the server, against its own plan."""


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


async def read_with_llmperf(load: Load) -> Stamps:
    """The product's whole path: requests, wire, decoding, timelines."""
    job = Job(
        endpoint=Endpoint(base_url=load.url, codec=Tgi(), verify=load.authority or True),
        load=Concurrency(load.streams),
        workload=Asks(load),
        settings=Settings(duration_s=None, requests=load.streams, warmup_s=0),
        seed=0,
    )
    timelines: list[Timeline] = []
    seen = await measure(job, Listener(note=timelines.append), anyio.Event())
    prompts = load.prompts
    return {
        prompts[timeline.index]: (timeline.token_at_ns + seen.zero_at_ns).tolist()
        for timeline in timelines
    }


async def read_with_httpx(load: Load) -> Stamps:
    """What most Python clients do: `aiter_lines`, a stamp, `json.loads`."""
    import httpx

    found: Stamps = {prompt: [] for prompt in load.prompts}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    verify = ssl.create_default_context(cafile=load.authority) if load.authority else True
    timeout = httpx.Timeout(600)
    async with httpx.AsyncClient(limits=limits, timeout=timeout, verify=verify) as client:

        async def stream(prompt: str) -> None:
            url = load.url + "/generate_stream"
            async with client.stream("POST", url, json=load.body(prompt)) as response:
                async for line in response.aiter_lines():
                    at_ns = time.monotonic_ns()
                    if line.startswith("data:") and json.loads(line[5:])["token"]:
                        found[prompt].append(at_ns)

        await _all(load.prompts, stream)
    return found


async def read_with_aiohttp(load: Load) -> Stamps:
    """The quicker common way: aiohttp's lines, a stamp, `json.loads`."""
    import aiohttp

    found: Stamps = {prompt: [] for prompt in load.prompts}
    tls = ssl.create_default_context(cafile=load.authority) if load.authority else True
    connector = aiohttp.TCPConnector(limit=0, ssl=tls)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def stream(prompt: str) -> None:
            url = load.url + "/generate_stream"
            async with session.post(url, json=load.body(prompt)) as response:
                async for line in response.content:
                    at_ns = time.monotonic_ns()
                    if line.startswith(b"data:") and json.loads(line[5:])["token"]:
                        found[prompt].append(at_ns)

        await _all(load.prompts, stream)
    return found


def read_with_c(load: Load) -> Reading:
    """The floor: what the kernel asks of a program that only takes the bytes and their stamps."""
    with tempfile.TemporaryDirectory() as folder, stamping():
        program = str(Path(folder) / "floor")
        source = str(Path(__file__).with_name("floor.c"))
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        port = load.url.rpartition(":")[2]
        said = subprocess.run(
            [program, port, str(load.streams), str(load.tokens), load.name],
            stdout=subprocess.PIPE,
            check=True,
        )
    times, *stamps = said.stdout.decode().splitlines()
    seconds, cpu_s = map(float, times.split())
    found = [[int(stamp) for stamp in line.split()] for line in stamps]
    return Reading(seconds, cpu_s, dict(zip(load.prompts, found, strict=True)))


Reader = Callable[[Load], Coroutine[None, None, Stamps]]
READERS: dict[str, Reader] = {
    "llmperf": read_with_llmperf,
    "httpx aiter_lines": read_with_httpx,
    "aiohttp lines": read_with_aiohttp,
}
FLOOR = "c"
"""Not a reader that one could work with, so it is read only if that is asked for."""


async def _all(prompts: list[str], stream: Callable[[str], Coroutine[None, None, None]]) -> None:
    async with anyio.create_task_group() as tasks:
        for prompt in prompts:
            tasks.start_soon(stream, prompt)


def read(name: str, load: Load) -> Reading:
    """Run one reader in this process."""
    if name == FLOOR:
        return read_with_c(load)
    calm_garbage_collection()
    uvloop.run(READERS[name](evolve(load, streams=1, tokens=WARM_UP, name="warm-up")))
    began_s, cpu_s = time.monotonic(), time.process_time()
    stamps = uvloop.run(READERS[name](load))
    cpu_s, seconds = time.process_time() - cpu_s, time.monotonic() - began_s
    return Reading(seconds, cpu_s, stamps)


def in_own_process(name: str, load: Load) -> Reading:
    """Run one reader in a fresh process, on the last core where there are two."""
    argument = json.dumps([name, load.url, load.streams, load.tokens, load.authority])
    said = subprocess.run(
        [sys.executable, __file__, "--reader", argument],
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
        # NumPy's threads spin on the processor when they start, in whichever reader loads it.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return msgspec.json.decode(said.stdout, type=Reading)


def figures_of(name: str, load: Load, reading: Reading, truth: Truth) -> Figures:
    """Hold a reader's stamps against the server's."""
    errors_ns: list[int] = []
    for prompt in load.prompts:
        (sent_at_ns,) = truth.sent_at_ns[prompt]
        read_at_ns = reading.stamps[prompt]
        errors_ns += [at - sent for at, sent in zip(read_at_ns, sent_at_ns, strict=False)]
    p50, p99, p999 = np.percentile(np.asarray(errors_ns) / 1e3, [50, 99, 99.9])
    return Figures(
        reader=name,
        streams=load.streams,
        rate=len(errors_ns) / reading.seconds,
        lost=load.events - len(errors_ns),
        cpu_us_per_event=reading.cpu_s * 1e6 / load.events,
        error_p50_us=float(p50),
        error_p99_us=float(p99),
        error_p999_us=float(p999),
        late_p99_us=truth.send_error.late_p99_us,
    )


@contextmanager
def certificate(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield a server's certificate for 127.0.0.1, and the file of the authority to trust."""
    import trustme

    authority = trustme.CA()
    pem = folder / "server.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    yield pem, str(folder / "authority.pem")


def run(streams: list[int], readers: list[str], *, tls: bool, seconds: float) -> list[Figures]:
    """Give every reader every load, one after the other, and return all figures."""
    tokens = round(seconds * EVENTS_PER_S)
    server_core = 0 if (os.cpu_count() or 1) > 1 else None
    script = Script(first_token_s=0.02, gap_s=1 / EVENTS_PER_S, scatter=True)
    figures: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder, certificate(Path(folder)) as (pem, authority):
        for count in streams:
            for name in readers:
                with ReferenceServer(
                    script=script, certificate=pem if tls else None, core=server_core
                ) as server:
                    load = Load(server.url, count, tokens, authority if tls else None)
                    reading = in_own_process(name, load)
                if server.truth is None:
                    raise HarnessError("the reference server died: nothing to compare with")
                figures.append(figures_of(name, load, reading, server.truth))
                show(figures[-1])
    return figures


def show(row: Figures) -> None:
    """Print a row of the table."""
    print(
        f"| {row.reader:<17} | {row.streams:>3} × {EVENTS_PER_S} | {row.rate:>9,.0f} "
        f"| {row.lost:>4} | {row.cpu_us_per_event:>7.1f} "
        f"| {row.error_p50_us:>8,.0f} | {row.error_p99_us:>8,.0f} | {row.error_p999_us:>8,.0f} "
        f"| {row.late_p99_us:>6,.0f} |",
        flush=True,
    )


def broken_promises(figures: list[Figures], *, tls: bool) -> list[str]:
    """Return what README promises and this run did not show."""
    rows = {(row.reader, row.streams): row for row in figures}
    broken = []
    for row in figures:
        if row.reader != "llmperf":
            continue
        most_us = MOST_TLS_ERROR_US if tls else MOST_ERROR_US
        if row.error_p99_us > most_us:
            broken.append(f"{row.streams} streams: error p99 {row.error_p99_us:.0f} > {most_us} µs")
        if row.lost:
            broken.append(f"{row.streams} streams: {row.lost} events lost")
        for other, factor in LEAST_RATIOS.items():
            peer = rows.get((other, row.streams))
            if peer and not tls and peer.cpu_us_per_event < factor * row.cpu_us_per_event:
                ratio = peer.cpu_us_per_event / row.cpu_us_per_event
                broken.append(f"{row.streams} streams: {other} costs {ratio:.1f} ×, not {factor} ×")
    return broken


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, nargs="+")
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=[*READERS, FLOOR])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.reader:
        if (cores := os.cpu_count() or 1) > 1:
            os.sched_setaffinity(0, {cores - 1})
        name, *load = json.loads(given.reader)
        sys.stdout.buffer.write(msgspec.json.encode(read(name, Load(*load))))
        return 0
    if FLOOR in given.readers and (given.tls or shutil.which("cc") is None):
        given.readers.remove(FLOOR)
        print("without the floor: it needs a C compiler, cc, and speaks no TLS\n")
    print(
        "| reader | streams × events/s | events/s | lost | CPU µs/event "
        "| error p50 µs | p99 | p99.9 | server late p99 |\n|---|---|---|---|---|---|---|---|---|"
    )
    streams = given.streams or ([100] if given.tls else [100, 200, 800])
    figures = run(streams, given.readers, tls=given.tls, seconds=given.seconds)
    broken = broken_promises(figures, tls=given.tls) if given.check else []
    for line in broken:
        print("broken:", line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
