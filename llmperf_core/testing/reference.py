"""A server with known truth: it streams tokens at planned instants, and says when each one left.

It notes for each token the monotonic instant just before it was handed to the kernel, so a client
on the same machine knows how wrong its own stamps are: each event holds it as `sent_ns`, and all
are handed over when the server stops, with its own lateness. It is a process of its own. It speaks
any of `DIALECTS`, and errs on demand as any of `FAULTS` says.
"""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import msgspec
from attrs import Attribute, define, field, frozen
from attrs.validators import ge, in_

from llmperf_core.errors import StartError
from llmperf_core.testing.dialects import DIALECTS, TGI, Dialect
from llmperf_core.testing.faults import FAULTS
from llmperf_core.units import ns_from_s

_PATIENCE_S = 10.0

FaultPlan: TypeAlias = str | Sequence[str | None] | None
"""A fault by its name, for each request; or a fault or None for each request by its ordinal, and
after the last from the first again; or none at all."""


class SendError(msgspec.Struct, frozen=True):
    """How late the reference server was against its own plan."""

    events: int
    late_p50_us: float
    late_p99_us: float
    late_max_us: float


class Played(msgspec.Struct, frozen=True):
    """What was played for one request."""

    prompt: str
    fault: str | None
    reused: bool
    """The connection had carried a request before: a client may ask again, unasked, when it is
    broken off without a byte."""
    tokens: int
    """How many were sent."""


class Truth(msgspec.Struct, frozen=True):
    """What a reference server says of itself when it has stopped."""

    send_error: SendError
    sent_at_ns: dict[str, list[list[int]]]
    """For each prompt, and for each request that asked it in order: when its tokens left, on the
    monotonic clock."""
    played: list[Played] = []
    """Each request that was understood, in the order of arrival."""
    held_writes: int = 0
    """How often the kernel would not take what was due, because the client did not read: these
    tokens left later than their stamps say."""


@frozen(kw_only=True)
class Script:
    """What the reference server plays for each request; the request's own limit ends it.

    Raises:
        ValueError: a field is negative, or the timeline goes back in time.
    """

    first_token_s: float = field(default=0.02, validator=ge(0))
    gap_s: float = field(default=0.02, validator=ge(0))
    scatter: bool = False
    """Delay each answer by a random part of a gap, so that streams do not march in step."""
    timeline: Sequence[tuple[float, bytes | int]] = field(default=())
    """Play this instead, whatever the request's limit is: how many seconds after the request
    which bytes, or how many tokens, are put into the body by one write."""

    @timeline.validator
    def _check_timeline(
        self, _: "Attribute[Sequence[tuple[float, bytes | int]]]", value: object
    ) -> None:
        offsets = [0.0, *(at_s for at_s, _ in self.timeline)]
        if offsets != sorted(offsets):
            raise ValueError(f"'timeline' must not go back in time: {value}")
        if any(isinstance(what, int) and what < 1 for _, what in self.timeline):
            raise ValueError(f"'timeline' must have bytes or at least one token: {value}")


class Options(msgspec.Struct):
    """What the process of a reference server is told."""

    dialect: str
    first_ns: int
    gap_ns: int
    scatter: bool
    timeline: list[tuple[int, bytes | int]]
    faults: list[str | None]
    certificate: str | None
    core: int | None


@define
class ReferenceServer:
    """A reference server in a process of its own, for the length of a `with` block.

    Args:
        script: when the tokens of each answer leave.
        dialect: the protocol that it speaks.
        fault: what goes wrong, and for which requests.
        certificate: a PEM file with the certificate and its key; with it the server speaks TLS.
        core: pin the server to this processor.

    Raises:
        ValueError: the fault is none of the catalogue, or does not fit the dialect.
        StartError: it did not come up.
    """

    script: Script = Script()
    dialect: Dialect = field(default=TGI, kw_only=True, validator=in_(tuple(DIALECTS.values())))
    fault: FaultPlan = field(default=None, kw_only=True)
    certificate: Path | None = None
    core: int | None = None
    url: str = field(default="", init=False)
    truth: Truth | None = field(default=None, init=False, repr=False)
    """What it sent, and how late it was; known once the block has ended."""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for name in self._faults():
            if name is not None and not (name in FAULTS and FAULTS[name].fits(self.dialect)):
                raise ValueError(
                    f"{self.dialect.name} has no fault {name!r}; FAULTS lists what there is"
                )
        if "refuse" in self._faults() and self.fault != "refuse":
            raise ValueError("'refuse' is no single request's: give it as the only fault")

    def _faults(self) -> list[str | None]:
        if isinstance(self.fault, str):
            return [self.fault]
        return list(self.fault or ())

    def __enter__(self) -> Self:
        options = Options(
            dialect=self.dialect.name,
            first_ns=ns_from_s(self.script.first_token_s),
            gap_ns=ns_from_s(self.script.gap_s),
            scatter=self.script.scatter,
            timeline=[(ns_from_s(at_s), what) for at_s, what in self.script.timeline],
            faults=self._faults(),
            certificate=str(self.certificate) if self.certificate else None,
            core=self.core,
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "llmperf_core.testing.reference_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 -- both are pipes
        with suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.write(msgspec.json.encode(options) + b"\n")
            self._process.stdin.flush()
        port = self._process.stdout.readline()
        if not port:
            self.__exit__(None, None, None)
            raise StartError("the reference server", "it ended before it listened")
        self.url = f"{'https' if self.certificate else 'http'}://127.0.0.1:{int(port)}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        try:
            # The end of its input tells it to stop; then it says what it did.
            said, _ = self._process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            said = b""  # half of what it did is not to be read
        if said:
            self.truth = msgspec.json.decode(said, type=Truth)
        self._process = None
