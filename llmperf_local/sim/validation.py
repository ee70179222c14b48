"""What TGI checks of a request before it is queued, in TGI's order and words.

Source: text-generation-inference 3.3, `router/src/validation.rs`.
"""

import zlib
from collections.abc import Sequence

from attrs import field, frozen

from llmperf_local.sim.bodies import Parameters
from llmperf_local.sim.dialect import Dialect
from llmperf_local.sim.options import ServerOptions
from llmperf_local.sim.refusal import Refused
from llmperf_local.sim.requests import Ask
from llmperf_local.sim.text import BOS, WORDS, blocks_of, pieces_of, tokens_until_stop

MAX_STOPS = 4
MAX_BEST_OF = 1
"""TGI's `--max-best-of`, at its lowest: several answers to choose from are not simulated."""
MAX_TOP_N_TOKENS = 0
"""TGI's `--max-top-n-tokens`, likewise."""
_SEGMENT = 1024
"""The most tokens of an answer that TGI checks for room before it begins."""


@frozen(kw_only=True)
class Question:
    """One prompt, whatever route it came on."""

    inputs: str
    parameters: Parameters
    template: bool = False
    """A chat's: nothing is put before it."""
    streamed: bool = False
    cacheable: bool = True
    """Whether it may use the prefix cache. TGI computes a prompt anew when it reports on it."""

    @property
    def sampling(self) -> bool:
        """Whether tokens are drawn; else they are the likeliest."""
        asked = self.parameters
        warpers = (asked.temperature, asked.top_k, asked.top_p, asked.typical_p)
        return asked.do_sample or any(warper is not None for warper in warpers)


@frozen(kw_only=True)
class Ready:
    """A question that was found good, with all that its answer depends on."""

    question: Question
    ask: Ask
    seed: int | None
    """What the answer reports: None if it is greedy."""
    first_word: int
    ends_with_stop: bool
    """Whether the limit of `ask` is where a stop sequence is complete."""
    pieces: Sequence[str] = field(repr=False)


@frozen(kw_only=True)
class Validator:
    """One server's rules."""

    options: ServerOptions
    dialect: Dialect

    def check(self, question: Question, *, ordinal: int) -> Ready:
        """Return the question ready to be asked.

        Args:
            question: what came.
            ordinal: of the request; a sampled answer without a seed takes it for one.

        Raises:
            Refused: a rule is broken; the first one, in TGI's order.
        """
        asked = question.parameters
        _check_counts_of_answers(question)
        _check_sampling(asked)
        if asked.max_new_tokens == 0:
            raise Refused("`max_new_tokens` must be strictly positive")
        _check_stops_and_seed(asked)
        if not question.inputs:
            raise Refused("`inputs` cannot be empty")
        pieces = self._pieces(question)
        new_tokens = self._room(len(pieces), asked.max_new_tokens)
        if asked.grammar is not None:
            raise Refused("grammar is not supported")
        return self._ready(question, pieces, new_tokens, ordinal)

    def _pieces(self, question: Question) -> list[str]:
        truncate, most = question.parameters.truncate, self.options.max_input_tokens
        if truncate is not None and not 0 < truncate <= most:
            raise Refused(
                f"`truncate` must be strictly positive and less than {most}. Given: {truncate}"
            )
        pieces = pieces_of(question.inputs)
        if not question.template:
            pieces.insert(0, BOS)
        return pieces[-truncate:] if truncate else pieces

    def _room(self, inputs: int, wanted: int | None) -> int:
        """Return how long the answer may get."""
        options = self.options
        left = max(1, options.max_total_tokens - inputs)
        new_tokens = wanted or self.dialect.usual_new_tokens or left
        total = inputs + min(new_tokens, _SEGMENT)
        if total > options.max_total_tokens and (wanted or self.dialect.usual_new_tokens):
            raise Refused(
                f"`inputs` tokens + `max_new_tokens` must be <= {options.max_total_tokens}. "
                f"Given: {inputs} `inputs` tokens and {min(new_tokens, _SEGMENT)} `max_new_tokens`"
            )
        if inputs > options.max_input_tokens:
            raise Refused(
                f"`inputs` must have less than {options.max_input_tokens} tokens. Given: {inputs}"
            )
        return min(new_tokens, left)

    def _ready(self, question: Question, pieces: list[str], new_tokens: int, ordinal: int) -> Ready:
        asked, options = question.parameters, self.options
        # Greedy decoding gives one answer to one prompt; sampling another each time.
        seed = ordinal if question.sampling else zlib.crc32(question.inputs.encode())
        seed = seed if asked.seed is None else asked.seed
        first_word = seed % len(WORDS)
        stop = tokens_until_stop(first_word, new_tokens, asked.stop) if asked.stop else None
        caching = options.prefix_caching and question.cacheable
        return Ready(
            question=question,
            ask=Ask(
                input_tokens=len(pieces),
                max_new_tokens=new_tokens if stop is None else stop,
                prefix=blocks_of(pieces, options.block_size) if caching else (),
                seed=seed,
            ),
            seed=seed if question.sampling else None,
            first_word=first_word,
            ends_with_stop=stop is not None,
            pieces=pieces,
        )


def _check_counts_of_answers(question: Question) -> None:
    best_of = question.parameters.best_of
    if question.streamed and best_of not in (None, 1):
        raise Refused("`best_of` != 1 is not supported when streaming tokens")
    if question.streamed and question.parameters.decoder_input_details:
        raise Refused("`decoder_input_details` == true is not supported when streaming tokens")
    if best_of not in (None, MAX_BEST_OF):
        raise Refused("`best_of` != 1 is not allowed for this endpoint")


def _check_sampling(asked: Parameters) -> None:
    for name in ("temperature", "repetition_penalty"):
        value = getattr(asked, name)
        if value is not None and value <= 0:
            raise Refused(f"`{name}` must be strictly positive")
    if asked.frequency_penalty is not None and not -2 <= asked.frequency_penalty <= 2:
        raise Refused("`frequency_penalty` must be >= -2.0 and <= 2.0")
    for name in ("top_p", "typical_p"):
        value = getattr(asked, name)
        if value is not None and not 0 < value < 1:
            raise Refused(f"`{name}` must be > 0.0 and < 1.0")
    if asked.top_k is not None and asked.top_k <= 0:
        raise Refused("`top_k` must be strictly positive")


def _check_stops_and_seed(asked: Parameters) -> None:
    if len(asked.stop) > MAX_STOPS:
        raise Refused(f"`stop` supports up to {MAX_STOPS} stop sequences. Given: {len(asked.stop)}")
    if asked.top_n_tokens and asked.top_n_tokens > MAX_TOP_N_TOKENS:
        raise Refused(
            f"`top_n_tokens` must be >= 0 and <= {MAX_TOP_N_TOKENS}. Given: {asked.top_n_tokens}"
        )
