"""File kind: what a file is, by its first bytes, since names and endings are often wrong."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

FileKind = Literal["hdf5", "keras", "zip", "saved_model"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_GRAPH_BEGIN = re.compile(rb"\x0a[\x01-\xff].{0,3}\x0a", re.DOTALL)  # a GraphDef begins with its first node

_FROM_PYTORCH = (
    "Export it in PyTorch as ONNX (torch.onnx.export), then make a SavedModel of that: onnx2tf -i FILE.onnx -o FOLDER."
)
_PYTORCH = f"a PyTorch model, or another pickle of Python, which can run any code. {_FROM_PYTORCH}"
_SAFETENSORS = f"a safetensors file, which has weights but no model. {_FROM_PYTORCH}"
_ONNX = "an ONNX model. Make a SavedModel of it first: onnx2tf -i FILE -o FOLDER."
_TFLITE = (
    "already a TensorFlow Lite model. An agent serves it as it is, and edge-convert evaluate measures it. To quantize "
    "or label it, convert the model that it was made from."
)
_GRAPH = (
    "a frozen graph of TensorFlow 1, which does not name its input and output. Import it in TensorFlow and save it "
    "as a SavedModel with tf.compat.v1.saved_model.simple_save."
)
_RENAMED = "the graph of a SavedModel under another name. Name it saved_model.pb again and give its folder."
_TENSORFLOW_JS = (
    "a TensorFlow.js model. Convert it back: tensorflowjs_converter --input_format tfjs_layers_model "
    "--output_format keras FILE model.h5."
)
_UNKNOWN = "not a trained model. Give a SavedModel folder, a .keras file or an .h5 file."


def file_kind(path: Path) -> FileKind | None:
    """The kind that can be opened, or None."""
    begin = _first_bytes(path)
    if begin.startswith(_HDF5):
        return "hdf5"
    if zipfile.is_zipfile(path):
        names = _names(path)
        if {"config.json", "metadata.json"} <= names or path.suffix == ".keras":
            return "keras"
        return None if _is_pytorch(names) else "zip"
    return "saved_model" if path.name == "saved_model.pb" else None


def foreign_kind(path: Path) -> str:
    """What a file of another kind is, and how to get a SavedModel: `a PyTorch model. Export it ...`."""
    begin = _first_bytes(path)
    kinds = (
        (begin[4:8] == b"TFL3", _TFLITE),
        (begin.startswith(b"\x08\x01\x12"), _RENAMED),
        (begin[:1] == b"\x08" and begin[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42"), _ONNX),
        (begin[:1] == b"\x80" and begin[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), _PYTORCH),
        (zipfile.is_zipfile(path) and _is_pytorch(_names(path)), _PYTORCH),
        (begin[8:9] == b"{" and b'"dtype"' in begin, _SAFETENSORS),
        (path.suffix == ".pb" and _GRAPH_BEGIN.match(begin), _GRAPH),
        (begin.lstrip()[:1] == b"{" and b"modelTopology" in begin, _TENSORFLOW_JS),
    )
    return next((what for is_it, what in kinds if is_it), _UNKNOWN)


def _is_pytorch(names: set[str]) -> bool:
    return any(name.endswith(("/data.pkl", "/constants.pkl")) for name in names)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _names(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return set()
