"""Warm-up requests: reads assets.extra/tf_serving_warmup_requests, with which TensorFlow Serving warms up a SavedModel.

The file is a TFRecord of PredictionLog messages (tensorflow_serving/apis/prediction_log.proto). A record is its length
(64 bits), a checksum of it, its content, and a checksum of that (tensorflow.org/tutorials/load_data/tfrecord).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from agent.errors import ModelError
from agent.model_file.protobuf import fields_of
from agent.model_file.saved_model import EXTRA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.model_file.protobuf import Field

MAX_RECORDS = 1000  # as in TensorFlow Serving
DEFAULT_SIGNATURE = "serving_default"

_FILE = f"{EXTRA}/tf_serving_warmup_requests"
_MAX_RECORD_BYTES = 64 << 20
_HEAD = struct.Struct("<QI")
_TAIL_BYTES = 4
_PREDICT, _PREDICT_STREAMED = 6, 7  # numbers of the fields
_REQUEST, _SPEC, _INPUTS, _SIGNATURE_NAME = 1, 1, 2, 3
_KEY, _VALUE = 1, 2  # of an entry of a map
_POLYNOMIAL = 0x82F63B78  # of CRC-32C


@dataclass(frozen=True, slots=True)
class WarmupRequest:
    """The signature to call, and a serialized TensorProto for each of its inputs."""

    signature: str
    inputs: dict[str, bytes] = field(repr=False)


def read_warmup_requests(saved_model: Path) -> Iterator[WarmupRequest]:
    """Nothing if the SavedModel has no such file; records of classify, regress and other calls are skipped.

    Raises ModelError if the file is damaged, or has more records than TensorFlow Serving accepts; OSError.
    """
    path = saved_model / _FILE
    if not path.is_file():
        return
    with path.open("rb") as file:
        try:
            for number, record in enumerate(_records(file)):
                if number == MAX_RECORDS:
                    raise ModelError(f"{_FILE} has more than {MAX_RECORDS} records. Write fewer.")
                yield from _requests(record)
        except ValueError as error:
            raise ModelError(f"{_FILE} is damaged: {error}. Write it again, or remove it.") from None


def _records(file: BinaryIO) -> Iterator[bytes]:
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise ValueError("its last record is incomplete")
        length, checksum = _HEAD.unpack(head)
        if _masked_crc(head[:8]) != checksum:
            raise ValueError("it is not in the TFRecord format")
        if length > _MAX_RECORD_BYTES:
            raise ValueError(f"one of its records is larger than {_MAX_RECORD_BYTES >> 20} MB")
        content = file.read(length + _TAIL_BYTES)
        if len(content) < length + _TAIL_BYTES:
            raise ValueError("its last record is incomplete")
        yield content[:-_TAIL_BYTES]


def _requests(record: bytes) -> Iterator[WarmupRequest]:
    for log in fields_of(record):
        if log.number in (_PREDICT, _PREDICT_STREAMED) and log.is_bytes:
            for part in log.fields():
                if part.number == _REQUEST and part.is_bytes:
                    yield _request(part)


def _request(message: Field) -> WarmupRequest:
    signature, inputs = "", {}
    for part in message.fields():
        if part.number == _SPEC and part.is_bytes:
            names = [each.read() for each in part.fields() if each.number == _SIGNATURE_NAME and each.is_bytes]
            signature = names[-1].decode() if names else signature
        elif part.number == _INPUTS and part.is_bytes:
            entry = {each.number: each.read() for each in part.fields() if each.is_bytes}
            inputs[entry.get(_KEY, b"").decode()] = entry.get(_VALUE, b"")
    return WarmupRequest(signature or DEFAULT_SIGNATURE, inputs)


def _masked_crc(content: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
