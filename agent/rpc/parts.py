"""Parts: counts the fields of a message before it is parsed, because a field of 2 bytes can become an object of 270."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_PARTS = 4096
_VARINT, _BYTES = 0, 2  # wire types
_FIXED_BYTES = {1: 8, 3: 0, 4: 0, 5: 4}  # of the others; 3 and 4 begin and end a group, whose fields count like others


class TooManyPartsError(Exception):
    """The message has more than MAX_PARTS fields, at all levels together."""


def check_parts(content: bytes, kind: Descriptor) -> None:
    """Raises TooManyPartsError, and DecodeError for what is not a message of this kind.

    The numbers of a packed field count like fields: a byte can become a number of 8 bytes.
    """
    try:
        _left(content, 0, len(content), kind, MAX_PARTS)
    except IndexError:
        raise DecodeError from None


def _left(content: bytes, at: int, end: int, kind: Descriptor, left: int) -> int:
    """How many parts of `left` remain behind the message at `at`."""
    while at < end:
        left -= 1
        tag, at = _varint(content, at)
        wire_type = tag & 7
        if wire_type == _BYTES:
            size, at = _varint(content, at)
            if size > end - at:
                raise DecodeError
            left = _left_behind(content, at, size, kind.fields_by_number.get(tag >> 3), left)
            at += size
        elif wire_type == _VARINT:
            _, at = _varint(content, at)
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        else:
            raise DecodeError
        if left < 0:
            raise TooManyPartsError
    if at > end:
        raise DecodeError
    return left


def _left_behind(content: bytes, at: int, size: int, field: FieldDescriptor | None, left: int) -> int:
    """The same for a field of `size` bytes: a message, text, bytes, packed numbers, or unknown."""
    if field is not None and field.message_type is not None:
        return _left(content, at, at + size, field.message_type, left)
    is_packed = field is not None and field.cpp_type != field.CPPTYPE_STRING
    return left - size if is_packed else left


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    number = content[at]
    if number < 128:
        return number, at + 1
    number &= 127
    for shift in range(7, 70, 7):
        at += 1
        number |= (content[at] & 127) << shift
        if content[at] < 128:
            return number, at + 1
    raise DecodeError
