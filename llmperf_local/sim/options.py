"""How a simulated server is set up: TGI's own options, and how its model answers."""

import math
from random import Random

from attrs import field, frozen
from attrs.validators import and_, ge, gt, lt, optional


@frozen(kw_only=True)
class Answers:
    """How long answers get, and how many tokens one step can bring.

    Raises:
        ValueError: a chance is below 0, or 1 and above.
    """

    eos_hazard: float = field(default=0.0, validator=and_(ge(0), lt(1)))
    """The chance of each token to be the end of the sequence; 0 never ends by itself."""
    acceptance: float = field(default=0.0, validator=and_(ge(0), lt(1)))
    """The chance of each speculated token to be accepted, given that those before it were."""

    def draw_length(self, rng: Random) -> float:
        """Return after how many tokens an answer ends by itself, that end included."""
        if not self.eos_hazard:
            return math.inf
        return 1 + math.floor(math.log(1 - rng.random()) / math.log1p(-self.eos_hazard))

    def draw_accepted(self, speculated: int, rng: Random) -> int:
        """Return how many of the speculated tokens are accepted."""
        accepted = 0
        while accepted < speculated and rng.random() < self.acceptance:
            accepted += 1
        return accepted


@frozen(kw_only=True)
class ServerOptions:
    """The options of TGI's launcher that its scheduler obeys; the defaults are those of 3.x.

    Raises:
        ValueError: an option is out of its range.
    """

    version: str = "3.3.5"
    """The version of TGI that is played. The scheduler goes by the other options alone."""
    max_concurrent_requests: int = field(default=128, validator=gt(0))
    """Requests queued and running; one more is refused as overloaded."""
    max_input_tokens: int = field(default=4095, validator=gt(0))
    """For who validates requests; the scheduler takes what it is given."""
    max_total_tokens: int = field(default=4096, validator=gt(0))
    """Prompt and answer of one request; for who validates requests."""
    max_batch_prefill_tokens: int = field(default=4096, validator=gt(0))
    """Prompt tokens that one pass takes in."""
    max_batch_total_tokens: int | None = field(default=None, validator=optional(gt(0)))
    """KV tokens of all running requests; None is all that the hardware has."""
    max_batch_size: int | None = field(default=None, validator=optional(gt(0)))
    prefill_chunking: bool = True
    """Take prompts in beside running decodes, as 3.0 and later do; else a prefill stalls them."""
    waiting_served_ratio: float = field(default=0.3, validator=ge(0))
    """Without chunking: stall the batch when as many wait as this ratio of its size, …"""
    max_waiting_tokens: int = field(default=20, validator=ge(0))
    """… or once this many steps have been decoded since the last prefill."""
    block_size: int = field(default=1, validator=gt(0))
    """Tokens of one KV block."""
    prefix_caching: bool = True
    """Keep the blocks of finished prompts for those that begin alike."""
    speculate: int = field(default=0, validator=ge(0))
    """Tokens that a step guesses ahead. Above 0, TGI does not chunk prefills."""
    answers: Answers = Answers()

    @property
    def chunked(self) -> bool:
        """Whether prompts are taken in beside running decodes."""
        return self.prefill_chunking and not self.speculate
