"""A fake SageMaker in a process of its own, for what is to be measured through it."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import cloudpickle
import msgspec
from attrs import define, field, fields

from llmperf_core.errors import StartError
from llmperf_sagemaker.testing.door import Call
from llmperf_sagemaker.testing.fake import FakeSageMaker

T = TypeVar("T")

_PATIENCE_S = 10.0


@define
class SeparateFake:
    """A `FakeSageMaker` that runs in another process, for the length of a `with` block.

    Nothing that this process does holds it up: a thread waits for the interpreter up to 5 ms each
    time that another one computes. It ends with this process, however that dies.

    Args:
        fake: what is to run. It is not entered here; its `serve` goes to the other process by
            cloudpickle.

    Raises:
        StartError: it did not come up.
    """

    _fake: FakeSageMaker
    _process: "subprocess.Popen[bytes]" = field(init=False, repr=False)

    def __enter__(self) -> Self:
        how = {
            one.alias: getattr(self._fake, one.name) for one in fields(FakeSageMaker) if one.init
        }
        message = cloudpickle.dumps((sys.path, cloudpickle.dumps(how)))
        self._process = subprocess.Popen(
            # -P: a user's `queue.py` in the working directory is none of its business.
            [sys.executable, "-P", "-m", "llmperf_sagemaker.testing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A terminal's Ctrl-C goes to its whole group; the fake goes on until this ends.
            start_new_session=True,
        )
        try:
            self._fake.url = self._ask(b"%d\n%b" % (len(message), message), str)
        except (OSError, msgspec.DecodeError):
            self.__exit__(None, None, None)
            raise StartError("the fake SageMaker", "it ended before it listened") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._fake.url = ""
        try:
            self._process.communicate(timeout=_PATIENCE_S)  # the end of its input ends it
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._fake.url

    @property
    def usd(self) -> float:
        """What its endpoints have cost so far."""
        return self._ask(b"usd\n", float)

    @property
    def usd_per_h(self) -> float:
        """What its endpoints cost now."""
        return self._ask(b"usd_per_h\n", float)

    @property
    def calls(self) -> Sequence[Call]:
        """The calls of the control plane and of quotas and prices, in order, refused ones too."""
        return [Call(**one) for one in self._ask(b"calls\n", list[dict[str, Any]])]

    def holds(self) -> Mapping[str, Sequence[str]]:
        """Return the names of all that exists, by its kind; a kind without any is not there."""
        return self._ask(b"holds\n", dict[str, list[str]])

    def environment(self, *, elsewhere: str | None = None) -> Mapping[str, str]:
        """Return the variables that make boto3 talk to it, as `FakeSageMaker.environment` does."""
        return self._fake.environment(elsewhere=elsewhere)

    def _ask(self, question: bytes, kind: type[T]) -> T:
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 -- both are pipes
        self._process.stdin.write(question)
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=kind)
