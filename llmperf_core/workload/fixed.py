"""One prompt, asked again and again."""

from collections.abc import Iterator, Mapping
from itertools import repeat

from attrs import Factory, asdict, frozen

from llmperf_core.target import Json, Prompt


@frozen
class Fixed:
    """The same prompt for each request.

    A server with a prefix cache answers the second request from it, so this measures the cache
    unless the server has none; `Synthetic` does not.

    Raises:
        ValueError: the text is empty, or `max_new_tokens` is not positive.
    """

    text: str
    max_new_tokens: int = 64
    parameters: Mapping[str, Json] = Factory(dict)

    def __attrs_post_init__(self) -> None:
        self._prompt()

    def _prompt(self) -> Prompt:
        return Prompt(
            text=self.text, max_new_tokens=self.max_new_tokens, parameters=self.parameters
        )

    def prompts(self, seed: int) -> Iterator[Prompt]:  # noqa: ARG002 -- nothing is random here
        """Yield the prompt without end."""
        return repeat(self._prompt())

    def describe(self) -> Mapping[str, Json]:
        """Return the kind and the fields."""
        return {"kind": "fixed", **asdict(self)}
