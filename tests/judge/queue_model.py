"""A seeded model of a server that batches: quick, and with what makes comparing hard.

Requests in flight share each step; a request that joins makes all of them wait for its prefill; the
speed wanders slowly; answers differ in length. So neighbours resemble each other, as on a server.
"""

from collections import deque

import numpy as np
from attrs import frozen

from llmperf_core.timeline import Completed, Timeline, TokenCount, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S, ns_from_ms, ns_from_s

WARMUP_S = 5


@frozen(kw_only=True)
class Model:
    """How the server behaves, and what it is loaded with."""

    slots: int = 8
    """Requests in flight in a closed loop; the largest batch in an open one."""
    rate_rps: float | None = None
    """Poisson arrivals; None for a closed loop."""
    step_ms: float = 20.0
    """A decode step of one request; each more adds 2 %."""
    prefill_ms: float = 30.0
    wander: float = 0.02
    """How far the speed strays, as a share; it remembers about 20 steps."""
    tokens: float = 40.0
    """The mean length of an answer."""

    def run(self, seed: int, *, duration_s: float = 60.0) -> tuple[list[Timeline], Window]:
        """Return all requests, and the window after a warm-up."""
        window = Window(
            open_at_ns=ns_from_s(WARMUP_S), close_at_ns=ns_from_s(WARMUP_S + duration_s)
        )
        return _Run(self, seed, window.close_at_ns).timelines(), window


class _Run:
    def __init__(self, model: Model, seed: int, close_at_ns: int) -> None:
        self.model, self.close_at_ns = model, close_at_ns
        self.rng = np.random.default_rng(seed)
        self.waiting: deque[int] = deque()
        """When each request that waits was sent."""
        self.active: list[tuple[int, int, list[int]]] = []
        """Of each request in the batch: when it was sent, its length, its tokens' instants."""
        self.ended: list[Timeline] = []
        self.arrivals = self._arrivals()

    def _arrivals(self) -> deque[int]:
        if self.model.rate_rps is None:
            return deque(range(self.model.slots))
        gaps = self.rng.exponential(1 / self.model.rate_rps, size=int(self.model.rate_rps * 200))
        return deque((np.cumsum(gaps) * NS_PER_S).astype(np.int64).tolist())

    def timelines(self) -> list[Timeline]:
        now_ns, strayed = 0, 0.0
        while now_ns < self.close_at_ns or self.active or self.waiting:
            while self.arrivals and self.arrivals[0] <= now_ns < self.close_at_ns:
                self.waiting.append(self.arrivals.popleft())
            strayed = 0.95 * strayed + self.rng.normal(0, self.model.wander * 0.31)
            joined = self._join()
            if not self.active:
                now_ns = self.arrivals[0] if self.arrivals else self.close_at_ns
                continue
            step_ms = self.model.step_ms * (1 + 0.02 * (len(self.active) - 1))
            now_ns += ns_from_ms(step_ms * (1 + strayed) + joined * self.model.prefill_ms)
            self._step(now_ns)
        return self.ended

    def _join(self) -> int:
        joined = 0
        while self.waiting and len(self.active) < self.model.slots:
            length = 1 + int(self.rng.gamma(4, self.model.tokens / 4))
            self.active.append((self.waiting.popleft(), length, []))
            joined += 1
        return joined

    def _step(self, now_ns: int) -> None:
        for sent_at_ns, length, token_at_ns in self.active:
            token_at_ns.append(now_ns)
            if len(token_at_ns) == length:
                self.ended.append(self._timeline(sent_at_ns, token_at_ns))
                if self.model.rate_rps is None and now_ns < self.close_at_ns:
                    self.waiting.append(now_ns + NS_PER_MS)
        self.active = [one for one in self.active if len(one[2]) < one[1]]

    def _timeline(self, sent_at_ns: int, token_at_ns: list[int]) -> Timeline:
        return Timeline(
            index=len(self.ended),
            due_at_ns=None if self.model.rate_rps is None else sent_at_ns,
            sent_at_ns=sent_at_ns,
            token_at_ns=token_at_ns,
            read_lag_ns=[20_000] * len(token_at_ns),
            ended_at_ns=token_at_ns[-1],
            outcome=Completed("stop"),
            tokens=TokenCount(output=len(token_at_ns), counted_by="usage"),
            stamps="kernel",
        )
