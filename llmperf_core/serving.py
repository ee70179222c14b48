"""What a server is asked to serve, and within which limits: the same words for every engine."""

from attrs import field, frozen
from attrs.validators import and_, ge, gt, instance_of, le, matches_re, optional

_positive = optional(and_(instance_of(int), gt(0)))
# A word of a command line that cannot be taken for a flag.
_word = optional(and_(instance_of(str), matches_re(r"[^-\s]\S*")))


@frozen
class ServerSpec:
    """A model, and how a server shall serve it. None leaves a thing to the engine.

    Args:
        model: the model's id on the Hugging Face Hub, or the path of its folder or `.gguf` file.
        revision: branch, tag or commit of the model.
        quantize: `gptq`, `awq`, `bitsandbytes`, `fp8`, or what else the engine knows; for
            llama.cpp the part of the model's repository, such as `Q4_K_M`.
        dtype: such as `float16` or `bfloat16`.
        shards: GPUs that share the model; None takes one for each GPU that is named, else one.
        max_input_tokens: the longest prompt.
        max_total_tokens: the most tokens of one request, prompt and answer together.
        max_batch_prefill_tokens: the most prompt tokens that are computed at once.
        max_concurrent_requests: for TGI those that it takes in, further ones are refused; for the
            others those that are computed at once, further ones wait.
        memory_fraction: of a GPU's memory that the server may take, at most 1.
        speculate: tokens guessed ahead from n-grams.
        arguments: further words of the server's command line. They are shown: no secrets here.

    Raises:
        ValueError: a field is out of its range.
    """

    model: str = field(validator=and_(instance_of(str), matches_re(r"[^-\s][^\n]*")))
    revision: str | None = field(default=None, validator=_word, kw_only=True)
    quantize: str | None = field(default=None, validator=_word, kw_only=True)
    dtype: str | None = field(default=None, validator=_word, kw_only=True)
    shards: int | None = field(default=None, validator=_positive, kw_only=True)
    max_input_tokens: int | None = field(default=None, validator=_positive, kw_only=True)
    max_total_tokens: int | None = field(default=None, validator=_positive, kw_only=True)
    max_batch_prefill_tokens: int | None = field(default=None, validator=_positive, kw_only=True)
    max_concurrent_requests: int | None = field(default=None, validator=_positive, kw_only=True)
    memory_fraction: float | None = field(
        default=None, validator=optional(and_(gt(0), le(1))), kw_only=True
    )
    speculate: int | None = field(
        default=None, validator=optional(and_(instance_of(int), ge(0))), kw_only=True
    )
    arguments: tuple[str, ...] = field(default=(), validator=instance_of(tuple), kw_only=True)

    def __attrs_post_init__(self) -> None:
        most, longest = self.max_total_tokens, self.max_input_tokens
        if most is not None and longest is not None and longest >= most:
            raise ValueError(
                f"max_input_tokens ({longest}) leaves no room for an answer within "
                f"max_total_tokens ({most})"
            )
