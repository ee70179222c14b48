"""What is asked of a simulated server, what it says of each request, and what leaves it."""

from typing import Literal, TypeAlias

from attrs import define, field, frozen
from attrs.validators import gt

FinishReason: TypeAlias = Literal["length", "eos_token", "cancelled"]
"""Why a request ended: its limit, the end of its sequence, or a client that had gone."""


@frozen(kw_only=True)
class Ask:
    """One request, as the scheduler sees it.

    Raises:
        ValueError: a count is not positive.
    """

    input_tokens: int = field(validator=gt(0))
    max_new_tokens: int = field(validator=gt(0))
    prefix: tuple[int, ...] = ()
    """One number for each whole KV block of the prompt, in order; prompts share cached blocks as
    far as their numbers are equal."""
    seed: int = 0
    """Decides, with the scheduler's seed, where the answer ends by itself."""
    ignore_eos: bool = False
    """Go on to the limit. No HTTP client can ask this of TGI."""


@define(kw_only=True, eq=False)
class Ticket:
    """One admitted request and what became of it. The scheduler alone writes it."""

    id: int
    """Ordinal among the admitted, from 0."""
    ask: Ask
    queued_at_ns: int
    started_at_ns: int | None = None
    """When it was put into a batch, before its prefill; None while it is queued."""
    first_token_at_ns: int | None = None
    ended_at_ns: int | None = None
    generated: int = 0
    """Tokens that have left."""
    cached_tokens: int = 0
    """Prompt tokens that came from the prefix cache."""
    finish_reason: FinishReason | None = None
    """None while it is queued or running."""

    @property
    def queue_ns(self) -> int | None:
        """TGI's queue time: put into a batch − queued. None while it is queued."""
        return None if self.started_at_ns is None else self.started_at_ns - self.queued_at_ns

    @property
    def inference_ns(self) -> int | None:
        """TGI's inference time: ended − put into a batch. None until it has ended."""
        if self.started_at_ns is None or self.ended_at_ns is None:
            return None
        return self.ended_at_ns - self.started_at_ns

    @property
    def time_per_token_ns(self) -> int | None:
        """TGI's time per token: inference time ÷ generated tokens, prefill included."""
        inference_ns = self.inference_ns
        return inference_ns // self.generated if inference_ns and self.generated else None


@define(eq=False)
class Emission:
    """Tokens of one request that leave the server at one instant."""

    # Not frozen: that would triple the cost of making one, and each token has one.
    ticket: Ticket
    at_ns: int
    tokens: int
    """More than one where speculation guessed right: events that leave back to back."""
    finish_reason: FinishReason | None
    """None until the last."""


@frozen(kw_only=True)
class Gauges:
    """How a scheduler stands, as TGI's `/metrics` says it."""

    queue_size: int
    batch_size: int
    """Requests in the batch."""
    batch_tokens: int
    """KV tokens that they hold, in whole blocks."""
    cached_tokens: int
    """KV tokens that the prefix cache holds, with those that the batch runs on."""
    in_flight: int
    """Requests queued or running, or with tokens still to be written."""
