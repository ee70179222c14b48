"""How fast a journal is summarised, and in how much memory.

    python benchmarks/analysis.py [--requests 100000] [--tokens 100]

Writes a journal of a stage that never was, reads it back twice through `summarize`, and prints the
rate and the peak of the memory. Beside it stands what decoding the same lines with msgspec alone
takes, in the same run: the ratio says what this machine does not.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from llmperf_core.judge import Summary, summarize
from llmperf_core.load import Concurrency
from llmperf_core.run.journal import StoredTimelines, line_of
from llmperf_core.timeline import Completed, Observation, Timeline, TokenCount, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S

_SLOTS = 200
_TEMPLATES = 2000
"""Requests of which the journal is made, shifted in time: to write is not what is measured."""


def requests(tokens: int) -> list[Timeline]:
    """Return requests that start at 0, with gaps of 20 ms on average."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(_TEMPLATES):
        at_ns = np.cumsum(rng.gamma(4, 5 * NS_PER_MS, tokens)).astype(np.int64) + 100 * NS_PER_MS
        made.append(
            Timeline(
                index=0,
                due_at_ns=None,
                sent_at_ns=0,
                token_at_ns=at_ns,
                read_lag_ns=rng.exponential(10_000, tokens).astype(np.int64),
                ended_at_ns=int(at_ns[-1]),
                outcome=Completed("length"),
                tokens=TokenCount(output=tokens, input=64, counted_by="usage"),
                asked_tokens=tokens,
                stamps="kernel",
            )
        )
    return made


def lines(templates: list[Timeline], count: int) -> Iterator[bytes]:
    """Yield lines of a closed loop, in about the order in which they ended."""
    ready_ns = np.zeros(_SLOTS, dtype=np.int64)
    for index in range(count):
        slot, template = index % _SLOTS, templates[index % len(templates)]
        start_ns = int(ready_ns[slot])
        ready_ns[slot] += template.ended_at_ns
        yield line_of(
            Timeline(
                index=index,
                due_at_ns=None,
                sent_at_ns=start_ns,
                token_at_ns=template.token_at_ns + start_ns,
                read_lag_ns=template.read_lag_ns,
                ended_at_ns=template.ended_at_ns + start_ns,
                outcome=template.outcome,
                tokens=template.tokens,
                asked_tokens=template.asked_tokens,
                stamps="kernel",
            )
        )


def write(path: Path, *, count: int, tokens: int) -> int:
    """Write a journal and return the last instant in it."""
    with path.open("wb") as file:
        file.writelines(lines(requests(tokens), count))
    with path.open("rb") as file:
        return max(int(msgspec.json.decode(line)["ended_at_ns"]) for line in file)


def decode_alone(path: Path) -> float:
    """Return the seconds that msgspec takes to decode the lines, and to forget them."""
    decoder = msgspec.json.Decoder()
    began = time.perf_counter()
    with path.open("rb") as file:
        for line in file:
            decoder.decode(line)
    return time.perf_counter() - began


def summarise(path: Path, last_ns: int) -> tuple[Summary, float]:
    """Return the summary of the journal, and the seconds that it takes."""
    window = Window(open_at_ns=2 * NS_PER_S, close_at_ns=last_ns)
    observation = Observation(
        window=window, ended_at_ns=last_ns, started_at="", client_cpu_ns=NS_PER_S
    )
    began = time.perf_counter()
    summary = summarize(StoredTimelines(path), observation, load=Concurrency(_SLOTS))
    return summary, time.perf_counter() - began


def peak_mb() -> float:
    """Return the peak of this process's memory until now, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "timelines.jsonl")
        last_ns = write(path, count=given.requests, tokens=given.tokens)
        decoding_s = decode_alone(path)
        before_mb = peak_mb()
        summary, took_s = summarise(path, last_ns)
        size_mb = path.stat().st_size / 1e6
    itl = summary["itl"]
    print(f"journal        {given.requests:,} requests × {given.tokens} tokens, {size_mb:,.0f} MB")
    print(f"summarised     {given.requests / took_s:,.0f} requests/s, ", end="")
    print(f"{given.requests * given.tokens / took_s:,.0f} tokens/s, {took_s:.1f} s")
    print(f"msgspec alone  {decoding_s:.1f} s: all takes {took_s / decoding_s:.1f} times as long")
    print(f"peak memory    {peak_mb():.0f} MB, {before_mb:.0f} MB of it before summarising")
    print(f"ITL            {itl.count:,} gaps, p50 {itl.p50}, p99 {itl.p99}")


if __name__ == "__main__":
    main()
