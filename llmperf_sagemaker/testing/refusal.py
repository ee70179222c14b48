"""A call that the service refuses."""

from collections.abc import Mapping
from typing import Self

from llmperf_core.target import Json


class RefusedError(Exception):
    """What a caller is told instead of an answer.

    Args:
        code: the error's name, such as `ValidationException`.
        message: in the service's words.
        status: the HTTP status.
        more: what else its body says.
    """

    code: str
    message: str
    status: int
    more: Mapping[str, Json]

    def __init__(
        self, code: str, message: str, *, status: int = 400, more: Mapping[str, Json] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.more = code, message, status, more or {}

    @classmethod
    def invalid(cls, message: str) -> Self:
        """Return what the control plane says to nearly anything it does not like."""
        return cls("ValidationException", message)
