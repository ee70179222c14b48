"""One prompt, asked again and again."""

from collections.abc import Iterator, Mapping
from itertools import repeat

from attrs import Factory, asdict, evolve, field, frozen

from llmperf_core.target import Json, Prompt
from llmperf_core.workload.salt import salts


@frozen
class Fixed:
    """The same prompt for each request, after a few characters that make it new to a cache.

    Args:
        text: what is asked.
        max_new_tokens: the limit on the answer.
        parameters: further generation parameters, under the protocol's own names.
        unique: begin each prompt with a salt of 14 characters. Without it a server with a prefix
            cache answers the second request from there, and the verdict says so.

    Raises:
        ValueError: the text is empty, or `max_new_tokens` is not positive.
    """

    text: str
    max_new_tokens: int = 64
    parameters: Mapping[str, Json] = Factory(dict)
    unique: bool = field(default=True, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._prompt()

    def _prompt(self) -> Prompt:
        return Prompt(
            text=self.text, max_new_tokens=self.max_new_tokens, parameters=self.parameters
        )

    def prompts(self, seed: int) -> Iterator[Prompt]:
        """Yield the prompt without end."""
        prompt = self._prompt()
        if not self.unique:
            return repeat(prompt)
        return (evolve(prompt, text=salt + self.text) for salt in salts(seed))

    def describe(self) -> Mapping[str, Json]:
        """Return the kind and the fields."""
        return {"kind": "fixed", **asdict(self)}
