"""Model files under wrong names, in a .zip, and of other kinds, which are named with the way to a SavedModel."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.errors import AgentError
from converter.source.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

tf = pytest.importorskip("tensorflow", reason="TensorFlow has an environment of its own: .venv-converter")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # Keras saves


@pytest.fixture(scope="module")
def hdf5(small_model: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return saved(small_model, tmp_path_factory.mktemp("hdf5") / "m.h5")


@pytest.fixture(scope="module")
def archive(small_model: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return saved(small_model, tmp_path_factory.mktemp("archive") / "m.keras")


def saved(model: Any, path: Path) -> bytes:
    copy = tf.keras.models.clone_model(model)  # saving changes how Keras saves the same object again
    copy.set_weights(model.get_weights())
    copy.save(path)
    return path.read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(AgentError) as raised:
        open_source(path)
    said = str(raised.value)
    assert str(path) in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", ["m.keras", "m.H5", "m.hd5", "m.hdf5", "m", "m.weights", "m.zip", "saved_model.pb"])
def test_hdf5_file_is_read_whatever_its_name_is(name: str, hdf5: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(hdf5)
    source = open_source(tmp_path / name)
    assert (source.kind, source.path, source.size_bytes) == ("Keras .h5 file", tmp_path / name, len(hdf5))


@pytest.mark.parametrize("name", ["m.h5", "m.KERAS", "m.zip", "m"])
def test_keras_archive_is_read_whatever_its_name_is(name: str, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(archive)
    assert open_source(tmp_path / name).kind == "Keras .keras file"


def test_the_graph_of_a_saved_model_stands_for_its_folder(small_saved_model: Path) -> None:
    source = open_source(small_saved_model / "saved_model.pb")
    assert (source.path, source.sha256) == (small_saved_model, open_source(small_saved_model).sha256)


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in files.items():
            written.writestr(name, content)
    return path


def folder_zipped(folder: Path, path: Path) -> Path:
    files = {str(file.relative_to(folder.parent)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return zipped(path, files | {"__MACOSX/colors/._saved_model.pb": b"", "readme.txt": b""})


def test_the_only_model_in_a_zip_is_read(
    hdf5: bytes, archive: bytes, small_saved_model: Path, small_model: Any, tmp_path: Path
) -> None:
    image = tf.random.stateless_uniform((1, 32, 32, 3), seed=(1, 2))
    folder_zipped(small_saved_model, tmp_path / "folder.zip")
    zipped(tmp_path / "hdf5.zip", {"teachable/keras_model.h5": hdf5, "teachable/labels.txt": b"0 a\n1 b\n"})
    zipped(tmp_path / "archive.zip", {"model.keras": archive})
    for name in ("folder.zip", "hdf5.zip", "archive.zip"):
        source = open_source(tmp_path / name)
        (key,) = {signature.key for signature in source.signatures} - {"serve"}
        (scores,) = source.calls[key](image=image).values()
        assert abs(scores - small_model(image)).numpy().max() < 1e-5
        assert (source.path, source.size_bytes) == (tmp_path / name, (tmp_path / name).stat().st_size)
        assert len(source.sha256) == 64


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"m.tflite": b"\x1c\0\0\0TFL3"},
            "contains m.tflite, which is already a TensorFlow Lite model. An agent serves",
        ),
        ({"a/m.zip": b"PK\x03\x04"}, "contains a/m.zip, which is a packed file. Unpack it and give the model in it."),
        ({"labels.txt": b""}, "contains no model. Put a SavedModel folder, a .keras file or an .h5 file in it"),
        ({"a.h5": b"", "b/saved_model.pb": b""}, "contains 2 models (a.h5, b/saved_model.pb). Unpack it and give one"),
        ({"m.h5": bytes(20_000_000)}, "would take 20 MB in 1 files. Unpack it yourself and give the model."),
        ({"m.h5": b"none"}, "is not a trained model. Give"),
        ({"m/saved_model.pb": b"none"}, "is damaged"),
        ({"../m.h5": b"none"}, "is not a trained model. Give"),
        ({"m/saved_model.pb": b"", "m/a/../../../x": b""}, "has a file with the path"),
    ],
)
def test_zip_without_one_model_is_refused_with_what_to_do(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    assert said in refusal(zipped(tmp_path / "m.zip", files))
    assert [path.name for path in tmp_path.iterdir()] == ["m.zip"]


def test_damaged_zip_is_refused(hdf5: bytes, tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.zip", {"m.h5": hdf5})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "cannot be unpacked: " in refusal(path)


def torch_archive(path: Path) -> None:
    zipped(path, {"archive/data.pkl": b"\x80\x02.", "archive/data/0": b""})


def torch_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": {}}, protocol=2))


def onnx(path: Path) -> None:
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x04main")


def tflite(path: Path) -> None:
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))


def tflite_with_files(path: Path) -> None:
    tflite(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "red\n")


def safetensors(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def frozen_graph(path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf.compat.v1.placeholder(tf.float32, (1, 8, 8, 3), name="input")
    path.write_bytes(graph.as_graph_def().SerializeToString())


def tensorflow_js(path: Path) -> None:
    path.write_text(json.dumps({"format": "layers-model", "modelTopology": {}}))


def core_ml(path: Path) -> None:
    path.write_bytes(b"\x08\x01\x12\x30\x0a\x14" + bytes(60))


def git_lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html>\n<html>")


def tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("m/saved_model.pb"))


def start_of_an_archive(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(100))


def keras_config(path: Path) -> None:
    path.write_text(json.dumps({"module": "keras", "class_name": "Functional", "config": {}}))


def checkpoint(path: Path) -> None:
    tf.train.Checkpoint(weight=tf.Variable(1.0)).write(str(path.with_name("m.ckpt")))


def arrays(path: Path) -> None:
    np.savez(path, weight=np.ones(3))


def openvino(path: Path) -> None:
    path.write_text('<?xml version="1.0"?>\n<net name="m" version="11">')


def nothing(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("a model?")


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        (
            "m.pt",
            torch_archive,
            "is a PyTorch model, or another pickle of Python, which can run any code. Export it in",
        ),
        ("m.pth", torch_pickle, "then make a SavedModel of that: onnx2tf -i FILE.onnx -o FOLDER."),
        ("m.onnx", onnx, "is an ONNX model. Make a SavedModel of it first: onnx2tf -i FILE -o FOLDER."),
        ("m.tflite", tflite, "is already a TensorFlow Lite model. An agent serves it as it is"),
        ("m.tflite", tflite_with_files, "is already a TensorFlow Lite model. An agent serves it as it is"),
        ("m.safetensors", safetensors, "is a safetensors file, which has weights but no model."),
        ("frozen.pb", frozen_graph, "is a frozen graph of TensorFlow 1, which does not name its input and output."),
        ("model.json", tensorflow_js, "is a TensorFlow.js model. Convert it back: tensorflowjs_converter"),
        ("m.keras", onnx, "is an ONNX model."),
        ("m.h5", tflite, "is already a TensorFlow Lite model."),
        ("m.keras", torch_archive, "is a PyTorch model"),
        ("saved_model.pb", frozen_graph, "is a frozen graph of TensorFlow 1"),
        ("frozen.bin", frozen_graph, "is a frozen graph of TensorFlow 1"),
        ("m.mlmodel", core_ml, "is a Core ML model, which cannot be changed into a SavedModel. Give the model"),
        ("m.xml", openvino, "is an OpenVINO model, which cannot be changed into a SavedModel. Give the model"),
        ("m.h5", git_lfs_pointer, "is a pointer of Git LFS, not the file itself. Fetch that in the repository: git"),
        ("m.h5", web_page, "is a web page, so the download failed. Download the model again."),
        ("m.tar.gz", tar, "is a packed file. Unpack it and give the model in it."),
        ("m.keras", start_of_an_archive, "is an incomplete archive. Copy it again."),
        ("m.json", keras_config, "is the configuration of a Keras model without its weights. Save the whole model"),
        ("m.ckpt.index", checkpoint, "is part of a TensorFlow checkpoint or SavedModel, which has weights but no mod"),
        ("m.npz", arrays, "which is a file of NumPy, which has weights but no model. Save the whole model"),
        ("m.h5", nothing, "is empty. Copy it again."),
        ("m.keras", text, "is not a trained model."),
        ("m.h5", text, "is not a trained model."),
        ("m.bin", text, "is not a trained model. Give a SavedModel folder, a .keras file or an .h5 file."),
    ],
)
def test_another_kind_of_file_is_named_with_the_way_to_a_saved_model(
    name: str, write: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    assert said in refusal(tmp_path / name)


def test_renamed_graph_of_a_saved_model_is_refused_with_its_name(small_saved_model: Path, tmp_path: Path) -> None:
    shutil.copy(small_saved_model / "saved_model.pb", tmp_path / "flowers.pb")
    assert "is the graph of a SavedModel under another name. Name it saved_model.pb again" in refusal(
        tmp_path / "flowers.pb"
    )


def test_folder_around_a_saved_model_is_refused_with_the_folder_to_give(
    small_saved_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_saved_model, tmp_path / "colors" / "1")
    assert f"is not a SavedModel, but {tmp_path / 'colors' / '1'} is. Give that folder." in refusal(tmp_path / "colors")


def test_unpacked_keras_file_is_refused_with_what_to_do(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(archive)
    with zipfile.ZipFile(tmp_path / "m.keras") as packed:
        packed.extractall(tmp_path / "m")
    assert "is an unpacked .keras file. Give the file itself, or pack the files into a .zip." in refusal(tmp_path / "m")
    shutil.make_archive(str(tmp_path / "again"), "zip", tmp_path / "m")
    assert open_source(tmp_path / "again.zip").kind == "Keras .keras file"
