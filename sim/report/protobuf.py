"""Many messages of one shape in protobuf's wire format, written at a time for all rows of columns.

Model
-----
    message = fields one after another; field = tag, value; tag = number * 8 + wire type, as a varint
    varint  = 7 bits in each byte, lowest first; the highest bit of a byte says that another follows
    a message or text within a message = tag, length in bytes as a varint, its bytes

A `Piece` is the bytes of some fields in N messages: a matrix [N, W] and which of its bytes are there. Pieces are put
next to one another, so that a column is encoded by a few operations on arrays and no message is built as an object.

References
----------
Protocol Buffers, Encoding (protobuf.dev/programming-guides/encoding).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Piece",
    "constant",
    "double_field",
    "fixed64_field",
    "interleaved",
    "join",
    "message",
    "text_field",
    "varint",
    "varint_field",
]

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2


class Piece(NamedTuple):
    """Bytes of some fields in N messages."""

    data: Bytes
    """Shape [N, W]."""
    there: Mask
    """Which bytes are written. Shape [N, W]."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the number of bytes of each message."""
        counts: NDArray[np.int64] = self.there.sum(axis=1, dtype=np.int64)
        return counts

    def joined(self) -> bytes:
        """Return the bytes of all messages, one after another."""
        return self.data[self.there].tobytes()


def varint(value: int) -> bytes:
    """Return a number from 0 as a varint.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text_field(number: int, text: str | bytes) -> bytes:
    """Return a field that is a text, or a message whose bytes are given."""
    data = text.encode() if isinstance(text, str) else text
    return varint(number * 8 + _LENGTH) + varint(len(data)) + data


def constant(data: bytes, count: int) -> Piece:
    """Return equal bytes in each of N messages."""
    row = np.frombuffer(data, dtype=np.uint8)
    return Piece(np.broadcast_to(row, (count, row.size)), np.ones((count, row.size), dtype=bool))


def varint_field(number: int, values: NDArray[np.int64], present: Mask | None = None) -> Piece:
    """Return a field of whole numbers from 0, in the messages in which it is present; values elsewhere are ignored."""
    return _present(join([constant(varint(number * 8 + _VARINT), values.size), _varints(values, present)]), present)


def fixed64_field(number: int, values: NDArray[np.int64], present: Mask | None = None) -> Piece:
    """Return a field of whole numbers of 64 bits."""
    return _eight_bytes(number, np.ascontiguousarray(values, dtype="<i8"), present)


def double_field(number: int, values: NDArray[np.float64], present: Mask | None = None) -> Piece:
    """Return a field of floats of 64 bits."""
    return _eight_bytes(number, np.ascontiguousarray(values, dtype="<f8"), present)


def join(pieces: Sequence[Piece]) -> Piece:
    """Return pieces next to one another."""
    return Piece(*(np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)))


def message(
    number: int, pieces: Sequence[Piece], present: Mask | None = None, more: NDArray[np.int64] | None = None
) -> Piece:
    """Return a field that is a message of the pieces; `more` bytes of it are to follow. Shape of both: [N]."""
    inside = join(pieces)
    lengths = inside.lengths + (0 if more is None else more)
    return _present(
        join([constant(varint(number * 8 + _LENGTH), lengths.size), _varints(lengths, None), inside]), present
    )


def interleaved(parts: Sequence[tuple[Bytes, NDArray[np.int64]]]) -> bytes:
    """Return, message by message, the bytes of each part; a part is all of its bytes, and how many each message has.

    >>> first, second = np.frombuffer(b"aabb", np.uint8), np.frombuffer(b"x", np.uint8)
    >>> interleaved([(first, np.array([2, 2])), (second, np.array([0, 1]))])
    b'aabbx'
    """
    lengths = np.sum([of for _, of in parts], axis=0)
    begins = np.cumsum(lengths) - lengths
    out = np.empty(int(lengths.sum()), dtype=np.uint8)
    for data, of in parts:
        out[np.repeat(begins - (np.cumsum(of) - of), of) + np.arange(data.size)] = data
        begins = begins + of
    return out.tobytes()


# ---- private -----------------------------------------------------------------------------------------------------


def _varints(values: NDArray[np.int64], present: Mask | None) -> Piece:
    """Return numbers as varints; numbers that are not present are written as 0."""
    rest = np.where(present, values, 0) if present is not None else values
    rest = rest.astype(np.uint64)
    most = int(rest.max(initial=0))
    width = max(1, -(-most.bit_length() // 7))
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    parts = rest[:, None] >> shifts
    there = parts > 0
    there[:, 0] = True
    follows = np.zeros_like(there)
    follows[:, :-1] = there[:, 1:]
    data = (parts & np.uint64(0x7F)).astype(np.uint8)
    data[follows] |= np.uint8(0x80)
    return Piece(data, there)


def _eight_bytes(number: int, values: NDArray[np.int64] | NDArray[np.float64], present: Mask | None) -> Piece:
    data = values.view(np.uint8).reshape(values.size, 8)
    tag = constant(varint(number * 8 + _FIXED64), values.size)
    return _present(join([tag, Piece(data, np.ones(data.shape, dtype=bool))]), present)


def _present(piece: Piece, present: Mask | None) -> Piece:
    return piece if present is None else Piece(piece.data, piece.there & present[:, None])
