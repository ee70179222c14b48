"""What is measured agrees with what the server did, by the server's own stamps.

The reference server is another process on this machine: it writes the monotonic instant into each
event, just before it hands the event to the kernel. So what is asserted is the instrument's error
and not the machine's speed.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import numpy as np
import numpy.typing as npt
import pytest
from attrs import define, field, frozen

from llmperf_core import (
    Concurrency,
    Endpoint,
    Fixed,
    Poisson,
    Settings,
    StageResult,
    bench,
)
from llmperf_core.judge import samples
from llmperf_core.load import LoadProfile
from llmperf_core.target import Decoder, Reply
from llmperf_core.testing import ReferenceServer, Script
from llmperf_core.timeline import Timeline
from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_core.wire.tgi import Tgi

pytestmark = pytest.mark.usefixtures("deadline")


TOKENS = 20
SCRIPT = Script(first_token_s=0.05, gap_s=0.02, scatter=True)
_SENT = re.compile(rb'"sent_ns":(\d+)')


@define
class Notes:
    """A decoder that also notes when the server sent each event, among the server's durations."""

    inner: Decoder
    body: bytearray = field(factory=bytearray)

    @property
    def reply(self) -> Reply:
        """The reply."""
        return self.inner.reply

    def feed(self, data: bytes, at_ns: int) -> None:
        """Take the next bytes."""
        self.body += data
        self.inner.feed(data, at_ns)

    def finish(self) -> None:
        """Say that the body has ended."""
        self.inner.finish()
        for k, sent_ns in enumerate(_SENT.findall(self.body)):
            self.reply.server_ns[f"{k:03d}"] = int(sent_ns)


@frozen(kw_only=True)
class NotingTgi(Tgi):
    """TGI's protocol, with the server's stamps."""

    def decoder(self, headers: Mapping[str, str]) -> Decoder:
        """Return a decoder for one response."""
        return Notes(super().decoder(headers))


@frozen
class Reference:
    """The reference server as a target."""

    url: str

    @property
    def name(self) -> str:
        """What tables call it."""
        return "reference"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Connect."""
        yield Endpoint(base_url=self.url, codec=NotingTgi())


@pytest.fixture(scope="module", params=[Concurrency(8), Poisson(16)], ids=repr)
def stage(request: pytest.FixtureRequest) -> Iterator[StageResult]:
    """Yield a measured stage of each kind of load."""
    load: LoadProfile = request.param
    with ReferenceServer(SCRIPT) as server:
        yield bench(
            Reference(server.url),
            load,
            workload=Fixed("Write of llamas", max_new_tokens=TOKENS),
            duration_s=1.5,
            settings=Settings(warmup_s=0.3, seed=1),
        )


def sent_ns(timeline: Timeline) -> npt.NDArray[np.int64]:
    """Return when the server sent each token, on the monotonic clock."""
    return np.array([timeline.server_ns[key] for key in sorted(timeline.server_ns)])


def transit_ns(stage: StageResult) -> npt.NDArray[np.int64]:
    """Return for each token how much later than the quickest it was stamped."""
    took = np.concatenate([t.token_at_ns - sent_ns(t) for t in stage.timelines])
    least: int = took.min()
    return took - least


def test_every_token_is_seen(stage: StageResult) -> None:
    """Each once, all stamped by the kernel, counted as the server counted them."""
    assert stage.summary.requests.failed == stage.summary.requests.censored == 0
    assert {len(t.token_at_ns) for t in stage.timelines} == {TOKENS}
    assert {len(t.server_ns) for t in stage.timelines} == {TOKENS}
    assert stage.summary.stamps == "kernel"
    assert stage.summary.tokens.counted_by == "usage"
    assert stage.observation.user_stamped_reads == 0


def test_stamps_agree_with_the_servers(stage: StageResult) -> None:
    """The kernel stamps within a fraction of a millisecond, whatever the program was doing."""
    assert np.median(transit_ns(stage)) < NS_PER_MS


def test_ttft_is_never_below_the_truth(stage: StageResult) -> None:
    """The server waits so long before each first token; seeing it earlier would be a mistake."""
    ttft = stage["ttft"]

    assert ttft.min_ns is not None
    assert ttft.min_ns >= SCRIPT.first_token_s * NS_PER_S
    assert ttft.count == stage.summary.requests.completed


def test_gaps_agree_with_the_servers(stage: StageResult) -> None:
    """Each gap between tokens is the one between their sendings, but for the stamps' error."""
    seen = np.concatenate([np.diff(t.token_at_ns) for t in stage.timelines])
    true = np.concatenate([np.diff(sent_ns(t)) for t in stage.timelines])

    assert np.median(np.abs(seen - true)) < NS_PER_MS


def test_tpot_agrees_with_the_servers(stage: StageResult) -> None:
    """Over a whole answer the error of two stamps is divided by its tokens."""
    inside = samples(stage.timelines, stage.observation.window)
    true = [int(np.ptp(sent_ns(t))) / (TOKENS - 1) for t in inside]
    mean_ns = stage["tpot"].mean_ns

    assert mean_ns == pytest.approx(np.mean(true), rel=0.02)


def test_throughput_agrees_with_the_servers(stage: StageResult) -> None:
    """Tokens that the server sent within the window ÷ its length."""
    window = stage.observation.window
    sent = np.concatenate([sent_ns(t) for t in stage.timelines])
    offset = (np.concatenate([t.token_at_ns for t in stage.timelines]) - sent).min()
    on_our_clock = sent + offset
    inside = (on_our_clock >= window.open_at_ns) & (on_our_clock < window.close_at_ns)
    rate = stage.summary.output_tokens_per_s

    assert rate is not None
    true = np.count_nonzero(inside) * NS_PER_S / window.duration_ns
    assert rate.value == pytest.approx(true, rel=0.05)


def test_plan_of_an_open_loop_is_kept(stage: StageResult) -> None:
    """Nothing is sent early, and everything that was due in the window was sent."""
    if isinstance(stage.load, Concurrency):
        assert stage.summary.asked is None
        return
    assert stage["lag"].min_ns is not None
    assert stage["lag"].min_ns >= 0
    assert stage.summary.asked == stage.summary.offered
