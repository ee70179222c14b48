"""How a stage is measured, apart from what it measures."""

from pathlib import Path

from attrs import field, frozen
from attrs.converters import optional as optional_of
from attrs.validators import ge, gt, optional

from llmperf_core.judge import Calibration, Precision


@frozen(kw_only=True)
class Deadlines:
    """How long one request may keep us waiting before it counts as failed.

    Raises:
        ValueError: a deadline is not positive.
    """

    connect_s: float = field(default=10.0, validator=gt(0))
    """For the name look-up, the TCP and the TLS handshake."""
    first_token_s: float = field(default=120.0, validator=gt(0))
    """From start to the first token."""
    gap_s: float = field(default=60.0, validator=gt(0))
    """Between two tokens."""
    whole_s: float = field(default=600.0, validator=gt(0))
    """From start to the end of the answer."""


@frozen(kw_only=True)
class Settings:
    """How a stage is measured, apart from what it measures.

    Raises:
        ValueError: a field is out of its range.
    """

    duration_s: float | None = field(default=30.0)
    """Length of the window; None lets `requests` alone end it."""
    requests: int | None = field(default=None, validator=optional(gt(0)))
    """At most this many requests are started in the window; None leaves it to `duration_s`."""
    warmup_s: float = field(default=2.0, validator=ge(0))
    """Load before the window opens, which no figure counts."""
    max_in_flight: int | None = field(default=None, validator=optional(gt(0)))
    """Of an open loop, at most this many requests are in flight. Others wait in their order, none
    is dropped, and the wait counts: every latency is from due."""
    drain_s: float = field(default=60.0, validator=ge(0))
    """How long requests in flight at the window's close may take to end; later ones are censored.
    """
    precision: Precision | None = None
    """Stop before `duration_s` is over where this is known well enough; None never does."""
    seed: int | None = None
    """Of the prompts and the arrivals; None draws one, and the run records it."""
    deadlines: Deadlines = Deadlines()
    max_response_bytes: int = field(default=1 << 26, validator=gt(0))
    """A response that is larger fails: it must not fill the memory."""
    in_process: bool = False
    """Measure in this process: what else it does then delays the reading, and may merge reads."""
    folder: Path | None = field(default=None, converter=optional_of(Path))
    """Where the run is kept, written while it goes on; None keeps it in memory alone."""
    calibration: Calibration | None = None
    """This host's instrument error, shown beside the results; stages that were measured much worse
    than that are suspect. See `llmperf_core.calibrate`."""
    telemetry: bool | None = None
    """Read the server's own counters and its machine once a second beside the measuring. None does
    so where there is something to read, this machine's GPUs only if the server is on it, and not
    where the measuring is `in_process`; True insists, False leaves it."""
    quiet: bool = False
    """Show no progress. None is shown anyway where standard error is no terminal."""

    @duration_s.validator
    def _check_duration(self, _: object, value: float | None) -> None:
        if value is not None and value <= 0:
            raise ValueError(f"'duration_s' must be > 0: {value}")

    def __attrs_post_init__(self) -> None:
        if self.duration_s is None and self.requests is None:
            raise ValueError("neither 'duration_s' nor 'requests' ends the stage; give one")
        if self.duration_s is None and self.precision is not None:
            raise ValueError("'precision' needs a 'duration_s', after which the stage ends anyway")
