"""GraphSignatures: reads the signatures of a SavedModel from its graph, without TensorFlow.

The messages are SignatureDef and TensorInfo (meta_graph.proto) and TensorShapeProto (tensor_shape.proto).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import IncompleteModelError
from agent.model_file.completeness import GRAPH
from agent.model_file.metadata import Tensor
from agent.model_file.protobuf import fields, fields_of
from agent.model_file.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_META_GRAPHS, _SIGNATURES, _INPUTS, _OUTPUTS = 2, 5, 1, 2  # numbers of the fields
_KEY, _VALUE = 1, 2  # of an entry of a map
_DTYPE, _SHAPE, _DIM, _SIZE = 2, 3, 2, 1
_INTERNAL = "__saved_model"  # prefix of the signatures that TensorFlow adds
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    19: "float16",
}


def read_signatures(path: Path) -> tuple[Signature, ...]:
    """Those of all graphs in the folder `path`. Raises IncompleteModelError if the graph is damaged; OSError."""
    try:
        with (path / GRAPH).open("rb") as file:
            graphs = (graph for graph in fields(file) if graph.number == _META_GRAPHS and graph.is_bytes)
            found = [part.read() for graph in graphs for part in graph.fields() if part.number == _SIGNATURES]
        named = (_entry(content) for content in found)
        return tuple(_signature(key, value) for key, value in sorted(named) if not key.startswith(_INTERNAL))
    except ValueError as error:
        raise IncompleteModelError(f"{GRAPH} is damaged ({error}). Copy the whole folder again.") from None


def _entry(content: bytes) -> tuple[str, bytes]:
    parts = {part.number: part.read() for part in fields_of(content) if part.is_bytes}
    return parts.get(_KEY, b"").decode(errors="replace"), parts.get(_VALUE, b"")


def _signature(key: str, definition: bytes) -> Signature:
    return Signature(key, tuple(_tensors(definition, _INPUTS)), tuple(_tensors(definition, _OUTPUTS)))


def _tensors(definition: bytes, side: int) -> Iterator[Tensor]:
    maps = [part.read() for part in fields_of(definition) if part.number == side and part.is_bytes]
    for name, info in sorted(_entry(content) for content in maps):
        yield _tensor(name, info)


def _tensor(name: str, info: bytes) -> Tensor:
    dtype, shape = 0, b""
    for part in fields_of(info):
        if part.number == _DTYPE and not part.is_bytes:
            dtype = part.value
        elif part.number == _SHAPE and part.is_bytes:
            shape = part.read()
    return Tensor(name, tuple(_sides(shape)), _DTYPES.get(dtype, "an unknown type"))


def _sides(shape: bytes) -> Iterator[int]:
    """Nothing for an unknown rank, as for a scalar."""
    for part in fields_of(shape):
        if part.number == _DIM and part.is_bytes:
            sizes = [each.value for each in fields_of(part.read()) if each.number == _SIZE and not each.is_bytes]
            size = sizes[-1] if sizes else 0
            yield size if size < 1 << 63 else -1
