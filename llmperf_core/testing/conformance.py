"""What a codec, a backend and a target owe, as checks that a test suite of another project runs.

    from llmperf_core.testing import conformance

    @conformance.cases("openai-chat")
    def test_codec(case):
        case.check(MyCodec(model="m"))

A check that is not met raises AssertionError, which says the rule. pytest is needed for the
decorators alone.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

import cloudpickle
import msgspec
from attrs import Factory, evolve, frozen

from llmperf_core.errors import DecodeError
from llmperf_core.target import Codec, Json, Prompt, Reply
from llmperf_core.testing.requirements import check_backend, check_target, require
from llmperf_core.testing.traps import Trap, traps

__all__ = [
    "PROTOCOLS",
    "Case",
    "Recording",
    "cases",
    "cases_of",
    "cases_of_recordings",
    "check_backend",
    "check_target",
    "recordings",
]

PROTOCOLS = ("tgi", "openai-chat", "openai-completions")
"""Those that `cases` knows."""

_Test = TypeVar("_Test", bound=Callable[..., object])
_READ_BYTES = 1 << 16
"""No read of a socket gives more at once."""
_LARGE_BYTES = 10_000
"""Bodies that are larger are not cut everywhere: it would take too long."""
_RANDOM_CUTS = 20
_MOST_CUTS = 300
_DAMAGES = 300
_PROMPT = Prompt(text="Write of llamas", max_new_tokens=17, parameters={"llmperf_extra": 5})


class Case(Protocol):
    """One thing that a codec owes."""

    @property
    def name(self) -> str:
        """What the test is called."""
        ...

    @property
    def rule(self) -> str:
        """What is right."""
        ...

    def check(self, codec: Codec) -> None:
        """Hold the codec to it.

        Raises:
            AssertionError: the codec does otherwise.
        """
        ...


@frozen(kw_only=True)
class Recording:
    """The body of one response, and the reply that a codec must make of it.

    Of the reply's `token_at_ns` only the number counts.
    """

    name: str
    body: bytes
    reply: Reply
    headers: Mapping[str, str] = Factory(dict)


def cases(protocol: str) -> Callable[[_Test], _Test]:
    """Run a test with each case of a protocol: pytest's decorator for it.

    Args:
        protocol: one of `PROTOCOLS`. The codec must be one that streams.
    """
    return _parametrized(cases_of(protocol))


def recordings(*recorded: Recording) -> Callable[[_Test], _Test]:
    """Run a test with each case for a codec that speaks a protocol of its own."""
    return _parametrized(cases_of_recordings(*recorded))


def cases_of(protocol: str) -> list[Case]:
    """Return each case of a protocol, for whoever does not use pytest.

    Raises:
        ValueError: the protocol is none of `PROTOCOLS`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"{protocol!r} is none of {', '.join(PROTOCOLS)}")
    found = traps(protocol)
    bodies = [trap.body for trap in found if len(trap.body) < _LARGE_BYTES]
    return [_Asking(protocol), *map(_Trapping, found), _Damaging({body: {} for body in bodies})]


def cases_of_recordings(*recorded: Recording) -> list[Case]:
    """Return each case for a codec that speaks a protocol of its own."""
    bodies = {recording.body: recording.headers for recording in recorded}
    return [_Asking(None), *map(_Replaying, recorded), _Damaging(bodies)]


@frozen
class _Asking:
    """The request, which is written the same way each time."""

    protocol: str | None
    name: str = "request"
    rule: str = "A request holds the prompt and the limit of its tokens, and asks for a stream."

    def check(self, codec: Codec) -> None:
        """Hold the codec to it."""
        request = codec.request(_PROMPT)
        require(bool(codec.name) and codec.name == codec.name.strip(), "a codec has a name")
        require(request.path.startswith("/"), "the path begins with a slash")
        require(codec.request(_PROMPT) == request, "the same prompt gives the same request")
        travelled = cloudpickle.loads(cloudpickle.dumps(codec))  # of our own making
        require(travelled.request(_PROMPT) == request, "a codec travels to another process")
        if self.protocol is not None:
            require(codec.stream, "these are the cases of a codec that streams")
            require(_PROMPT.text.encode() in request.body, "the prompt is in the body")
            self._check_fields(msgspec.json.decode(request.body))

    def _check_fields(self, fields: Mapping[str, Json]) -> None:
        if self.protocol == "tgi":
            inner = fields.get("parameters")
            asked = inner if isinstance(inner, Mapping) else {}
            limit = asked.get("max_new_tokens")
        else:
            asked, limit = fields, fields.get("max_tokens", fields.get("max_completion_tokens"))
            require(fields.get("stream") is True, "`stream` is true")
        require(limit == _PROMPT.max_new_tokens, "the limit of tokens is the prompt's")
        require(asked.get("llmperf_extra") == 5, "the prompt's own parameters are passed on")


@frozen
class _Trapping:
    """A trap, whole and cut in every way."""

    trap: Trap

    @property
    def name(self) -> str:
        """The trap's."""
        return self.trap.name

    @property
    def rule(self) -> str:
        """The trap's."""
        return self.trap.rule

    def check(self, codec: Codec) -> None:
        """Hold the codec to it."""
        body, right = self.trap.body, self.trap.right
        whole, refused = _attempt(codec, _cut_at(body, range(_READ_BYTES, len(body), _READ_BYTES)))
        self._require_equal("the number of tokens", len(whole.token_at_ns), right.tokens)
        if right.refused is not None:
            self._require_equal("whether it is refused", refused, right.refused)
        if right.ended is not None:
            self._require_equal("whether the answer has ended", whole.ended, right.ended)
        said = whole.error or ""
        self._require_equal("whether there is an error", bool(said), right.error is not None)
        self._require((right.error or "") in said, f"the error must say {right.error!r}: {said!r}")
        for field in ("finish_reason", "output_tokens", "input_tokens"):
            if getattr(right, field) is not None:
                self._require_equal(field, getattr(whole, field), getattr(right, field))
        if right.text is not None:
            self._require_equal("the text", "".join(whole.text), right.text)
        if len(body) < _LARGE_BYTES:
            self._check_instants(codec)
            _check_cuts(codec, body, {}, self.rule)

    def _check_instants(self, codec: Codec) -> None:
        """Feed byte by byte: each token must come with the byte that completes its event."""
        reply, _ = _attempt(codec, _bytes_of(self.trap.body), keep_instants=True)
        for at, end in zip(reply.token_at_ns, self.trap.token_ends, strict=False):
            self._require(at in end, f"a token was seen with byte {at}, not with one of {end}")

    def _require_equal(self, what: str, got: object, right: object) -> None:
        self._require(got == right, f"{what} must be {right!r}, not {got!r}")

    def _require(self, met: bool, otherwise: str) -> None:  # noqa: FBT001 -- as `assert` has it
        require(met, f"{self.rule} {otherwise}")


@frozen
class _Replaying:
    """A recording, whole and cut in every way, and stopped early."""

    recording: Recording
    rule: str = "The reply is the recorded one however the body is cut, and not before its end."

    @property
    def name(self) -> str:
        """The recording's."""
        return self.recording.name

    def check(self, codec: Codec) -> None:
        """Hold the codec to it."""
        body, headers = self.recording.body, self.recording.headers
        right = _comparable(self.recording.reply)
        reply, refused = _attempt(codec, [body], headers)
        require(not refused, f"{self.name!r} must not be refused")
        require(_comparable(reply) == right, f"{self.name!r} must give {right}, not {reply}")
        _check_cuts(codec, body, headers, self.rule)
        for size in range(len(body)):
            early = _comparable(_attempt(codec, [body[:size]], headers)[0])
            all_said = (early.token_at_ns, early.text) == (right.token_at_ns, right.text)
            stopped = not early.ended or all_said
            require(stopped, f"{self.name!r}: its first {size} bytes are no whole answer")


@frozen
class _Damaging:
    """Bodies with bytes changed, dropped, added and cut off, and noise."""

    bodies: Mapping[bytes, Mapping[str, str]]
    name: str = "damage"
    rule: str = "Whatever comes, nothing but DecodeError is raised, the same for each cut."

    def check(self, codec: Codec) -> None:
        """Hold the codec to it."""
        drawn = random.Random(7)  # noqa: S311 -- no secret
        bodies = list(self.bodies)
        for _ in range(_DAMAGES):
            original = drawn.choice(bodies)
            body = _damaged(original, drawn) if drawn.random() < 0.8 else drawn.randbytes(60)
            headers = self.bodies[original]
            pieces = _cut_at(body, sorted(drawn.choices(range(len(body) + 1), k=5)))
            whole, cut = _attempt(codec, [body], headers), _attempt(codec, pieces, headers)
            require(whole == cut, f"{self.rule} {body!r} gave {whole}, and cut {cut}")


def _check_cuts(codec: Codec, body: bytes, headers: Mapping[str, str], rule: str) -> None:
    """Require the same of the body however it is cut."""
    whole = _attempt(codec, [body], headers)
    for pieces in _cuts(body):
        cut = _attempt(codec, pieces, headers)
        require(cut == whole, f"{rule} Cut into {pieces} it gave {cut}, whole {whole}")


def _attempt(
    codec: Codec,
    pieces: Sequence[bytes],
    headers: Mapping[str, str] | None = None,
    *,
    keep_instants: bool = False,
) -> tuple[Reply, bool]:
    """Return what a decoder makes of the pieces, and whether it refused them.

    The instant of a token is the ordinal of its piece, or 0 if instants are not kept.
    """
    decoder, refused = codec.decoder(headers or {}), False
    try:
        for index, piece in enumerate(pieces):
            decoder.feed(piece, index if keep_instants else 0)
        decoder.finish()
    except DecodeError:
        refused = True
    except Exception as error:
        raise AssertionError(
            f"a decoder raises DecodeError and nothing else, but for {b''.join(pieces)[:200]!r} "
            f"it raised {error!r}"
        ) from error
    return decoder.reply, refused


def _comparable(reply: Reply) -> Reply:
    """Return the reply with the text in one piece and without instants."""
    return evolve(reply, token_at_ns=[0] * len(reply.token_at_ns), text=["".join(reply.text)])


def _cuts(body: bytes) -> Iterator[list[bytes]]:
    """Yield ways to cut: by the byte, in two (anywhere if the body is short), and at random."""
    yield _bytes_of(body)
    for at in range(1, len(body), 1 + len(body) // _MOST_CUTS):
        yield _cut_at(body, [at])
    drawn = random.Random(5)  # noqa: S311 -- no secret
    for _ in range(_RANDOM_CUTS):
        yield _cut_at(body, sorted(drawn.choices(range(len(body) + 1), k=drawn.randint(1, 9))))


def _bytes_of(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


def _cut_at(body: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *places, len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def _damaged(body: bytes, drawn: random.Random) -> bytes:
    damaged = bytearray(body)
    for _ in range(drawn.randint(1, 4)):
        at = drawn.randint(0, len(damaged))
        match drawn.randrange(4):
            case 0:
                damaged[at : at + 1] = drawn.randbytes(1)
            case 1:
                del damaged[at : at + drawn.randint(1, 20)]
            case 2:
                damaged[at:at] = drawn.choice([b"\r", b"\n\n", b"[", b"\xff", drawn.randbytes(4)])
            case _:
                del damaged[at:]
    return bytes(damaged)


def _parametrized(found: Sequence[Case]) -> Callable[[_Test], _Test]:
    import pytest

    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in found])
