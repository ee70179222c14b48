"""What TGI says of a request that it does not serve."""

from typing import Literal, TypeAlias

ErrorType: TypeAlias = Literal[
    "overloaded",
    "validation",
    "tool_error",
    "suffix not supported",
    "batch size exceeded",
]

OVERLOADED = "Model is overloaded"


class Refused(Exception):  # noqa: N818 -- it is data on its way to the client
    """A request that is answered with an error."""

    message: str
    error_type: ErrorType

    def __init__(self, message: str, error_type: ErrorType = "validation") -> None:
        if error_type == "validation":
            message = f"Input validation error: {message}"
        super().__init__(message)
        self.message, self.error_type = message, error_type

    @property
    def status(self) -> int:
        """The HTTP status, on routes that have not yet sent one."""
        return 429 if self.error_type == "overloaded" else 422


class BadBody(Exception):  # noqa: N818 -- likewise
    """A body that cannot be read: axum answers in plain text, before TGI sees the request."""

    status: int
    text: str

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text
