"""Which TGI is spoken on the wire."""

from attrs import frozen


@frozen(kw_only=True)
class Dialect:
    """What changed between the versions of the protocol.

    Source: text-generation-inference, `router/src/` at v1.0.3 and v3.3.5.
    """

    version: str
    field: bytes
    """Begins each event: axum before 0.7 wrote no space."""
    indexed: bool
    """Events are numbered (1.4.0), the last one counts the input (2.3.0), and answers say how many
    tokens they have in headers (1.4.0)."""
    openai: bool
    """There are OpenAI's routes, `/tokenize`, and any shape of request on `/invocations`."""
    usual_new_tokens: int | None
    """What `max_new_tokens` is if it is not given; None is all that `max_total_tokens` leaves."""


DIALECTS: dict[str, Dialect] = {
    "3.3.5": Dialect(
        version="3.3.5", field=b"data: ", indexed=True, openai=True, usual_new_tokens=None
    ),
    "1.0.3": Dialect(
        version="1.0.3", field=b"data:", indexed=False, openai=False, usual_new_tokens=20
    ),
}
