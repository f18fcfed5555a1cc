"""Model files for tests: the demo's digits with other names and labels, or with single fields changed."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from agent.image import Image
from agent.model_file.flatbuffer import INT32, UINT8, UINT32, Table
from converter.packing.flatbuffer import Writer
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

DEMO = Path(__file__).parents[2] / "demo"
DIGITS = (DEMO / "digits.tflite").read_bytes()
DIGIT_LABELS = tuple("0123456789")
LETTERS = tuple("abcdefghij")
DIGIT = DEMO / "digits.mp4"  # its first frame shows a 3

# Without the packed labels. The metadata is still in the file, but under a name that no reader looks for.
BARE_DIGITS = DIGITS[: DIGITS.rindex(b"PK\x03\x04")].replace(b"TFLITE_METADATA", b"TFLITE_METADATX")

CONV_2D = 3


def digits(version: str = "1", *, labels: Sequence[str] = DIGIT_LABELS) -> bytes:
    """Returns different bytes for each `version` and `labels`, with the same scores."""
    return pack_metadata(DIGITS, labels=labels, mean=[0.0], std=[255.0], color="gray", name="digits", version=version)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def photo_of_3() -> Image:
    video = cv2.VideoCapture(str(DIGIT))
    there, pixels = video.read()
    video.release()
    assert there
    return Image(pixels.astype(np.uint8), "bgr")


def with_input_shape(shape: Sequence[int]) -> bytes:
    return _with_ints(DIGITS, _tensor(DIGITS, 1).position_of(0), shape)


def with_free_height() -> bytes:
    """The digits with a new header, in which the input's shape signature allows images of any size."""
    model = Table.root(DIGITS)
    graph = model.tables(2)[0]
    tensors, image = graph.tables(0), _tensor(DIGITS, 1)
    writer = Writer(tail=DIGITS)

    def offsets(table: Table, *fields: int) -> dict[int, int]:
        return {field: writer.in_tail(at) for field in fields if (at := table.position_of(field))}

    writer._builder.StartVector(4, 4, 4)
    for side in (1, 32, -1, -1):
        writer._builder.PrependInt32(side)
    signature = int(writer._builder.EndVector())
    open_image = writer.table(
        offsets(image, 0, 3, 4) | {7: signature},
        enums={1: image.scalar(1, UINT8)},
        uints={2: image.scalar(2, UINT32)},
    )
    positions = [
        open_image if tensor.position == image.position else writer.in_tail(tensor.position) for tensor in tensors
    ]
    open_graph = writer.table(offsets(graph, 1, 2, 3, 4) | {0: writer.vector(positions)})
    fields = offsets(model, 1, 3, 4, 6, 7) | {2: writer.vector([open_graph])}
    return writer.finish(writer.table(fields, uints={0: 3}), b"TFL3")


def with_output_shape(shape: Sequence[int]) -> bytes:
    return _with_ints(DIGITS, _tensor(DIGITS, 2).position_of(0), shape)


def with_tensor_type(field: int, type_: int) -> bytes:
    """`field` 1 is the input, 2 the output; `type_` is a TensorType of TensorFlow's schema.fbs."""
    return _with_scalar(DIGITS, _tensor(DIGITS, field), 1, struct.pack("<b", type_))


def with_operator_version(code: int, version: int) -> bytes:
    operator = next(op for op in Table.root(DIGITS).tables(1) if op.scalar(3, INT32) == code)
    return _with_scalar(DIGITS, operator, 2, struct.pack("<i", version))


def write_whole(path: Path, content: bytes) -> None:
    """Writes a temporary file and renames it, as rsync does."""
    aside = path.with_name(f".{path.name}.aside")
    aside.write_bytes(content)
    aside.replace(path)


def _tensor(model: bytes, field: int) -> Table:
    graph = Table.root(model).tables(2)[0]
    index: int = graph.numbers(field, INT32)[0]
    return graph.tables(0)[index]


def _with_scalar(model: bytes, table: Table, field: int, value: bytes) -> bytes:
    assert table._at(field)
    return _patched(model, table.position + table._at(field), value)


def _with_ints(model: bytes, vector: int | None, values: Sequence[int]) -> bytes:
    assert vector is not None
    assert struct.unpack_from("<I", model, vector)[0] == len(values)
    return _patched(model, vector + 4, struct.pack(f"<{len(values)}i", *values))


def _patched(model: bytes, position: int, value: bytes) -> bytes:
    return model[:position] + value + model[position + len(value) :]
