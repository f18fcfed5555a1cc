"""Signature in a .tflite file: the names of its input and output, which clients of the SavedModel send."""

from __future__ import annotations

from agent.model_file.flatbuffer import INT32, UINT32, Table
from converter.packing.flatbuffer import Writer

_KEY = "serving_default"  # the only key that clients can count on, whatever the signature was called in training
_SIGNATURES = 7  # of schema.fbs's Model
_KEPT = (1, 2, 3, 4, 5, 6, 8, 9)  # every other field of it but the version


def with_signature(model: bytes, *, input_name: str, output_name: str) -> bytes:
    """Replaces the signatures of the flatbuffer `model` by serving_default, with its first input and first output.

    TensorFlow itself would change names that Python does not allow for an argument, such as `input-1`.
    """
    old = Table.root(model)
    graph = old.tables(2)[0]
    writer = Writer(tail=model)

    def names(name: str, field: int) -> int:
        (index, *_) = graph.numbers(field, INT32)
        return writer.vector([writer.table({0: writer.string(name)}, uints={1: index})])

    parts = {0: names(input_name, 1), 1: names(output_name, 2), 2: writer.string(_KEY)}
    fields = {field: writer.in_tail(position) for field in _KEPT if (position := old.position_of(field))}
    fields[_SIGNATURES] = writer.vector([writer.table(parts)])
    return writer.finish(writer.table(fields, uints={0: old.scalar(0, UINT32)}), b"TFL3")
