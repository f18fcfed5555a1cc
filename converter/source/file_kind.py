"""File kind: what a file is, by its first bytes, since names and endings are often wrong."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

FileKind = Literal["hdf5", "keras", "zip", "saved_model"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_TFLITE_ID = b"TFL3"
_ZIP = b"PK\x03\x04"
_PACKERS = (_ZIP, b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd")
READ = 4096  # bytes that tell what a file is

_FROM_PYTORCH = (
    "Export it in PyTorch as ONNX (torch.onnx.export), then make a SavedModel of that: onnx2tf -i FILE.onnx -o FOLDER."
)
_PYTORCH = f"a PyTorch model, or another pickle of Python, which can run any code. {_FROM_PYTORCH}"
_SAFETENSORS = f"a safetensors file, which has weights but no model. {_FROM_PYTORCH}"
_ONNX = "an ONNX model. Make a SavedModel of it first: onnx2tf -i FILE -o FOLDER."
_ORIGINAL = "Give the model that it was made from."
_CORE_ML = f"a Core ML model, which cannot be changed into a SavedModel. {_ORIGINAL}"
_OPENVINO = f"an OpenVINO model, which cannot be changed into a SavedModel. {_ORIGINAL}"
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
_CONFIG = "the configuration of a Keras model without its weights. Save the whole model: model.save('model.keras')."
_CHECKPOINT = (
    "part of a TensorFlow checkpoint or SavedModel, which has weights but no model. Give the folder with "
    "saved_model.pb, or load the weights in the program that trained them: model.load_weights(), model.export(folder)."
)
_ARRAYS = "a file of NumPy, which has weights but no model. Save the whole model: model.save('model.keras')."
_PACKED = "a packed file. Unpack it and give the model in it."
_POINTER = "a pointer of Git LFS, not the file itself. Fetch that in the repository: git lfs pull."
_WEB_PAGE = "a web page, so the download failed. Download the model again."
_EMPTY = "empty. Copy it again."
_CUT_OFF = "an incomplete archive. Copy it again."
_UNKNOWN = "not a trained model. Give a SavedModel folder, a .keras file or an .h5 file."


def file_kind(path: Path) -> FileKind | None:
    """The kind that can be opened, or None."""
    begin = _first_bytes(path)
    if is_hdf5(begin):
        return "hdf5"
    if begin[4:8] == _TFLITE_ID:  # also a zip, if files are packed into it
        return None
    if zipfile.is_zipfile(path):
        names = _names(path)
        if {"config.json", "metadata.json"} <= names:
            return "keras"
        return None if _is_pytorch(names) else "zip"
    return "saved_model" if path.name == "saved_model.pb" and known_kind(begin, path.name) in (None, _RENAMED) else None


def is_hdf5(begin: bytes) -> bool:
    return begin.startswith(_HDF5)


def foreign_kind(path: Path) -> str:
    """What a file of another kind is, and how to get a SavedModel: `a PyTorch model. Export it ...`."""
    if _is_pytorch(_names(path)):
        return _PYTORCH
    begin = _first_bytes(path)
    return _CUT_OFF if begin.startswith(_ZIP) else known_kind(begin, path.name) or _UNKNOWN


def known_kind(begin: bytes, name: str) -> str | None:
    """As foreign_kind(), from the first bytes of a file; None if they are of no known kind."""
    text = begin.lstrip().lower()
    kinds = (
        (not begin, _EMPTY),
        (begin[4:8] == _TFLITE_ID, _TFLITE),
        (re.match(rb"\x08.\x12[\x01-\x7f]\n", begin, re.DOTALL) is not None, _CORE_ML),
        (begin.startswith(b"\x08\x01\x12"), _RENAMED),
        (begin[:1] == b"\x08" and begin[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42"), _ONNX),
        (begin[:1] == b"\x80" and begin[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), _PYTORCH),
        (begin[8:9] == b"{" and b'"dtype"' in begin, _SAFETENSORS),
        (_is_graph(begin), _GRAPH),
        (text[:1] == b"{" and b"modeltopology" in text, _TENSORFLOW_JS),
        (text[:1] == b"{" and b'"class_name"' in text, _CONFIG),
        (re.search(r"\.(index|data-\d+-of-\d+)$", name) is not None, _CHECKPOINT),
        (begin.startswith(b"\x93NUMPY") or name.endswith(".npz"), _ARRAYS),
        (begin.startswith(_PACKERS), _PACKED),
        (begin[257:262] == b"ustar", _PACKED),
        (begin.startswith(b"version https://git-lfs"), _POINTER),
        (text.startswith((b"<!doctype html", b"<html")), _WEB_PAGE),
        (b"<net " in begin and text.startswith(b"<"), _OPENVINO),
    )
    return next((what for is_it, what in kinds if is_it), None)


def _is_graph(begin: bytes) -> bool:
    """Whether it begins as a GraphDef does: with its first node, of which the name and the operator come first."""
    node = re.match(rb"\x0a[\x80-\xff]*[\x01-\x7f]\x0a([\x01-\x7f])", begin, re.DOTALL)
    operator = begin[node.end() + node[1][0] :] if node else b""
    return re.match(rb"\x12[\x01-\x7f][A-Z]\w+", operator, re.DOTALL) is not None


def _is_pytorch(names: set[str]) -> bool:
    return any(name.endswith(("/data.pkl", "/constants.pkl")) for name in names)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(READ)


def _names(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return set()
