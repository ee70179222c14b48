"""What a container on SageMaker has written, as CloudWatch keeps it."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

from llmperf_core.errors import UnreachableError
from llmperf_core.signs import plain
from llmperf_sagemaker.account import Account, AwsError, explained

_PAGE = 1000
_NO_LOG_YET = "ResourceNotFoundException"


@define
class Log:
    """One log group, read on. Blocks."""

    _client: Any
    group: str
    _from_ms: int = 0
    _seen: set[str] = field(factory=set)
    _refused: bool = False

    @classmethod
    def of(cls, account: Account, group: str) -> "Log":
        """Return a log of an account."""
        return cls(account.client("logs"), group)

    def new_lines(self) -> Sequence[str]:
        """Return the lines since the last time, without colours and times; none if there is no log.

        Where the log cannot be read, that is told once in place of it: it is good to have, and no
        reason to give up.
        """
        lines: list[str] = []
        try:
            if not self._refused:
                with explained("FilterLogEvents"):
                    self._read(lines)
        except (AwsError, UnreachableError) as error:
            if isinstance(error, AwsError) and error.code == _NO_LOG_YET:
                return lines
            self._refused = True
            lines.append(f"(its log cannot be read: {error})")
        return lines

    def _read(self, lines: list[str]) -> None:
        asked: dict[str, Any] = {
            "logGroupName": self.group,
            "startTime": self._from_ms,
            "limit": _PAGE,
        }
        while True:
            said: Mapping[str, Any] = self._client.filter_log_events(**asked)
            for event in said["events"]:
                self._take(event, lines)
            if not said.get("nextToken"):
                return
            asked["nextToken"] = said["nextToken"]

    def _take(self, event: Mapping[str, Any], lines: list[str]) -> None:
        """Take a line, unless it came with an earlier reading: those of the same millisecond do."""
        if event["eventId"] in self._seen:
            return
        if event["timestamp"] > self._from_ms:
            self._from_ms = event["timestamp"]
            self._seen.clear()
        self._seen.add(event["eventId"])
        if words := plain(event["message"].rstrip()):
            lines.append(words)
