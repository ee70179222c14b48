"""The fake's clock, which may run faster than real time."""

import time

import anyio
from attrs import define, field


@define(eq=False)
class Clock:
    """A clock that began at the real time and goes `speed` times as fast, until it is stopped.

    So what was created some time ago may have been created in the future.
    """

    speed: float
    _began_at_s: float = field(factory=time.time, init=False)
    _zero_s: float = field(factory=time.monotonic, init=False)
    _stopped_at_s: float | None = field(default=None, init=False)

    def now_s(self) -> float:
        """Return the fake's time, in seconds since 1970."""
        if self._stopped_at_s is not None:
            return self._stopped_at_s
        return self._began_at_s + (time.monotonic() - self._zero_s) * self.speed

    def stop(self) -> None:
        """Show the same from now on."""
        self._stopped_at_s = self.now_s()

    async def sleep_until(self, at_s: float) -> None:
        """Wait until the fake's clock shows this."""
        await anyio.sleep(max(0.0, at_s - self.now_s()) / self.speed)
