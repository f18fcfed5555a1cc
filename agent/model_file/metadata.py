"""Metadata: what a .tflite file says about itself, read from its bytes without a runtime.

A .tflite is a flatbuffer (schema.fbs of TensorFlow Lite, identifier TFL3). Its metadata entry TFLITE_METADATA
contains a second flatbuffer (metadata_schema.fbs 1.5.0, identifier M001). The label files that the second one
names are in a zip archive appended to the first. The field numbers below are from these two schemas.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.errors import IncompleteModelError, ModelError
from agent.model_file.flatbuffer import FLOAT32, INT8, INT32, INT64, UINT8, UINT32, Table, damaged
from agent.model_file.packed_files import PackedFiles
from agent.model_file.settings import ModelSettings, check_settings
from agent.model_file.ultralytics import ultralytics_settings
from agent.text import printable_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.image import Color
    from agent.model_file.settings import Score

_DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    7: "int16",
    9: "int8",
}
_RESHAPE, _SQUEEZE, _QUANTIZE, _DEQUANTIZE = 22, 43, 114, 6
_SOFTMAX, _LOGISTIC, _CUSTOM = 25, 14, 32
_HAS_RANK = 8
_NORMALIZATION, _IMAGE, _GRAYSCALE, _RGB, _AXIS_LABELS = 1, 2, 2, 1, 2
ADDITIONS = "edge_agent.json"  # packed with the labels; keys: settings (as in a sidecar), provenance, golden


@dataclass(frozen=True, slots=True)
class Tensor:
    """`scale` and `zero_point` apply if the whole tensor has one scale; otherwise `scale` is 0.

    `alias` is the name of an input or output in the file's signature, which is often the name that training gave it.
    `step` is the smallest difference between two values of an output, also if the file dequantizes it; 0 if float.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0
    free_dimensions: bool = False
    step: float = 0.0
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Operator:
    """`code` is a BuiltinOperator of the schema; `custom` is the name of a custom operator."""

    code: int
    version: int
    custom: str | None = None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The contents of a model file.

    `settings` come from the metadata and from the additions of edge-convert. Their `score` is `probability` without
    an addition if the last operator is a softmax or a sigmoid. `provenance` is what edge-convert recorded about the
    conversion.
    """

    content: bytes = field(repr=False)
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    settings: ModelSettings
    name: str | None = None
    version: str | None = None
    description: str | None = None
    author: str | None = None
    license: str | None = None
    min_runtime_version: str | None = None
    packed_files: tuple[str, ...] = ()
    provenance: dict[str, Any] | None = None


def read_model_file(content: bytes) -> ModelFile:
    """Raises ModelError if the bytes are not a .tflite file, IncompleteModelError if the file is truncated."""
    if not content:
        raise IncompleteModelError("The file is empty. Copy it again; the agent retries once the copy is complete.")
    if not any(content[:8]):
        raise IncompleteModelError("The file begins with zeros. Copy it again; it is tried once the copy is complete.")
    if content[4:8] != b"TFL3":
        raise ModelError(_what_it_is_instead(content))
    return _read(content)


def _what_it_is_instead(content: bytes) -> str:
    if content.startswith(b"PK"):
        return "This is a zip archive (a .keras file?), not a .tflite model. Convert it: edge-convert convert."
    if content.startswith(b"\x89HDF"):
        return "This is a Keras .h5 file, not a .tflite model. Convert it: edge-convert convert."
    return "This is not a .tflite model: bytes 4 to 7 are not TFL3. Check which file was copied."


def _read(content: bytes) -> ModelFile:
    model = Table.root(content)
    subgraphs = model.tables(2)
    if not subgraphs:
        raise damaged("it contains no graph")
    _check_buffers(model, len(content))
    entries = {entry.string(0): entry.scalar(1, UINT32) for entry in model.tables(6)}
    buffers = model.tables(4)

    def entry(name: str) -> bytes | None:
        index = entries.get(name)
        return buffers[index].blob(0) if index is not None and index < len(buffers) else None

    graph = subgraphs[0]
    tensors = graph.tables(0)
    operators = tuple(_operator(code) for code in model.tables(1))
    packed = PackedFiles(content)
    aliases = _aliases(model)
    ends = _ends(graph, tensors, operators, aliases)
    outputs = tuple(end.output for end in ends)
    stated = _read_metadata(entry("TFLITE_METADATA"), packed, outputs)
    runtime = entry("min_runtime_version")
    score: Score | None = "probability" if ends and all(end.is_probability for end in ends) else None
    additions = read_additions(packed)
    added, provenance = check_settings(additions.get("settings", {}), where=ADDITIONS), additions.get("provenance")
    return ModelFile(
        content=content,
        inputs=tuple(
            replace(_tensor(tensors, index), alias=aliases.get(index, "")) for index in graph.numbers(1, INT32)
        ),
        outputs=outputs,
        operators=operators,
        settings=ModelSettings(score=score)
        .overridden_by(ultralytics_settings(packed))
        .overridden_by(stated.settings)
        .overridden_by(added),
        name=stated.name,
        version=stated.version,
        description=stated.description,
        author=stated.author,
        license=stated.license,
        min_runtime_version=runtime.rstrip(b"\0").decode("ascii", "replace") if runtime else None,
        packed_files=packed.names,
        provenance=printable_json(provenance) if isinstance(provenance, dict) else None,
    )


def _check_buffers(model: Table, size: int) -> None:
    """Checks that every weight buffer is complete, so that a truncated copy fails here and not in the runtime."""
    for buffer in model.tables(4):
        buffer.span(0)
        outside = buffer.scalar(1, INT64) + buffer.scalar(2, INT64)  # data after the flatbuffer
        if outside > size:
            raise damaged(f"it should have {outside} bytes but has {size}")


def _operator(code: Table) -> Operator:
    # Codes up to 127 are in the old one-byte field, higher ones in the new field: the larger value is the code.
    builtin = max(code.scalar(0, INT8), code.scalar(3, INT32))
    return Operator(builtin, code.scalar(2, INT32, 1), code.string(1) if builtin == _CUSTOM else None)


def _tensor(tensors: Sequence[Table], index: int) -> Tensor:
    if not 0 <= index < len(tensors):
        raise damaged(f"tensor {index} does not exist")
    tensor = tensors[index]
    quantization = tensor.table(4)
    scales = quantization.numbers(2, FLOAT32) if quantization else []
    zero_points = quantization.numbers(3, INT64) if quantization else []
    whole = len(scales) == 1
    return Tensor(
        name=tensor.string(3) or "",
        shape=tuple(tensor.numbers(0, INT32)) or ((1,) if tensor.scalar(_HAS_RANK, UINT8) else ()),  # a scalar
        dtype=_DTYPES.get(tensor.scalar(1, INT8), "an unknown type"),
        scale=float(scales[0]) if whole else 0.0,
        zero_point=int(zero_points[0]) if whole and zero_points else 0,
        free_dimensions=-1 in tensor.numbers(7, INT32)[1:],
    )


def _aliases(model: Table) -> dict[int, str]:
    """The names of the inputs and outputs in the signatures of the main graph, by the index of the tensor."""
    signatures = [signature for signature in model.tables(7) if signature.scalar(4, UINT32) == 0]
    maps = [each for signature in signatures for each in (*signature.tables(0), *signature.tables(1))]
    return {each.scalar(1, UINT32): each.string(0) or "" for each in maps}


class _End(NamedTuple):
    """An output; `is_probability` if the operator that computes it is a softmax or a sigmoid."""

    output: Tensor
    is_probability: bool


def _ends(graph: Table, tensors: Sequence[Table], operators: Sequence[Operator], aliases: dict[int, str]) -> list[_End]:
    """The outputs in their order in the file."""
    makers = {made: node for node in graph.tables(3) for made in node.numbers(2, INT32)}
    ends = []
    for index in graph.numbers(2, INT32):
        end = _end(tensors, makers, operators, index)
        ends.append(end._replace(output=replace(end.output, alias=aliases.get(index, ""))))
    return ends


def _end(tensors: Sequence[Table], makers: dict[int, Table], operators: Sequence[Operator], index: int) -> _End:
    """Looks back from an output past reshaping and quantizing; `makers` has the node that makes each tensor."""
    output = _tensor(tensors, index)
    step = output.scale
    for _ in range(8):
        maker = makers.get(index)
        code = maker.scalar(0, UINT32) if maker else len(operators)
        if maker is None or code >= len(operators):
            break
        if operators[code].code not in (_RESHAPE, _SQUEEZE, _QUANTIZE, _DEQUANTIZE):
            return _End(replace(output, step=step), operators[code].code in (_SOFTMAX, _LOGISTIC))
        index = (maker.numbers(1, INT32) or [-1])[0]
        if 0 <= index < len(tensors):
            step = max(step, _tensor(tensors, index).scale)
    return _End(replace(output, step=step), is_probability=False)


@dataclass(frozen=True, slots=True)
class _Stated:
    settings: ModelSettings = field(default_factory=ModelSettings)
    name: str | None = None
    version: str | None = None
    description: str | None = None
    author: str | None = None
    license: str | None = None


def _read_metadata(metadata: bytes | None, packed: PackedFiles, outputs: Sequence[Tensor]) -> _Stated:
    if metadata is None:
        return _Stated(ModelSettings(labels=_only_fitting_labels(packed, outputs)))
    model = Table.root(metadata)
    subgraphs = model.tables(3)
    inputs = subgraphs[0].tables(2) if subgraphs else []
    answers = subgraphs[0].tables(3) if subgraphs else []
    mean, std = _normalization(inputs[0]) if inputs else (None, None)
    settings = ModelSettings(
        labels=_labels(answers, packed) or _only_fitting_labels(packed, outputs),
        mean=mean,
        std=std,
        color=_color(inputs[0]) if inputs else None,
    )
    return _Stated(settings, model.string(0), model.string(2), model.string(1), model.string(4), model.string(5))


def read_additions(packed: PackedFiles) -> dict[str, Any]:
    """What edge-convert packed with the labels, unchecked; empty for other files. Raises IncompleteModelError."""
    if ADDITIONS not in packed.names:
        return {}
    try:
        additions = json.loads(packed.read(ADDITIONS))
    except (ValueError, RecursionError) as error:
        raise damaged(f"its {ADDITIONS} is not JSON: {error}") from None
    if not isinstance(additions, dict):
        raise damaged(f"its {ADDITIONS} is not a JSON object")
    return additions


def _labels(outputs: Sequence[Table], packed: PackedFiles) -> tuple[str, ...] | None:
    """Those of the first output that has any."""
    for file in (file for output in outputs for file in output.tables(6)):
        if file.scalar(2, UINT8) == _AXIS_LABELS and not file.string(3):  # with a locale it is a translation
            name = file.string(0) or ""
            if name not in packed.names:
                raise damaged(f"the label file {name}, named in the metadata, is missing")
            return packed.read_labels(name)
    return None


def _only_fitting_labels(packed: PackedFiles, outputs: Sequence[Tensor]) -> tuple[str, ...] | None:
    """Labels that no metadata names, as in some published models: used if only one file, or labels.txt, has enough."""
    counts = {output.shape[-1] for output in outputs if output.shape}
    if 1 in counts:
        counts.add(2)  # one score can separate two classes
    fitting = {}
    for name in packed.small_files(".txt"):
        try:
            labels = packed.read_labels(name)
        except IncompleteModelError:
            raise
        except ModelError:  # another text, such as a license
            continue
        if len(labels) in counts:
            fitting[name] = labels
    return fitting.get("labels.txt") or (next(iter(fitting.values())) if len(fitting) == 1 else None)


def _normalization(tensor: Table) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    for unit in tensor.tables(4):
        options = unit.table(1)
        if unit.scalar(0, UINT8) == _NORMALIZATION and options is not None:
            mean, std = options.numbers(0, FLOAT32), options.numbers(1, FLOAT32)
            if len(mean) in (1, 3) and len(std) in (1, 3) and all(std):
                return tuple(map(float, mean)), tuple(map(float, std))
    return None, None


def _color(tensor: Table) -> Color | None:
    content = tensor.table(3)
    properties = content.table(1) if content and content.scalar(0, UINT8) == _IMAGE else None
    space = properties.scalar(0, INT8) if properties else 0
    return "gray" if space == _GRAYSCALE else "rgb" if space == _RGB else None
