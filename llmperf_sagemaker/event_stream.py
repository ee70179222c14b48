"""AWS's event-stream framing, sans-IO: the messages out of bytes that may be cut anywhere.

A message is its length, the length of its headers and the CRC-32 of these eight bytes, each as four
bytes, big-endian; its headers; its payload; and the CRC-32 of all that.

Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import ClassVar, NamedTuple
from zlib import crc32

from llmperf_core.errors import DecodeError
from llmperf_core.wire.json_text import excerpt

_PRELUDE = struct.Struct("!III")
_LENGTHS_BYTES, _CRC_BYTES = 8, 4
_FRAME_BYTES = _PRELUDE.size + _CRC_BYTES
# The limits of botocore's parser.
_MOST_HEADERS_BYTES = 128 * 1024
_MOST_PAYLOAD_BYTES = 24 * 1024 * 1024
# A stream repeats the same headers in each message.
_HEADERS_KEPT = 64


class CorruptedError(DecodeError):
    """A message was changed on its way: its checksum is not that of its bytes."""

    failure: ClassVar[str] = "corrupted"


class Message(NamedTuple):
    """One message."""

    headers: Mapping[str, object]
    payload: bytes


class MessageDecoder:
    """Takes the pieces of a body and yields the messages that they complete.

    It frames by itself, as botocore's parser takes four times as long, and leaves the headers to
    that parser, once for all messages that have the same.
    """

    __slots__ = ("_held", "_seen")

    def __init__(self) -> None:
        self._held = bytearray()
        self._seen = 0

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun that is not complete."""
        return bool(self._held)

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Take the next bytes, and yield the messages that they complete, in order.

        Raises:
            CorruptedError: the checksum of a message is wrong; those before it have been yielded.
            DecodeError: likewise, but what comes is no such stream.
        """
        held = self._held
        held += piece
        while len(held) >= _PRELUDE.size:
            total, headers_size, crc = _PRELUDE.unpack_from(held)
            self._check_prelude(total, headers_size, crc)
            if len(held) < total:
                return
            message = bytes(held[:total])
            del held[:total]
            body, at = message[:-_CRC_BYTES], _PRELUDE.size + headers_size
            if crc32(body) != int.from_bytes(message[-_CRC_BYTES:], "big"):
                raise CorruptedError(f"message {self._seen}: its checksum is wrong")
            self._seen += 1
            yield Message(_headers(body[_PRELUDE.size : at]), body[at:])

    def _check_prelude(self, total: int, headers_size: int, crc: int) -> None:
        held = self._held
        if crc32(held[:_LENGTHS_BYTES]) != crc:
            if self._seen:
                raise CorruptedError(f"message {self._seen}: the checksum of its length is wrong")
            raise DecodeError(f"not an AWS event stream: {excerpt(bytes(held[:100]))}")
        payload_size = total - headers_size - _FRAME_BYTES
        if headers_size > _MOST_HEADERS_BYTES or not 0 <= payload_size <= _MOST_PAYLOAD_BYTES:
            raise DecodeError(
                f"message {self._seen} says that it has {headers_size} bytes of headers and "
                f"{payload_size} of payload"
            )


@lru_cache(_HEADERS_KEPT)
def _headers(encoded: bytes) -> Mapping[str, object]:
    from botocore.eventstream import EventStreamHeaderParser, ParserError

    try:
        headers: Mapping[str, object] = EventStreamHeaderParser().parse(encoded)
    except (ParserError, struct.error, KeyError, IndexError, UnicodeDecodeError) as error:
        raise DecodeError(f"the headers of a message cannot be read: {excerpt(encoded)}") from error
    return headers
