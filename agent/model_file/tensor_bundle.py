"""TensorBundle: reads from the index of a checkpoint how long its data files must be.

The index is a table as LevelDB writes it (github.com/google/leveldb, doc/table_format.md), with TensorFlow's messages
BundleHeaderProto under the empty key and BundleEntryProto under the name of each tensor (tensor_bundle.proto). It
ends with a footer of 48 bytes: two handles, padding, and the magic number.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from agent.model_file.protobuf import fields_of, varint

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_INDEX_BYTES = 64 << 20
MAX_SHARDS = 1000
_FOOTER_BYTES, _TRAILER_BYTES, _MAGIC = 48, 5, 0xDB4775248B80FB57
_SHARDS, _SHARD, _OFFSET, _SIZE = 1, 3, 4, 5  # numbers of the fields


@dataclass(frozen=True, slots=True)
class TensorBundle:
    """`sizes` has the least size in bytes of each data file, in their order."""

    sizes: tuple[int, ...]

    def file_names(self, prefix: str) -> tuple[str, ...]:
        count = len(self.sizes)
        return tuple(f"{prefix}.data-{number:05d}-of-{count:05d}" for number in range(count))


class _CompressedError(Exception):
    """A block is compressed, which TensorFlow reads but does not write."""


def read_index(content: bytes) -> TensorBundle | None:
    """None if it is compressed. Raises ValueError, whose message is a clause, if it is damaged or incomplete."""
    try:
        return _read(content)
    except _CompressedError:
        return None


def _read(content: bytes) -> TensorBundle:
    if len(content) < _FOOTER_BYTES:
        raise ValueError(f"it has only {len(content)} bytes")
    footer = content[-_FOOTER_BYTES:]
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("its end is missing")
    stream = io.BytesIO(footer)
    _handle(stream)  # of the meta index, which TensorFlow does not use
    sizes: dict[int, int] = {}
    count = 0
    for _, value in _entries(content, _handle(stream)):
        for key, message in _entries(content, _handle(io.BytesIO(value))):
            numbers = {field.number: field.value for field in fields_of(message) if not field.is_bytes}
            if not key:
                count = numbers.get(_SHARDS, 0)
                continue
            shard = numbers.get(_SHARD, 0)
            end = numbers.get(_OFFSET, 0) + numbers.get(_SIZE, 0)
            sizes[shard] = max(sizes.get(shard, 0), end)
    if not 1 <= count <= MAX_SHARDS or max(sizes, default=0) >= count:
        raise ValueError(f"its number of data files is not from 1 to {MAX_SHARDS}")
    return TensorBundle(tuple(sizes.get(number, 0) for number in range(count)))


class _Handle(NamedTuple):
    """Where a block is."""

    offset: int
    size: int


def _handle(stream: io.BytesIO) -> _Handle:
    return _Handle(varint(stream), varint(stream))


def _entries(content: bytes, handle: _Handle) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block. Each key repeats only what differs from the key before it."""
    block = content[handle.offset : handle.offset + handle.size + _TRAILER_BYTES]
    if len(block) != handle.size + _TRAILER_BYTES or handle.size < 4:
        raise ValueError("a block of it is missing")
    if block[handle.size] != 0:
        raise _CompressedError
    (restarts,) = struct.unpack_from("<I", block, handle.size - 4)
    end = handle.size - 4 - 4 * restarts
    stream, key = io.BytesIO(block), b""
    while stream.tell() < end:
        shared, more, length = varint(stream), varint(stream), varint(stream)
        if shared > len(key) or stream.tell() + more + length > end:
            raise ValueError("a block of it is damaged")
        key = key[:shared] + stream.read(more)
        yield key, stream.read(length)
