"""AWS's event-stream framing, as an encoder: what a SageMaker endpoint wraps a stream in.

A message is its length, the length of its headers and the CRC-32 of these eight bytes, each as four
bytes, big-endian; its headers; its payload; and the CRC-32 of all that.

Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import struct
import zlib
from functools import cache

MEDIA_TYPE = b"application/vnd.amazon.eventstream"

_STRING = 7  # the type of a header's value
_PRELUDE_BYTES, _CRC_BYTES = 12, 4


def frame(headers: bytes, payload: bytes) -> bytes:
    """Return one message.

    Args:
        headers: as `string_headers` encodes them.
        payload: anything.
    """
    total = _PRELUDE_BYTES + len(headers) + len(payload) + _CRC_BYTES
    lengths = struct.pack("!II", total, len(headers))
    message = b"".join((lengths, struct.pack("!I", zlib.crc32(lengths)), headers, payload))
    return message + struct.pack("!I", zlib.crc32(message))


@cache
def string_headers(*pairs: tuple[str, str]) -> bytes:
    """Return the headers of a message, all of them strings, in this order."""
    encoded = b""
    for name, value in pairs:
        key, text = name.encode(), value.encode()
        encoded += struct.pack(f"!B{len(key)}sBH", len(key), key, _STRING, len(text)) + text
    return encoded


def payload_part(payload: bytes) -> bytes:
    """Return the event in which a SageMaker endpoint passes a piece of the model's own answer."""
    return frame(
        string_headers(
            (":event-type", "PayloadPart"),
            (":content-type", "application/octet-stream"),
            (":message-type", "event"),
        ),
        payload,
    )


def exception(kind: str, payload: bytes) -> bytes:
    """Return the exception that ends a stream: `ModelStreamError`, `InternalStreamFailure`."""
    return frame(
        string_headers(
            (":exception-type", kind),
            (":content-type", "application/json"),
            (":message-type", "exception"),
        ),
        payload,
    )
