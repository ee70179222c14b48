"""What the benchmark aims at, and what a backend owes: Target, Endpoint, Codec, Backend.

A backend describes a request and names a codec. It never holds a socket or a clock, so a
difference between two rows of a table is the endpoint's and not the adapter's.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import httpx
from attrs import Factory, define, field, frozen
from attrs.validators import and_, ge, gt, instance_of, min_len, optional

from llmperf_core.timeline import Failed

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""Anything that JSON can say."""


Turn: TypeAlias = tuple[Literal["system", "user", "assistant"], str]
"""Who said something in a conversation, and what."""


@frozen(kw_only=True)
class Prompt:
    """One thing to ask, and how much of an answer to allow.

    Raises:
        ValueError: the text is empty, or `max_new_tokens` or a cancellation is not positive.
    """

    text: str = field(validator=and_(instance_of(str), min_len(1)))
    max_new_tokens: int = field(default=64, validator=and_(instance_of(int), gt(0)))
    parameters: Mapping[str, Json] = Factory(dict)
    """Further generation parameters, under the protocol's own names; None removes one."""
    cancel_after_s: float | None = field(default=None, validator=optional(gt(0)))
    """We end the request so long after it was due, or in a closed loop after it was begun, as a
    user who has waited enough."""
    cancel_after_tokens: int | None = field(default=None, validator=optional(gt(0)))
    """We end the request once so many tokens have come, as a user who has read enough. Needs a
    stream."""
    history: tuple[Turn, ...] = ()
    """What was said before it, the oldest first."""
    then: "Callable[[str], Prompt | None] | None" = field(default=None, repr=False, eq=False)
    """Takes the answer once it has come whole, and returns what the same user asks next; None ends
    the conversation."""
    after_s: float = field(default=0.0, validator=ge(0))
    """How long its user thinks before asking it, when it is what somebody asks next."""
    reuse: bool = False
    """Its beginning is meant to be in the server's cache, so that nobody is warned of that."""

    @property
    def whole_text(self) -> str:
        """All that was said and is asked, as one text, for protocols that have no turns.

        It begins with the whole text of the turn before and its answer, so that a prefix cache
        finds them.
        """
        return "\n\n".join([*(said for _, said in self.history), self.text])


@frozen(kw_only=True)
class Request:
    """An HTTP request as a codec wants it sent."""

    path: str
    """Relative to the endpoint's base URL, with a leading slash."""
    body: bytes = field(repr=False)
    method: str = "POST"
    headers: Mapping[str, str] = Factory(lambda: {"content-type": "application/json"})


@define(kw_only=True)
class Reply:
    """What a decoder has understood so far. Mutable: it grows as bytes are fed."""

    token_at_ns: list[int] = Factory(list)
    """One entry for each event that carries a token, in order of arrival."""
    text: list[str] = Factory(list)
    """The pieces of the answer."""
    finish_reason: str | None = None
    error: str | None = None
    """An error that the server reported inside the stream."""
    error_name: str = "in_band_error"
    """The name that such a request is counted under."""
    output_tokens: int | None = None
    """The server's own count; None if it gave none."""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    server_ns: dict[str, int] = Factory(dict)
    """Durations that the server reported, in nanoseconds, under its own names."""
    ended: bool = False
    """Whether the protocol's own end was seen; a body that stops without it is truncated."""


class Decoder(Protocol):
    """Turns the body of one response into a `Reply`. Holds no socket and no clock."""

    @property
    def reply(self) -> Reply:
        """What has been understood so far."""
        ...

    def feed(self, data: bytes, at_ns: int) -> None:
        """Take the next bytes of the body, which arrived at `at_ns`.

        An event belongs to the instant at which its last byte arrived. However the bytes are
        cut, the same events come out.

        Raises:
            DecodeError: the bytes break the protocol. Nothing else is ever raised.
        """
        ...

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            DecodeError: what came cannot be a whole answer.
        """
        ...


@runtime_checkable
class BulkDecoder(Decoder, Protocol):
    """A decoder that takes many pieces together quicker than one by one."""

    def feed_all(self, pieces: Sequence[bytes], at_ns: Sequence[int]) -> None:
        """Take many pieces, each with its instant: as `feed` one after the other.

        Raises:
            DecodeError: the bytes break the protocol; those before are taken.
        """
        ...


class Codec(Protocol):
    """One protocol, sans-IO: a prompt becomes a request, stamped bytes become a reply."""

    @property
    def name(self) -> str:
        """The protocol's name, as `--protocol` takes it."""
        ...

    @property
    def stream(self) -> bool:
        """Whether answers come token by token; else they come whole, and have no TTFT."""
        ...

    def request(self, prompt: Prompt) -> Request:
        """Return the request that asks for this prompt."""
        ...

    def decoder(self, headers: Mapping[str, str]) -> Decoder:
        """Return a decoder for one successful response, given its headers (lower-case names)."""
        ...


@runtime_checkable
class Careful(Protocol):
    """A codec that knows what its server silently does otherwise than it is asked."""

    def caveats(self, prompt: Prompt) -> Sequence[str]:
        """Return what the server will ignore or change of this prompt's request, one line each.

        Raises:
            UsageError: the server would refuse it.
        """
        ...


@runtime_checkable
class KnowsRefusals(Protocol):
    """A codec that knows what its server means by a status other than 200."""

    def refusal(self, response: httpx.Response, body: bytes) -> Failed | None:
        """Return how the request failed; None leaves it at the status. Never raises.

        Args:
            response: its head, and the request that it answers; its body has been taken away.
            body: what came of the body.
        """
        ...


Read: TypeAlias = Callable[[], Awaitable[Mapping[str, float]]]
"""Returns one reading, by our words for what is read: those of `llmperf_core.telemetry`."""


class Meter(Protocol):
    """Something that can be read once a second while a stage is measured: a server, a GPU.

    Whatever opening or reading raises is counted, and the stage goes on without it.
    """

    @property
    def name(self) -> str:
        """A short name that no other meter of the run has: `server`, `gpu0`."""
        ...

    @property
    def what(self) -> str:
        """What it is, for people."""
        ...

    def open(self) -> AbstractAsyncContextManager[Read]:
        """Get ready to be read. A reading must not hold up the event loop."""
        ...


class MachinePart(Protocol):
    """What an entry point of the group `llmperf.hardware` yields: one kind of part of a machine."""

    def describe(self) -> Json:
        """Return what there is of it, for the run's environment. Never raises."""
        ...

    def meters(self) -> Sequence[Meter]:
        """Return what can be read of it; nothing where there is none of it. Never raises."""
        ...


@frozen(kw_only=True)
class Endpoint:
    """An open target: where requests go, how they are written, and who may send them.

    It travels to the measuring process, so everything in it can be pickled.
    """

    base_url: str
    codec: Codec
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Sent with each request. Never shown: a key may be among them."""
    auth: httpx.Auth | None = field(default=None, repr=False)
    verify: bool | str = True
    """Check TLS certificates; or the path of a file of certificate authorities to trust."""
    model: str | None = None
    server: Mapping[str, Json] = Factory(dict)
    """What the server says of itself."""
    simulated: bool = False
    """A simulator, not a model. Every output says so."""
    transport: Callable[[], httpx.AsyncBaseTransport] | None = field(default=None, repr=False)
    """Makes the httpx transport to use in place of the measuring wire: in-process ASGI, a proxy.
    Its arrivals are stamped by the program, and the result says so."""
    metrics_path: str | None = "/metrics"
    """Where the server may show Prometheus what it counts; None where it has no such page."""
    meters: Sequence[Meter] = ()
    """What else can be read of it while it is measured: its container, for one."""


class Target(Protocol):
    """What the benchmark aims at: a frozen description that can be opened."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def open(self) -> AbstractAsyncContextManager[Endpoint]:
        """Bring it up, or connect to it; take down on every way out what was brought up.

        Raises:
            TargetError: it could not be brought up or reached.
        """
        ...


@runtime_checkable
class CanReport(Protocol):
    """A target that can say how its bring-up stands."""

    def reporting(self, report: Callable[[str], None]) -> Target:
        """Return the same target, which tells `report` each step on the event loop, in words."""
        ...


@frozen(kw_only=True)
class Options:
    """What the caller may say of a target beside its URL.

    Raises:
        ValueError: a field is out of its range.
    """

    protocol: str | None = None
    """`tgi`, `openai-chat` or `openai-completions`; None asks the server."""
    model: str | None = None
    """The model to name in requests; None asks the server."""
    api_key_env: str | None = None
    """The environment variable that holds the bearer key. The key itself is never an option."""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    body: Mapping[str, Json] = Factory(dict)
    """Further fields of each request's body; None removes one."""
    stream: bool = True
    """Ask for a stream of tokens; False asks for the whole answer at once, which has no TTFT."""
    verify: bool | str = True
    startup_s: float | None = field(default=None, validator=optional(gt(0)))
    """How long a server that we start may take to answer; None leaves it to the backend."""


class Backend(Protocol):
    """What an entry point of the group `llmperf.targets` yields."""

    @property
    def schemes(self) -> Mapping[str, str]:
        """Its URL schemes, each with a line that says what it is, for `llmperf targets`."""
        ...

    def target(self, url: str, options: Options) -> Target:
        """Return the target that the URL names. Pure: nothing is started or reached.

        Raises:
            TargetUrlError: the URL does not say what this backend needs.
        """
        ...


@runtime_checkable
class CanServe(Protocol):
    """A backend that can also run what it measures as a server for other programs."""

    def serve(
        self, url: str, options: Options, *, host: str, port: int, ready: Callable[[str], None]
    ) -> None:
        """Serve what the URL names, until an interrupt (`KeyboardInterrupt`) ends it.

        Args:
            url: as `target` takes it.
            options: likewise.
            host: the address to listen at.
            port: 0 takes a free one.
            ready: is called once, when it listens, with one line: its URL, and what it is.

        Raises:
            TargetUrlError: the URL does not say what this backend needs.
            StartError: it cannot listen there.
        """
        ...


@frozen(kw_only=True)
class Leftover:
    """Something that costs memory or money and that nobody uses any more."""

    what: str
    """What it is, in words."""
    why: str
    """Why it may go."""
    remove: Callable[[], None] = field(repr=False)
    """Removes it. Raises a TargetError if it cannot; what is gone already is no error."""


@frozen(kw_only=True)
class Reap:
    """Where to look for what is left, and what of it to take."""

    expired_only: bool = False
    """Leave what has not expired, even if its process has ended."""
    noted_only: bool = False
    """Go by what this machine has noted, and search nowhere else."""
    regions: tuple[str, ...] = ()
    """Where a cloud is searched; none means where something was noted."""


EVERYTHING_LEFT = Reap()
"""All that can be found, without a search of clouds where nothing was noted."""


@runtime_checkable
class CanReap(Protocol):
    """A backend that can find what a killed process of ours has left running."""

    def leftovers(self, which: Reap = EVERYTHING_LEFT) -> Sequence[Leftover]:
        """Return what has expired, and what belongs to a process that has ended.

        Args:
            which: where to look, and what to take.

        Raises:
            TargetError: there may be something where we cannot look.
        """
        ...
