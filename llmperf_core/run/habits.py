"""What can be said of a stage's prompts before anything is measured."""

from llmperf_core.target import Careful, Codec, Prompt


class Habits:
    """Looks at each prompt before it is sent: repeats, what is meant to be cached, and caveats."""

    def __init__(self, codec: Codec) -> None:
        self.repeated: int = 0
        self.reuse_meant: bool = False
        self._careful = codec if isinstance(codec, Careful) else None
        self._seen: set[int] = set()
        self._caveats: dict[str, None] = {}

    def look_at(self, prompt: Prompt) -> None:
        """Take the next prompt.

        Raises:
            UsageError: the server would refuse it.
        """
        fingerprint = hash((prompt.text, prompt.history))
        self.repeated += fingerprint in self._seen
        self._seen.add(fingerprint)
        self.reuse_meant = self.reuse_meant or prompt.reuse
        if self._careful is not None:
            self._caveats.update(dict.fromkeys(self._careful.caveats(prompt)))

    @property
    def caveats(self) -> tuple[str, ...]:
        """What the server ignores or changes of the prompts so far, each said once."""
        return tuple(self._caveats)
