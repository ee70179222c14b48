"""The blocks of the KV cache, and the prefix cache in those of them that nobody runs on."""

from collections import OrderedDict
from collections.abc import Sequence

from attrs import define, field

Chain = tuple[int, ...]
"""One key for each whole block of a prompt; a key stands for its block and all before it."""


def chain_of(prefix: Sequence[int]) -> Chain:
    """Return the keys of a prompt's blocks: equal exactly as far as the prompts are equal."""
    keys, key = [], 0
    for block in prefix:
        key = hash((key, block))
        keys.append(key)
    return tuple(keys)


@define
class BlockPool:
    """A fixed number of blocks: held by running requests, cached, or free.

    A prompt's blocks are cached when its request has finished, so that equal prompts which run at
    the same time share nothing. Cached blocks that no request runs on are evicted when there is
    need, the longest unused first, and of a prompt the last first.

    Source: text-generation-inference, `backends/v3/src/radix.rs`.
    """

    blocks: int
    held: int = field(default=0, init=False)
    """Blocks that running requests have to themselves."""
    _pins: dict[int, int] = field(factory=dict, init=False)
    """Cached blocks that requests run on, and how many of them."""
    _idle: OrderedDict[int, None] = field(factory=OrderedDict, init=False)
    """The other cached blocks, the longest unused first; none comes after what it continues."""

    @property
    def cached(self) -> int:
        """Blocks of the prefix cache, whether somebody runs on them or not."""
        return len(self._pins) + len(self._idle)

    @property
    def in_use(self) -> int:
        """Blocks that cannot be had now: held, or cached with somebody running on them."""
        return self.held + len(self._pins)

    def reserve(self, blocks: int, chain: Chain) -> int | None:
        """Reserve blocks for a request, of which the cached beginning of its prompt is shared.

        Returns:
            How many of the blocks are shared; None if there are not enough of the others.
        """
        hits = 0
        for key in chain:
            if key not in self._pins and key not in self._idle:
                break
            hits += 1
        fresh = blocks - hits
        idle_hits = sum(key in self._idle for key in chain[:hits])
        if fresh + idle_hits > self.blocks - self.in_use:
            return None
        for key in chain[:hits]:
            self._idle.pop(key, None)
            self._pins[key] = self._pins.get(key, 0) + 1
        self.held += fresh
        while self.held + self.cached > self.blocks:
            self._idle.popitem(last=False)
        return hits

    def release(self, blocks: int, chain: Chain, hits: int, *, keep: bool) -> None:
        """Give back what `reserve` gave.

        Args:
            blocks: as they were reserved.
            chain: as it was given.
            hits: what `reserve` returned.
            keep: whether the prompt was computed, so that its blocks can be cached.
        """
        self.held -= blocks - hits
        # The last block first: so none is evicted before what continues it.
        for index in range(len(chain) - 1, -1, -1):
            key = chain[index]
            if index < hits:
                self._pins[key] -= 1
                if not self._pins[key]:
                    del self._pins[key]
                    self._idle[key] = None
            elif keep and key not in self._pins:
                self._idle[key] = None
                self._idle.move_to_end(key)
