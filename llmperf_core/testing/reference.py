"""A server with known truth: it streams tokens at planned instants, and says when each one left.

It speaks the dialect of TGI. It notes for each token the monotonic instant just before it was
handed to the kernel, so a client on the same machine knows how wrong its own stamps are: each event
holds it as `sent_ns`, and all are handed over when the server stops, with its own lateness. It is a
process of its own.
"""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from attrs import define, field, frozen

from llmperf_core.errors import StartError

_PATIENCE_S = 10.0


class SendError(msgspec.Struct, frozen=True):
    """How late the reference server was against its own plan."""

    events: int
    late_p50_us: float
    late_p99_us: float
    late_max_us: float


class Truth(msgspec.Struct, frozen=True):
    """What a reference server says of itself when it has stopped."""

    send_error: SendError
    sent_at_ns: dict[str, list[list[int]]]
    """For each prompt, and for each request that asked it in order: when its tokens left, on the
    monotonic clock."""


@frozen(kw_only=True)
class Script:
    """What the reference server plays for each request; the request's own limit ends it.

    Raises:
        ValueError: a field is negative.
    """

    first_token_s: float = 0.02
    gap_s: float = 0.02
    scatter: bool = False
    """Delay each answer by a random part of a gap, so that streams do not march in step."""


@define
class ReferenceServer:
    """A reference server in a process of its own, for the length of a `with` block.

    Args:
        script: when the tokens of each answer leave.
        certificate: a PEM file with the certificate and its key; with it the server speaks TLS.
        core: pin the server to this processor.

    Raises:
        StartError: it did not come up.
    """

    script: Script = Script()
    certificate: Path | None = None
    core: int | None = None
    url: str = field(default="", init=False)
    truth: Truth | None = field(default=None, init=False, repr=False)
    """What it sent, and how late it was; known once the block has ended."""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        options = {
            "first_token_s": self.script.first_token_s,
            "gap_s": self.script.gap_s,
            "scatter": self.script.scatter,
            "certificate": str(self.certificate) if self.certificate else None,
            "core": self.core,
        }
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
            said, _ = self._process.communicate()
        if said:
            self.truth = msgspec.json.decode(said, type=Truth)
        self._process = None
