"""What can go wrong with the harness. A request that fails is data (`Outcome`), never one of these.

    LLMPerfError
    ├── UsageError                  the caller asked for something that cannot be   (exit status 2)
    │   ├── TargetUrlError          the target is not one that a backend understands
    │   ├── MissingExtraError       an optional dependency is not installed
    │   ├── UnlikeRunsError         what is to be compared differs in what must be alike
    │   ├── StudyFileError          a file does not say a study
    │   ├── ImportFileError         a file of another tool is not what it is said to be
    │   └── BudgetError             it could cost more than was allowed
    ├── TargetError                 the target could not be brought up or reached   (exit status 3)
    │   ├── UnreachableError        nothing answers there
    │   ├── RefusedByServerError    it answers, but not to us: 401, 403, 404, 429, 5xx
    │   ├── ProtocolError           it answers, but speaks none of the protocols we know
    │   └── StartError              a server that we start did not come up
    ├── HarnessError                we could not measure or keep what was measured  (exit status 1)
    │   ├── MeasuringProcessError   the measuring process died
    │   └── StoredRunError          a run folder cannot be read or written
    └── DecodeError                 bytes that break their protocol; becomes a failed request

Every message says what happened, with which value, and what to do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar


class LLMPerfError(Exception):
    """Anything that llmperf raises on purpose."""

    exit_status: ClassVar[int] = 1


class UsageError(LLMPerfError):
    """The caller asked for something that cannot be."""

    exit_status = 2


class TargetUrlError(UsageError):
    """The target is not one that a registered backend understands."""

    url: str
    reason: str

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"target {url!r}: {reason}")
        self.url, self.reason = url, reason


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    extra: str
    module: str

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(
            f"this needs {module!r}, which is not installed; "
            f"run: pip install 'llmperf-toolkit[{extra}]'"
        )
        self.extra, self.module = extra, module


class UnlikeRunsError(UsageError):
    """What is to be compared differs in what must be alike."""

    differences: Mapping[str, tuple[str, str]]

    def __init__(self, differences: Mapping[str, tuple[str, str]]) -> None:
        said = "; ".join(f"{name} ({a} against {b})" for name, (a, b) in differences.items())
        super().__init__(
            f"these cannot be compared, as they differ in {said}; to compare them all the same, "
            f"allow it: --allow-differences {','.join(differences)}"
        )
        self.differences = differences


class ImportFileError(UsageError):
    """A file of another tool is not what it is said to be, or is damaged."""

    path: Path
    format: str
    reason: str

    def __init__(self, path: Path | str, format: str, reason: str) -> None:  # noqa: A002
        super().__init__(f"{str(path)!r} cannot be imported as {format}: {reason}")
        self.path, self.format, self.reason = Path(path), format, reason


class StudyFileError(UsageError):
    """A file does not say a study.

    Args:
        path: the file.
        where: the key in it, such as `targets[2].url`; empty for the file itself.
        reason: what is wrong there, and what was expected.
    """

    path: Path
    where: str
    reason: str

    def __init__(self, path: Path | str, where: str, reason: str) -> None:
        super().__init__(f"{path}: {where + ': ' if where else ''}{reason}")
        self.path, self.where, self.reason = Path(path), where, reason


class BudgetError(UsageError):
    """Bringing something up could cost more than was allowed, so nothing was brought up.

    Args:
        what: what was to be brought up.
        arithmetic: what it could cost at worst, and of what that is made.
        max_usd: what was allowed.
    """

    what: str
    arithmetic: str
    max_usd: float

    def __init__(self, what: str, arithmetic: str, max_usd: float) -> None:
        super().__init__(
            f"{what} could cost {arithmetic}, and {max_usd:.2f} USD are allowed; nothing was "
            "brought up: allow more, or measure for less long"
        )
        self.what, self.arithmetic, self.max_usd = what, arithmetic, max_usd


class TargetError(LLMPerfError):
    """The target could not be brought up or reached."""

    exit_status = 3


class UnreachableError(TargetError):
    """Nothing answers at the target's address."""

    url: str
    reason: str

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot reach {url}: {reason}; is the server up, and is the port right?")
        self.url, self.reason = url, reason


class RefusedByServerError(TargetError):
    """The server answers, but refuses to serve us."""

    url: str
    status: int
    advice: str

    def __init__(self, url: str, status: int, advice: str) -> None:
        super().__init__(f"{url} answered HTTP {status}; {advice}")
        self.url, self.status, self.advice = url, status, advice


class ProtocolError(TargetError):
    """The server answers, but speaks none of the protocols that we know."""

    url: str
    saw: str

    def __init__(self, url: str, saw: str) -> None:
        super().__init__(
            f"{url} speaks no protocol that llmperf knows ({saw}); if it does, "
            "name it with --protocol tgi, openai-chat or openai-completions"
        )
        self.url, self.saw = url, saw


class StartError(TargetError):
    """A server that llmperf starts did not come up."""

    what: str
    reason: str

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} did not start: {reason}; nothing is left running")
        self.what, self.reason = what, reason


class HarnessError(LLMPerfError):
    """We could not measure, or could not keep what was measured."""


class MeasuringProcessError(HarnessError):
    """The measuring process died before it had finished."""

    reason: str
    last_words: str

    def __init__(self, reason: str, last_words: str = "") -> None:
        words = f"; its last words: {last_words}" if last_words else ""
        super().__init__(
            f"the measuring process died ({reason}){words}; a run folder keeps what it had sent"
        )
        self.reason, self.last_words = reason, last_words


class StoredRunError(HarnessError):
    """A run folder cannot be read or written."""

    path: Path
    reason: str

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"run folder {str(path)!r}: {reason}")
        self.path, self.reason = Path(path), reason


class DecodeError(LLMPerfError):
    """Bytes that break their protocol. A request that meets it has failed; the run goes on."""

    failure: ClassVar[str] = "malformed"
    """The name that such a request is counted under."""


def leaf_of(error: BaseException) -> BaseException:
    """Return the first error in a group of them, or the error itself if it is none.

    Task groups wrap what their tasks raise; a user is told the error.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
