"""How the service answers over HTTP."""

import json
import uuid
from collections.abc import Mapping
from email.utils import formatdate

from llmperf_core.target import Json
from llmperf_core.testing.connection import Connection
from llmperf_sagemaker.testing.refusal import RefusedError


def respond(connection: Connection, status: int, body: bytes, headers: Mapping[str, Json]) -> None:
    """Answer a request whole."""
    connection.answer(status, {**signs_of_service(), **headers}, body)


def refuse_invocation(connection: Connection, refused: RefusedError) -> None:
    """Answer an invocation with an error: its name in a header, the rest in the body."""
    headers = {"content-type": "application/json", "x-amzn-errortype": refused.code}
    body = json.dumps({"Message": refused.message, **refused.more}).encode()
    respond(connection, refused.status, body, headers)


def signs_of_service() -> dict[str, Json]:
    """Return the headers that each answer has."""
    return {"x-amzn-requestid": str(uuid.uuid4()), "date": formatdate(usegmt=True)}
