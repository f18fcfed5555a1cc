"""Writer of TFLite Metadata, schema 1.5.0: labels, normalization and origin inside a .tflite file.

A buffer of the model, named TFLITE_METADATA, contains a second flatbuffer (identifier M001). The label file is in a
ZIP archive appended to the model. Field numbers below count the fields of metadata_schema.fbs (tflite-support) and of
TensorFlow's schema.fbs in their order there.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agent.model_file.flatbuffer import INT8, INT32, UINT32, UINT64, Table
from agent.model_file.metadata import ADDITIONS
from converter.packing.flatbuffer import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Color = Literal["rgb", "gray"]

_LABEL_FILE, _CALIBRATION_FILE = "labels.txt", "score_calibration.txt"
_CHANNELS = {"rgb": 3, "gray": 1}
_COLOR_SPACE = {"rgb": 1, "gray": 2}
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_NORMALIZATION_OPTIONS = 1
_TENSOR_AXIS_LABELS, _TENSOR_AXIS_SCORE_CALIBRATION = 2, 4
_SCORE_CALIBRATION_OPTIONS, _INVERSE_LOGISTIC = 2, 2
_FLOAT32, _UINT8 = 0, 3
_MODEL_OFFSETS = (1, 2, 3, 5, 7, 8, 9)  # of schema.fbs's Model: every field but version, buffers and metadata


def pack_metadata(
    model: bytes,
    *,
    labels: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    color: Color,
    name: str,
    version: str,
    description: str = "",
    author: str = "",
    license: str = "",  # noqa: A002  (the schema's word)
    min_runtime_version: str | None = None,
    temperature: float | None = None,
    additions: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> bytes:
    """Replace the metadata and labels of `model`, an image classifier.

    `mean` and `std` have one value or one per channel, for pixels from 0 to 255: input = (pixel - mean) / std.
    `min_runtime_version` None keeps the version that TensorFlow's converter wrote. `temperature` becomes a score
    calibration for other readers; it must be None unless each score is a sigmoid or one of two that sum to 1.
    `additions` are packed as the agent's own JSON file, followed by `files`. The bytes of the model are kept, at their
    alignment, after a new head.
    Raises ValueError if metadata and tensors do not match.
    """
    _check_model(model)
    flatbuffer = _without_zip(model)
    image, scores = _tensor(flatbuffer, 1), _tensor(flatbuffer, 2)
    _check_labels(labels, scores)
    _check_normalization(mean, std, color, image)
    texts = {0: name, 1: description, 2: version, 4: author, 5: license}
    entries = {
        "TFLITE_METADATA": _metadata(
            texts, image, scores, mean=mean, std=std, color=color, is_calibrated=temperature is not None
        )
    }
    if min_runtime_version is not None:
        entries["min_runtime_version"] = min_runtime_version.encode().ljust(16, b"\0")
    packed = {_LABEL_FILE: "".join(f"{label}\n" for label in labels).encode()}
    if temperature is not None:
        packed[_CALIBRATION_FILE] = _calibration(len(labels), temperature)
    if additions:
        packed[ADDITIONS] = json.dumps(additions, indent=1).encode()
    return _with_zip(_with_entries(flatbuffer, entries), {**packed, **(files or {})})


@dataclass(frozen=True, slots=True)
class _Tensor:
    """`type` as schema.fbs numbers it; `shape` with the batch."""

    type: int
    shape: tuple[int, ...]


def _tensor(flatbuffer: bytes, field: int) -> _Tensor:
    """Find the first input (field 1) or output (field 2) of the first subgraph."""
    subgraph = Table.root(flatbuffer).tables(2)[0]
    tensor = subgraph.tables(0)[subgraph.numbers(field, INT32)[0]]
    return _Tensor(type=tensor.scalar(1, INT8), shape=tuple(tensor.numbers(0, INT32)))


def _metadata(
    texts: Mapping[int, str],
    image: _Tensor,
    scores: _Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    color: Color,
    is_calibrated: bool,
) -> bytes:
    """Build the flatbuffer M001; `texts` are ModelMetadata's, by field number."""
    writer = Writer()
    inputs = writer.vector([_image(writer, image, mean=mean, std=std, color=color)])
    outputs = writer.vector([_scores(writer, scores, is_calibrated=is_calibrated)])
    fields = {field: writer.string(text) for field, text in texts.items()}
    fields[3] = writer.vector([writer.table({2: inputs, 3: outputs})])
    fields[7] = writer.string("1.0.0")  # min_parser_version: nothing newer than schema 1.0.0 is used
    return writer.finish(writer.table(fields), b"M001")


def _image(writer: Writer, tensor: _Tensor, *, mean: Sequence[float], std: Sequence[float], color: Color) -> int:
    properties = writer.table({}, enums={0: _COLOR_SPACE[color]})
    normalization = writer.table({0: writer.floats(mean), 1: writer.floats(std)})
    fields = {
        0: writer.string("image"),
        3: writer.table({1: properties}, enums={0: _IMAGE_PROPERTIES}),
        4: writer.vector([writer.table({1: normalization}, enums={0: _NORMALIZATION_OPTIONS})]),
    }
    if tensor.type == _UINT8:
        fields[5] = _stats(writer, [0.0], [255.0])
    if tensor.type == _FLOAT32:
        ends = [((0 - m) / s, (255 - m) / s) for m, s in zip(mean, std, strict=True)]
        fields[5] = _stats(writer, [min(e) for e in ends], [max(e) for e in ends])
    return writer.table(fields)


def _scores(writer: Writer, tensor: _Tensor, *, is_calibrated: bool) -> int:
    files = [writer.table({0: writer.string(_LABEL_FILE)}, enums={2: _TENSOR_AXIS_LABELS})]
    if is_calibrated:
        parameters = writer.string(_CALIBRATION_FILE)
        files.append(writer.table({0: parameters}, enums={2: _TENSOR_AXIS_SCORE_CALIBRATION}))
    fields = {
        0: writer.string("score"),
        3: writer.table({1: writer.table({})}, enums={0: _FEATURE_PROPERTIES}),
        6: writer.vector(files),
    }
    if is_calibrated:
        options = writer.table({}, enums={0: _INVERSE_LOGISTIC})
        fields[4] = writer.vector([writer.table({1: options}, enums={0: _SCORE_CALIBRATION_OPTIONS})])
    if tensor.type == _UINT8:
        fields[5] = _stats(writer, [0.0], [255.0])
    return writer.table(fields)


def _calibration(labels: int, temperature: float) -> bytes:
    """Scale, slope and offset per label: scale / (1 + exp(-(slope x logit + offset))).

    MediaPipe takes an empty last line for one more label.
    """
    return "\n".join([f"1,{1 / temperature:.7g},0"] * labels).encode()


def _stats(writer: Writer, low: Sequence[float], high: Sequence[float]) -> int:
    return writer.table({0: writer.floats(high), 1: writer.floats(low)})


def _check_model(model: bytes) -> None:
    if model[4:8] != b"TFL3":
        raise ValueError("This is not a TFLite model: the identifier TFL3 is missing")
    if any(buffer.scalar(1, UINT64) > 1 for buffer in Table.root(model).tables(4)):  # their offset
        raise ValueError("Models over 2 GB, with weights after the flatbuffer, are not supported")


def _check_labels(labels: Sequence[str], scores: _Tensor) -> None:
    if len(labels) != scores.shape[-1]:
        raise ValueError(f"{len(labels)} labels for {scores.shape[-1]} outputs")
    for index, label in enumerate(labels):
        if not label.strip() or len(label.splitlines()) != 1:
            raise ValueError(f"Label {index} must be one line of text, not {label!r}")


def _check_normalization(mean: Sequence[float], std: Sequence[float], color: Color, image: _Tensor) -> None:
    channels = _CHANNELS[color]
    if image.shape[-1] != channels:
        raise ValueError(f"Color {color} does not fit an input with {image.shape[-1]} channels")
    if len(mean) != len(std) or len(mean) not in (1, channels):
        raise ValueError(f"{len(mean)} means and {len(std)} stds for {channels} channels")
    if not all(std):
        raise ValueError("A std must not be 0")


def _with_entries(flatbuffer: bytes, entries: Mapping[str, bytes]) -> bytes:
    """Prepend a Model table with `entries` in its metadata, which refers to the old flatbuffer.

    So weights keep their bytes and alignment, and fields that this code does not know are kept too.
    """
    model = Table.root(flatbuffer)
    writer = Writer(tail=flatbuffer)
    buffers = [writer.in_tail(buffer.position) for buffer in model.tables(4)]
    metadata = [writer.in_tail(entry.position) for entry in model.tables(6) if entry.string(0) not in entries]
    for name, content in entries.items():
        metadata.append(writer.table({0: writer.string(name)}, uints={1: len(buffers)}))
        buffers.append(writer.table({0: writer.content(content)}))
    fields = {field: writer.in_tail(position) for field in _MODEL_OFFSETS if (position := model.position_of(field))}
    fields |= {4: writer.vector(buffers), 6: writer.vector(metadata)}
    return writer.finish(writer.table(fields, uints={0: model.scalar(0, UINT32)}), b"TFL3")


def _without_zip(model: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            end = min((file.header_offset for file in archive.infolist()), default=archive.start_dir)
    except zipfile.BadZipFile:
        return model
    return model[:end]


def _with_zip(flatbuffer: bytes, files: Mapping[str, bytes]) -> bytes:
    """Append `files` uncompressed, since TensorFlow's C++ reader refuses compressed ones, and without dates."""
    stream = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()
