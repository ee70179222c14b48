"""The truth about what was played: when the model planned each token, and when it left."""

from array import array
from collections import deque

import msgspec
from attrs import define, field

KEPT = 20_000
"""Requests that are remembered; of more, the latest."""


class Played(msgspec.Struct, frozen=True):
    """What happened to one prompt. Instants are on the machine's monotonic clock."""

    prompt: str
    route: str
    planned_at_ns: list[int]
    """When the model let each token go."""
    sent_at_ns: list[int]
    """For each token of a stream, just before it was handed to the kernel; else once, for all."""
    finish_reason: str | None
    """None while it runs."""


class Record(msgspec.Struct, frozen=True):
    """What `/llmperf/record` gives."""

    requests: list[Played]
    """In the order in which they came."""
    forgotten: int
    """Requests before those, that are not kept."""


def _instants() -> "array[int]":
    return array("q")


@define(eq=False)
class Log:
    """One prompt, while it is played."""

    prompt: str
    route: str
    planned_at_ns: "array[int]" = field(factory=_instants)
    sent_at_ns: "array[int]" = field(factory=_instants)
    finish_reason: str | None = None


@define(eq=False)
class Logs:
    """Those of the latest requests."""

    kept: deque[Log] = field(factory=lambda: deque[Log](maxlen=KEPT))
    opened: int = 0

    def open(self, prompt: str, route: str) -> Log:
        """Return a new one."""
        log = Log(prompt, route)
        self.kept.append(log)
        self.opened += 1
        return log

    @property
    def record(self) -> Record:
        """All that is kept."""
        return Record(
            [
                Played(
                    log.prompt,
                    log.route,
                    log.planned_at_ns.tolist(),
                    log.sent_at_ns.tolist(),
                    log.finish_reason,
                )
                for log in self.kept
            ],
            self.opened - len(self.kept),
        )
