"""What can go wrong with an answer, by name, and the outcome that the protocols warrant for it."""

import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from attrs import field, frozen

from llmperf_core.testing import plays
from llmperf_core.testing.dialects import TGI, Dialect
from llmperf_core.testing.plays import Play

COMPLETED = "completed"
"""The outcome of what a client must not mind."""

_OPENAI = ("openai-chat", "openai-completions")
_OVERSIZED_BYTES = (1 << 20) + 1


@frozen
class Fault:
    """Something that a server does and should not, or may do and clients stumble over."""

    name: str
    played: str
    """What the server does."""
    outcome: str = field(kw_only=True)
    """What the protocols warrant: `completed`, or the name of the failure."""
    protocols: tuple[str, ...] | None = field(default=None, kw_only=True)
    """Only of these; None is any."""
    countable: bool = field(default=True, kw_only=True)
    """Whether a client that reads on gets exactly the tokens that the server says it sent."""
    play: Play | None = field(default=None, repr=False, kw_only=True)
    """Turns an answer into what is sent; None if no request ever comes so far."""

    def fits(self, dialect: Dialect) -> bool:
        """Return whether the dialect can have this fault."""
        return self.protocols is None or dialect.protocol in self.protocols


def fault_schedule(
    requests: int, *, seed: int, share: float = 0.5, dialect: Dialect = TGI
) -> tuple[str | None, ...]:
    """Return a fault, or None, for each of so many requests, drawn at random.

    Args:
        requests: how many.
        seed: the same seed gives the same schedule.
        share: the probability that a request has a fault.
        dialect: only faults that fit it are drawn; `refuse` never is, as it is no single request's.
    """
    drawn = random.Random(seed)  # noqa: S311 -- no secret
    names = [fault.name for fault in FAULTS.values() if fault.play and fault.fits(dialect)]
    return tuple(drawn.choice(names) if drawn.random() < share else None for _ in range(requests))


def _refusals() -> Iterator[Fault]:
    """Yield the faults that are HTTP errors."""
    for status in (*_REFUSALS, 429):
        for body, said in _SAID.items():
            yield Fault(
                f"http-{status}-{body}",
                f"status {status} with {said}",
                outcome=f"http_{status}",
                play=plays.refusal(status, body),
            )
    yield Fault(
        "http-429-retry-after",
        "status 429 with an error in JSON and `Retry-After: 1`",
        outcome="http_429",
        play=plays.refusal(429, "json", b"retry-after: 1"),
    )


_REFUSALS = (400, 401, 403, 404, 422, 424, 500, 502, 503)
_SAID = {"json": "an error in JSON", "plain": "plain words", "empty": "no body"}

_ALL = (
    Fault("refuse", "nobody listens at the port", outcome="refused"),
    Fault(
        "reset-before-headers",
        "the request is read, then an RST",
        outcome="reset",
        play=plays.broken_off(plays.silence, plays.RESET),
    ),
    Fault(
        "close-before-headers",
        "the request is read, then a FIN",
        outcome="reset",
        play=plays.broken_off(plays.silence, plays.CLOSE),
    ),
    Fault(
        "reset-within-headers",
        "half of the head, then an RST",
        outcome="reset",
        play=plays.broken_off(plays.part_of_head, plays.RESET),
    ),
    Fault(
        "reset-after-headers",
        "the head, then an RST",
        outcome="reset",
        play=plays.broken_off(plays.head, plays.RESET),
    ),
    Fault(
        "reset-mid-stream",
        "half of the tokens, then an RST",
        outcome="reset",
        play=plays.broken_off(plays.half, plays.RESET),
    ),
    Fault(
        "close-mid-stream",
        "half of the tokens, then a FIN without the body's end",
        outcome="truncated",
        play=plays.broken_off(plays.half, plays.CLOSE),
    ),
    Fault(
        "stall-before-headers",
        "the request is read, then silence",
        outcome="timeout_first_token",
        play=plays.silence,
    ),
    Fault(
        "stall-after-headers",
        "the head, then silence",
        outcome="timeout_first_token",
        play=plays.head,
    ),
    Fault(
        "stall-mid-stream",
        "half of the tokens, then silence",
        outcome="timeout_gap",
        play=plays.half,
    ),
    Fault(
        "slow-loris",
        "the whole answer byte by byte, one each millisecond",
        outcome=COMPLETED,
        play=plays.slow_loris,
    ),
    Fault(
        "half-frame",
        "half of the tokens and half a chunk, then a FIN",
        outcome="truncated",
        play=plays.broken_off(plays.half_a_frame, plays.CLOSE),
    ),
    Fault(
        "half-event",
        "a body that ends properly, but within an event",
        outcome="truncated",
        play=plays.half_an_event,
    ),
    Fault(
        "garbage",
        "random bytes instead of an HTTP response",
        outcome="not_http",
        play=plays.garbage,
    ),
    Fault(
        "garbage-in-event",
        "half of the tokens, then an event whose data are random bytes",
        outcome="malformed",
        play=plays.half_and(b"data: " + plays.LINE_OF_NOISE + b"\n"),
    ),
    Fault(
        "garbage-between-events",
        "lines of random bytes, which are no fields of an event stream",
        outcome=COMPLETED,
        play=plays.rewritten(lambda event: plays.LINE_OF_NOISE + event),
    ),
    Fault(
        "another-shape",
        "half of the tokens, then an event with JSON of some other service",
        outcome="malformed",
        play=plays.half_and(b'data: {"hello":1}\n\n'),
    ),
    Fault(
        "oversized-event",
        "half of the tokens, then an event of more than 1 MiB",
        outcome="malformed",
        play=plays.half_and(b"data: " + b"x" * _OVERSIZED_BYTES + b"\n\n"),
    ),
    Fault(
        "content-length-too-long",
        "a whole answer, 100 bytes shorter than announced, then a FIN",
        outcome=COMPLETED,
        play=plays.too_long,
    ),
    Fault(
        "content-length-too-short",
        "a whole answer, longer than announced: what is announced ends within an event",
        outcome="truncated",
        play=plays.too_short,
    ),
    Fault("endless-head", "headers without end", outcome="not_http", play=plays.endless_head),
    Fault("html-page", "status 200 with a page to log in", outcome="malformed", play=plays.page),
    Fault(
        "compressed",
        "a body in gzip, which nobody asked for",
        outcome="encoded",
        play=plays.compressed,
    ),
    Fault("redirect", "status 307 to another path", outcome="http_307", play=plays.redirect),
    Fault(
        "in-band-error",
        "half of the tokens, then an error inside the stream",
        outcome="in_band_error",
        play=plays.in_band_error(plays.some),
    ),
    Fault(
        "in-band-error-at-once",
        "status 200, and the first event is an error",
        outcome="in_band_error",
        play=plays.in_band_error(lambda _: []),
    ),
    Fault(
        "missing-final-event",
        "a body that ends properly, without the event that ends the answer",
        outcome="truncated",
        play=plays.without_final_event,
    ),
    Fault(
        "several-tokens-a-read", "all tokens in one write", outcome=COMPLETED, play=plays.at_once
    ),
    Fault(
        "crlf",
        "lines that end with CRLF",
        outcome=COMPLETED,
        play=plays.rewritten(lambda event: event.replace(b"\n", b"\r\n")),
    ),
    Fault(
        "cr",
        "lines that end with CR",
        outcome=COMPLETED,
        play=plays.rewritten(lambda event: event.replace(b"\n", b"\r")),
    ),
    Fault(
        "comments",
        "a comment before each event",
        outcome=COMPLETED,
        play=plays.rewritten(lambda event: b": keep-alive\n\n" + event),
    ),
    Fault(
        "split-utf8",
        "tokens of characters that are cut between two writes",
        outcome=COMPLETED,
        play=plays.split_characters,
    ),
    Fault(
        "idle-close",
        "a whole answer; the idle connection is closed unannounced",
        outcome=COMPLETED,
        play=plays.broken_off(plays.whole, plays.CLOSE),
    ),
    Fault(
        "usage-only-chunk",
        "a chunk with the usage alone, asked for or not",
        outcome=COMPLETED,
        play=plays.with_usage,
        protocols=_OPENAI,
    ),
    Fault(
        "no-done",
        "a finish reason, and no `[DONE]`",
        outcome=COMPLETED,
        play=plays.without_done,
        protocols=_OPENAI,
    ),
    Fault(
        "no-finish-reason",
        "`[DONE]`, and no finish reason",
        outcome=COMPLETED,
        play=plays.without_reason,
        protocols=_OPENAI,
    ),
    Fault(
        "no-token",
        "an answer that ends properly without a token",
        outcome="empty",
        play=plays.no_token,
        protocols=_OPENAI,
    ),
    Fault(
        "role-only-first-chunk",
        "the role comes with the head, long before the first token",
        outcome=COMPLETED,
        play=plays.whole,
        protocols=("openai-chat",),
    ),
    # It goes on while the client leaves.
    Fault(
        "endless",
        "tokens without end",
        outcome="timeout_whole",
        play=plays.endless,
        countable=False,
    ),
    *_refusals(),
)
FAULTS: Mapping[str, Fault] = MappingProxyType({fault.name: fault for fault in _ALL})
"""All of them, by name."""
