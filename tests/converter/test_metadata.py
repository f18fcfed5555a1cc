"""Packed metadata, read back by LiteRT and its schema, by zipfile and by MediaPipe."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.model_file.flatbuffer import FLOAT32, UINT8, Table
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    import numpy.typing as npt

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

ROOT = Path(__file__).parents[2]
ASSETS = ROOT.parent / "shared" / "assets"
DIGITS = ROOT / "demo" / "digits.tflite"
LABELS = ["zero", "eins", "двa", "trois", "4", "five six", "sei", "sju", "ocho", "neun"]


def pack(model: bytes, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "labels": LABELS,
        "mean": [127.5],
        "std": [64.0],
        "color": "gray",
        "name": "numbers",
        "version": "7",
    }
    return pack_metadata(model, **values | changes)


def bare(model: bytes) -> bytes:
    """Repack without metadata and labels, by the object API of LiteRT's schema."""
    import flatbuffers  # noqa: PLC0415  (only this function needs it)

    content = schema.ModelT.InitFromPackedBuf(model)
    content.metadata = None
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def entries(model: bytes) -> dict[str, bytes]:
    root = schema.Model.GetRootAs(model)
    found = [root.Metadata(index) for index in range(root.MetadataLength())]
    return {entry.Name().decode(): root.Buffers(entry.Buffer()).DataAsNumpy().tobytes() for entry in found}


def read_metadata(model: bytes) -> Table:
    content = entries(model)["TFLITE_METADATA"]
    assert content[4:8] == b"M001"
    return Table.root(content)


def weights(model: bytes) -> list[tuple[int, bytes]]:
    """Every buffer with data: its distance from a 16-byte boundary, and its content."""
    root = Table.root(model)
    found = []
    for buffer in root.tables(4):
        span = buffer.span(0)
        if span:
            start, size = span
            found.append((start % 16, model[start : start + size]))
    return found


def scores(model: bytes) -> npt.NDArray[Any]:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  (heavy)

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    images = np.random.default_rng(0).integers(0, 256, (20, *details["shape"]), dtype=np.uint8)
    answers = []
    for image in images:
        interpreter.set_tensor(details["index"], image)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(answers)


@pytest.fixture(scope="module")
def digits() -> bytes:
    return DIGITS.read_bytes()


def test_packed_model_answers_as_before(digits: bytes) -> None:
    assert np.array_equal(scores(pack(digits)), scores(digits))
    assert np.array_equal(scores(pack(bare(digits))), scores(digits))


def test_weights_keep_bytes_and_alignment(digits: bytes) -> None:
    before, after = weights(digits), weights(pack(digits))
    assert after[: len(before)] == before
    assert [distance for distance, _ in after[len(before) :]] == [0]


def test_labels_are_stored_uncompressed_at_the_offset_in_the_archive(digits: bytes) -> None:
    packed = pack(digits)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert packed[entry.header_offset : entry.header_offset + 4] == b"PK\3\4"
        assert archive.read(entry).decode() == "".join(f"{label}\n" for label in LABELS)


def test_texts_and_labels_are_in_their_fields(digits: bytes) -> None:
    packed = pack(digits, description="What", author="Who", license="MIT")
    metadata = read_metadata(packed)
    assert [metadata.string(field) for field in (0, 1, 2, 4, 5, 7)] == [
        "numbers",
        "What",
        "7",
        "Who",
        "MIT",
        "1.0.0",
    ]
    (score,) = metadata.tables(3)[0].tables(3)
    (labels,) = score.tables(6)
    assert (labels.string(0), labels.scalar(2, UINT8)) == ("labels.txt", 2)


def test_normalization_and_color_are_in_the_input_metadata(digits: bytes) -> None:
    (image,) = read_metadata(pack(digits)).tables(3)[0].tables(2)
    (unit,) = image.tables(4)
    normalization = unit.table(1)
    assert normalization is not None
    assert unit.scalar(0, UINT8) == 1
    assert (normalization.numbers(0, FLOAT32), normalization.numbers(1, FLOAT32)) == ([127.5], [64.0])
    content = image.table(3)
    assert content is not None
    properties = content.table(1)
    assert properties is not None
    assert (content.scalar(0, UINT8), properties.scalar(0, UINT8)) == (2, 2)


def test_packing_replaces_earlier_metadata(digits: bytes) -> None:
    once = pack(digits, name="old", labels=list("abcdefghij"))
    twice = pack(once)
    assert read_metadata(twice).string(0) == "numbers"
    assert zipfile.ZipFile(io.BytesIO(twice)).read("labels.txt").decode().split("\n")[0] == LABELS[0]
    assert len(zipfile.ZipFile(io.BytesIO(twice)).namelist()) == 1


def test_packing_is_reproducible(digits: bytes) -> None:
    assert pack(digits) == pack(digits)


def test_min_runtime_version_is_kept_unless_given(digits: bytes) -> None:
    assert entries(pack(digits))["min_runtime_version"] == entries(digits)["min_runtime_version"]
    given = entries(pack(digits, min_runtime_version="2.3.0"))["min_runtime_version"]
    assert given == b"2.3.0".ljust(16, b"\0")
    assert "min_runtime_version" not in entries(pack(bare(digits)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": LABELS[1:]}, "9 labels for 10 outputs"),
        ({"labels": [*LABELS[1:], "two\nlines"]}, "Label 9 must be one line"),
        ({"labels": [*LABELS[1:], " "]}, "Label 9 must be one line"),
        ({"color": "rgb"}, "Color rgb does not fit an input with 1 channels"),
        ({"mean": [1.0, 2.0]}, "2 means and 1 stds for 1 channels"),
        ({"std": [0.0]}, "A std must not be 0"),
    ],
)
def test_values_that_do_not_fit_the_model_are_refused(digits: bytes, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pack(digits, **changes)


def test_file_without_tfl3_identifier_is_refused() -> None:
    with pytest.raises(ValueError, match="TFL3 is missing"):
        pack(b"PK\3\4 is a zip, not a model")


@pytest.mark.assets
@pytest.mark.parametrize(
    ("path", "channels", "outputs"),
    [
        ("mobilenet_v1_025_224_float_metadata/mobilenet_v1_0.25_224_1_metadata_1.tflite", 3, 1001),
        ("mobilenet_v2_224_uint8/mobilenet_v2_1.0_224_quant.tflite", 1, 1001),
        ("mlperf_vww_96_int8/vww_96_int8.tflite", 3, 2),
    ],
)
def test_published_models_can_be_packed_and_loaded(path: str, channels: int, outputs: int) -> None:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  (heavy)

    model = (ASSETS / "models" / path).read_bytes()
    labels = [f"class {index}" for index in range(outputs)]
    packed = pack(model, labels=labels, mean=[127.5] * channels, std=[127.5] * channels, color="rgb")
    Interpreter(model_content=packed).allocate_tensors()
    before = weights(model)
    assert weights(packed)[: len(before)] == before


@pytest.mark.assets
def test_mediapipe_reads_the_labels() -> None:
    """With an RGB model, since MediaPipe 1.2 does not support grayscale models."""
    mediapipe = pytest.importorskip("mediapipe", reason="MediaPipe is only in .venv-converter")
    tasks = pytest.importorskip("mediapipe.tasks.python")
    model = (ASSETS / "models/mobilenet_v2_224_uint8/mobilenet_v2_1.0_224_quant.tflite").read_bytes()
    packed = pack(model, labels=[f"class {index}" for index in range(1001)], color="rgb")
    options = tasks.vision.ImageClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_buffer=packed), max_results=1
    )
    with tasks.vision.ImageClassifier.create_from_options(options) as classifier:
        photo = mediapipe.Image.create_from_file(str(ASSETS / "photos" / "hot_dog.jpg"))
        (best,) = classifier.classify(photo).classifications[0].categories
    assert best.category_name == "class 935"
