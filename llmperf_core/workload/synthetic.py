"""Prompts of random common words."""

from collections.abc import Iterator, Mapping

import numpy as np
from attrs import Factory, asdict, field, frozen
from attrs.validators import gt

from llmperf_core.target import Json, Prompt

# Short, common English words: byte-pair vocabularies trained on English have each as one token
# with its leading space, so a word is close to a token. The count that is reported is the
# server's own; this only aims.
_COMMON_WORDS = """
time year people way day man thing woman life child world school state family student group
country problem hand part place case week company system program question work number night
point home water room mother area money story fact month lot right study book eye job word
business issue side kind head house service friend father power hour game line end member
law car city community name president team minute idea body information back parent face
level office door health person art war history party result change morning reason research
girl guy moment air teacher force education
"""
_WORDS = _COMMON_WORDS.split()
_INSTRUCTION = "Continue this text at length:"


@frozen
class Synthetic:
    """Prompts of about `input_tokens` random words that differ from their first word on.

    So no prefix cache helps, and with 16 tokens and more no two prompts of a run are alike.

    Args:
        input_tokens: the length to aim at. A word is taken as a token, which is an approximation:
            what the server counted is in the result.
        output_tokens: the limit on the answer. The server may end before it.
        parameters: further generation parameters, under the protocol's own names.

    Raises:
        ValueError: a length is not positive.
    """

    input_tokens: int = field(default=64, validator=gt(0))
    output_tokens: int = field(default=64, validator=gt(0))
    parameters: Mapping[str, Json] = Factory(dict)

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield prompts that differ from their first word on."""
        rng = np.random.default_rng(seed)
        words = max(1, self.input_tokens - len(_INSTRUCTION.split()))
        while True:
            drawn = rng.integers(len(_WORDS), size=words)
            text = " ".join(_WORDS[i] for i in drawn)
            # The instruction comes last: a shared beginning would be served from a prefix cache.
            yield Prompt(
                text=f"{text}. {_INSTRUCTION}",
                max_new_tokens=self.output_tokens,
                parameters=self.parameters,
            )

    def describe(self) -> Mapping[str, Json]:
        """Return the kind and the fields."""
        return {"kind": "synthetic", **asdict(self)}
