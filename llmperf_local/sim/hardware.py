"""How fast a simulated server computes."""

import math
from random import Random

from attrs import evolve, field, frozen
from attrs.validators import ge, gt

from llmperf_core.units import NS_PER_S


@frozen(kw_only=True)
class Hardware:
    """The time that one forward pass of a model takes on one machine, as a linear function.

    Raises:
        ValueError: a figure is out of its range.
    """

    prefill_tokens_per_s: float = field(validator=gt(0))
    """Prompt tokens that a pass takes in per second, once it has begun."""
    prefill_base_ns: float = field(default=0.0, validator=ge(0))
    """What a pass over prompts alone takes beside."""
    decode_base_ns: float = field(validator=gt(0))
    """What a decode step takes whatever is in it: reading the weights, launching the kernels."""
    decode_per_sequence_ns: float = field(default=0.0, validator=ge(0))
    """What each sequence of the batch adds to a step."""
    decode_per_context_token_ns: float = field(default=0.0, validator=ge(0))
    """What each token that the sequences have in the KV cache adds to a step."""
    tuning_ns_per_token: float = field(default=0.0, validator=ge(0))
    """What the first pass of each size adds for each of its tokens, sizes being taken to the
    nearest power of two: kernels that are tuned when they are first needed, as Triton's are."""
    kv_tokens: int = field(validator=gt(0))
    """Tokens that the KV cache holds."""
    emit_ns: int = field(default=8_000, validator=ge(0))
    """The router's time to write one event: the tokens of one step leave this far apart."""
    jitter: float = field(default=0.0, validator=ge(0))
    """Coefficient of variation of the time of a step; 0 makes every step exact."""

    def prefill_ns(self, tokens: int) -> int:
        """Return the time of a pass over `tokens` of prompts and nothing else."""
        return round(self.prefill_base_ns + tokens * NS_PER_S / self.prefill_tokens_per_s)

    def decode_ns(self, sequences: int, context_tokens: int, *, chunk_tokens: int = 0) -> int:
        """Return the time of a step in which each of the sequences gets a token.

        Args:
            sequences: how many get one.
            context_tokens: what they have in the KV cache, together.
            chunk_tokens: prompt tokens that the same pass takes in beside them (chunked prefill).
        """
        return round(
            self.decode_base_ns
            + sequences * self.decode_per_sequence_ns
            + context_tokens * self.decode_per_context_token_ns
            + chunk_tokens * NS_PER_S / self.prefill_tokens_per_s
        )

    @staticmethod
    def tuned_size(tokens: int) -> int:
        """Return the size for which a pass over so many tokens has its kernels tuned.

        Source: text-generation-inference 1.0.3, `utils/gptq/custom_autotune.py`.
        """
        return int(2 ** int(math.log2(tokens) + 0.5))

    def with_jitter(self, lasts_ns: int, rng: Random) -> int:
        """Return the time that a pass really takes: log-normal, `lasts_ns` in the mean."""
        if not self.jitter:
            return lasts_ns
        variance = math.log1p(self.jitter**2)
        return round(lasts_ns * rng.lognormvariate(-variance / 2, math.sqrt(variance)))

    def scaled(self, *, prefill: float = 1.0, decode: float = 1.0) -> "Hardware":
        """Return the same machine with its times multiplied: `decode=1.05` decodes 5 % slower."""
        return evolve(
            self,
            prefill_tokens_per_s=self.prefill_tokens_per_s / prefill,
            prefill_base_ns=self.prefill_base_ns * prefill,
            decode_base_ns=self.decode_base_ns * decode,
            decode_per_sequence_ns=self.decode_per_sequence_ns * decode,
            decode_per_context_token_ns=self.decode_per_context_token_ns * decode,
        )
