"""A model's stream as SageMaker wraps it, and as it breaks if that is planted."""

import json
from collections.abc import Iterator
from random import Random
from typing import Literal, TypeAlias, assert_never

from attrs import define, field

from llmperf_core.testing.event_stream import exception, payload_part
from llmperf_sagemaker.testing.planted import BrokenStream

After: TypeAlias = Literal["go on", "end", "close"]
"""What becomes of the response: `end` ends its body properly, `close` does not."""

_CUTS = 3


@define(eq=False)
class Parts:
    """Turns what is read of one stream into messages.

    Args:
        fault: how it breaks, if it does.
        random: cuts each read at random places; None cuts nowhere.
    """

    _fault: BrokenStream | None
    _random: Random | None
    _sent: int = field(default=0, init=False)

    def wrap(self, data: bytes) -> tuple[bytes, After]:
        """Return the messages for one read, and what then becomes of the response."""
        messages = bytearray()
        for piece in self._pieces(data):
            if self._fault is not None and self._sent == self._fault.after_parts:
                broken, after = _broken(self._fault, piece)
                messages += broken
                if after != "go on":
                    return bytes(messages), after
            else:
                messages += payload_part(piece)
            self._sent += 1
        return bytes(messages), "go on"

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._random is None:
            yield data
            return
        places = {self._random.randrange(len(data)) for _ in range(_CUTS)} - {0}
        begin = 0
        for place in sorted(places):
            yield data[begin:place]
            begin = place
        yield data[begin:]


def stream_error(code: str, message: str) -> bytes:
    """Return the message that ends a stream when the model's container has failed."""
    return exception(
        "ModelStreamError", json.dumps({"Message": message, "ErrorCode": code}).encode()
    )


def _broken(fault: BrokenStream, piece: bytes) -> tuple[bytes, After]:
    """Return what comes in place of a part, and what then becomes of the response."""
    part = payload_part(piece)
    match fault.fault:
        case "model-stream-error":
            return stream_error(fault.error_code, "the fake was told to fail"), "end"
        case "internal-stream-failure":
            said = json.dumps({"Message": "the fake was told to fail"}).encode()
            return exception("InternalStreamFailure", said), "end"
        case "truncated":
            return part[: len(part) // 2], "end"
        case "abort":
            return part[: len(part) // 2], "close"
        case "flipped-bit":
            place = len(part) - 5  # the last byte of the payload: a checksum of four bytes follows
            return part[:place] + bytes([part[place] ^ 1]) + part[place + 1 :], "go on"
        case _ as never:
            assert_never(never)
