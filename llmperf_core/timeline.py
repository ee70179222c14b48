"""The one record of one request: what was asked, every instant that counted, how it ended.

Everything in `judge/` is computed from these and from nothing else.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from attrs import Factory, field, frozen

Instants: TypeAlias = npt.NDArray[np.int64]
"""int64, shape (n,): instants on the run's clock, non-decreasing."""
Durations: TypeAlias = npt.NDArray[np.int64]
"""int64, shape (n,): lengths of time in nanoseconds."""
Stamps: TypeAlias = Literal["kernel", "user"]
"""Who stamped the arrivals: the kernel when bytes came in, or the program when it read them."""
CountedBy: TypeAlias = Literal["stream", "usage", "tokenizer"]
"""Where a token count comes from: events of the stream, the server's own count, a tokenizer."""

CancelledAfter: TypeAlias = Literal["time", "tokens"]


def int64(values: object) -> npt.NDArray[np.int64]:
    """Return the values as a read-only int64 array, shape (n,)."""
    array = np.array(values, dtype=np.int64)
    array.setflags(write=False)
    return array


@frozen
class Completed:
    """The answer came whole."""

    finish_reason: str | None = None
    """The server's own word: `stop`, `length`, `eos_token`, …; None if it gave none."""


@frozen
class Failed:
    """The request failed. That is data: it is counted under `error`, and the run goes on."""

    error: str
    """A short, stable name: `refused`, `http_429`, `in_band_error`, `truncated`, …"""
    detail: str = ""
    """What the server or the system said, shortened."""


@frozen
class Censored:
    """Still in flight when the drain ended: how long it would have taken is not known."""


@frozen
class Cancelled:
    """We ended it, as the workload said a user would: neither a failure nor a thing unknown."""

    after: CancelledAfter
    """What the user had had enough of."""


Outcome: TypeAlias = Completed | Failed | Censored | Cancelled


@frozen
class TokenCount:
    """How many tokens went in and out, and who counted them."""

    output: int = 0
    input: int | None = None
    cached: int | None = None
    """Of `input`, those that the server took from its prefix cache; None if it did not say."""
    counted_by: CountedBy = "stream"


@frozen
class Connection:
    """What it took to have a connection. None of it is part of TTFT in a closed loop."""

    fresh: bool = True
    """Opened for this request; False when a kept-alive one was used again."""
    connect_ns: int = 0
    """Name look-up and TCP handshake; 0 when reused."""
    tls_ns: int = 0
    """TLS handshake; 0 when reused or plain."""
    reopened: int = 0
    """How often a kept-alive connection turned out to be closed and was replaced by a fresh one."""


@frozen(kw_only=True, eq=False)
class Timeline:
    """Everything that happened to one request, as instants on the run's clock.

    The run's clock is monotonic, in integer nanoseconds; its zero is the start of the stage.
    """

    index: int
    """Ordinal of the request in its stage, from 0, in the order of being started."""
    due_at_ns: int | None
    """The planned instant (open loop); None in a closed loop, where nothing is planned."""
    sent_at_ns: int | None
    """When the first byte of the request was handed to the kernel; None if none ever was."""
    token_at_ns: Instants = field(converter=int64, factory=tuple)
    """When each token-bearing event arrived. Events that one read delivered share an instant."""
    read_lag_ns: Durations = field(converter=int64, factory=tuple)
    """For each of them: when the program read it − when the kernel received it."""
    ended_at_ns: int
    """When the last byte arrived, or the failure was known, or the waiting was given up."""
    outcome: Outcome
    tokens: TokenCount = TokenCount()
    asked_tokens: int | None = None
    """The limit on output tokens that was sent."""
    connection: Connection = Connection()
    server_ns: Mapping[str, int] = Factory(dict)
    """Durations that the server itself reported, by its name for them, in nanoseconds."""
    stamps: Stamps = "user"

    @property
    def start_at_ns(self) -> int | None:
        """Where every latency counts from: due in an open loop, sent in a closed one."""
        return self.sent_at_ns if self.due_at_ns is None else self.due_at_ns

    @property
    def completed(self) -> bool:
        """Whether the answer came whole."""
        return isinstance(self.outcome, Completed)

    @property
    def coalesced(self) -> int:
        """Tokens without an instant of their own, as an earlier one came in the same read."""
        return int(np.count_nonzero(np.diff(self.token_at_ns) == 0))


@frozen(kw_only=True)
class Window:
    """The stretch of a stage that counts: for the samples and for the time they are divided by."""

    open_at_ns: int
    """Inclusive."""
    close_at_ns: int
    """Exclusive."""

    @property
    def duration_ns(self) -> int:
        """Its length."""
        return self.close_at_ns - self.open_at_ns

    def __contains__(self, at_ns: int) -> bool:
        return self.open_at_ns <= at_ns < self.close_at_ns


@frozen(kw_only=True)
class Observation:
    """What the harness saw of itself while it measured a stage."""

    window: Window
    ended_at_ns: int
    """When the last request had ended or the drain was given up."""
    started_at: str
    """Wall-clock time of the run's zero, ISO 8601 in UTC; empty if it is not known. For people, and
    to find what another machine recorded meanwhile; no figure of a request is computed of it."""
    client_cpu_ns: int
    """CPU time that the measuring process used from the run's zero to `ended_at_ns`."""
    zero_at_ns: int = 0
    """The run's zero on this machine's monotonic clock, by which what another program stamped can
    be held against a timeline; 0 if it is not known."""
    clock_steps: int = 0
    """How often the wall clock jumped. Kernel stamps are wall-clock, so this can spoil them."""
    reads: int = 0
    """Network reads that carried a part of a body."""
    user_stamped_reads: int = 0
    """Of `reads`, those that only the program could stamp."""
    repeated_prompts: int = 0
    """Prompts that had been asked before in the stage, word for word."""
    reuse_meant: bool = False
    """The workload meant the server to have some beginnings of prompts in its cache."""
    caveats: tuple[str, ...] = ()
    """What the server ignored or changed of the requests, as its protocol's rules say."""
    interrupted: bool = False
    """Somebody stopped the stage early; what was measured until then is kept."""
    stopped_early: str = ""
    """What was known well enough for the stage to end before its time; empty if it did not."""


Phase: TypeAlias = Literal["warm-up", "measuring", "draining"]


@frozen(kw_only=True)
class Progress:
    """How a stage under way stands at an instant."""

    phase: Phase
    elapsed_ns: int
    """Since the run's zero."""
    in_flight: int
    started: int
    ended: int
