from __future__ import annotations

import io
import random
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agents.models_on_disk import BARE_DIGITS, DIGIT_LABELS, DIGITS, digits, with_free_height

from agent.errors import ModelError
from agent.model_file.metadata import Operator, Tensor, _only_fitting_labels, read_model_file
from agent.model_file.packed_files import PackedFiles
from agent.model_file.settings import ModelSettings
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from pathlib import Path

ONE_255TH = float(np.float32(1 / 255))
ZIP_START = DIGITS.rindex(b"PK\x03\x04")


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The digits model with other packed files."""
    stream = io.BytesIO(DIGITS[:ZIP_START])
    with zipfile.ZipFile(stream, "a", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_all_metadata_of_the_file_is_read() -> None:
    model = read_model_file(digits("7.1"))
    assert model.inputs == (Tensor("serving_default_image:0", (1, 32, 32, 1), "uint8", ONE_255TH, 0, alias="image"),)
    assert [(t.shape, t.dtype, t.scale) for t in model.outputs] == [((1, 10), "uint8", 1 / 256)]
    assert Operator(3, 3) in model.operators
    assert model.settings == ModelSettings(
        labels=DIGIT_LABELS, mean=(0.0,), std=(255.0,), color="gray", score="probability"
    )
    assert (model.name, model.version, model.min_runtime_version) == ("digits", "7.1", "1.14.0")
    assert model.packed_files == ("labels.txt",)


def test_repr_does_not_contain_the_content_of_the_model() -> None:
    assert len(repr(read_model_file(DIGITS))) < 3000


def test_file_without_metadata_has_only_the_score_setting() -> None:
    model = read_model_file(BARE_DIGITS)
    assert model.settings == ModelSettings(score="probability")
    assert model.inputs[0].shape == (1, 32, 32, 1)


def test_open_height_is_a_free_dimension() -> None:
    assert read_model_file(with_free_height()).inputs[0].free_dimensions
    assert not read_model_file(DIGITS).inputs[0].free_dimensions


@pytest.mark.parametrize("percent", [99.9, 99, 97, 50, 10])
def test_truncated_copy_is_reported_as_damaged(percent: float) -> None:
    with pytest.raises(ModelError, match="damaged or incomplete"):
        read_model_file(DIGITS[: int(len(DIGITS) * percent / 100)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty"),
        (b"Not Found\n", "bytes 4 to 7 are not TFL3"),
        (b"PK\x03\x04 config.json", r"zip archive \(a .keras file\?\).*edge-convert"),
        (b"\x89HDF\r\n\x1a\n", "Keras .h5 file.*edge-convert"),
        (b"\x1c\0\0\0TFL3", "damaged"),
    ],
)
def test_file_of_another_format_is_named_in_the_error(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read_model_file(content)


def test_file_is_damaged_when_its_label_file_is_missing() -> None:
    with pytest.raises(ModelError, match=r"label file labels\.txt, named in the metadata, is missing"):
        read_model_file(zipped({"other.txt": b"0\n"}))


def test_deflated_labels_are_read_too() -> None:
    labels = "\n".join(DIGIT_LABELS).encode()
    model = read_model_file(zipped({"labels.txt": labels}, zipfile.ZIP_DEFLATED))
    assert model.settings.labels == DIGIT_LABELS


def test_file_is_damaged_when_its_deflated_labels_are() -> None:
    content = bytearray(zipped({"labels.txt": b"abc " * 500}, zipfile.ZIP_DEFLATED))
    start = content.rindex(b"PK\x03\x04") + 30 + len("labels.txt")
    content[start : start + 6] = b"\xff" * 6
    with pytest.raises(ModelError, match="packed files cannot be read"):
        read_model_file(bytes(content))


def test_label_file_in_another_encoding_is_refused() -> None:
    with pytest.raises(ModelError, match=r"labels.txt is not UTF-8"):
        read_model_file(zipped({"labels.txt": b"caf\xe9\n"}))


def test_zip_bomb_among_the_packed_files_is_not_unpacked() -> None:
    bomb = {"labels.txt": "\n".join(DIGIT_LABELS).encode(), "bomb": bytes(17 << 20)}
    model = read_model_file(zipped(bomb, zipfile.ZIP_DEFLATED))
    assert model.packed_files == ("labels.txt", "bomb")
    assert model.settings.labels == DIGIT_LABELS


def test_packed_files_without_a_reference_are_not_unpacked() -> None:
    files = {"labels.txt": "\n".join(DIGIT_LABELS).encode()} | {f"{n}.txt": bytes(4 << 20) for n in range(8)}
    content = zipped(files, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        model = read_model_file(content)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert len(model.packed_files) == 9


def test_label_file_larger_than_a_megabyte_is_refused() -> None:
    with pytest.raises(ModelError, match=r"labels\.txt is larger than 1 MB"):
        read_model_file(zipped({"labels.txt": bytes((1 << 20) + 1)}, zipfile.ZIP_DEFLATED))


def test_label_file_with_an_unbounded_compression_is_refused() -> None:
    with pytest.raises(ModelError, match=r"labels\.txt uses a compression method"):
        read_model_file(zipped({"labels.txt": b"0\n"}, zipfile.ZIP_BZIP2))


def test_small_text_files_are_possible_labels_when_no_label_file_is_named() -> None:
    files = {"big.txt": bytes((1 << 20) + 1), "model.bin": b""} | {f"{n}.txt": b"a\nb\n" for n in range(20)}
    packed = PackedFiles(zipped(files, zipfile.ZIP_DEFLATED))
    assert packed.small_files(".txt") == [f"{n}.txt" for n in range(8)]
    assert _only_fitting_labels(packed, [Tensor("o", (1, 2), "uint8")]) is None  # eight files fit
    packed = PackedFiles(zipped({"a.txt": b"a\nb\n", "b.txt": b"a\n"}))
    assert _only_fitting_labels(packed, [Tensor("o", (1, 2), "uint8")]) == ("a", "b")
    packed = PackedFiles(zipped({"a.txt": b"a\nb\n", "labels.txt": b"c\nd\n", "license.txt": b"\xff"}))
    assert _only_fitting_labels(packed, [Tensor("o", (1, 2), "uint8")]) == ("c", "d")


def test_packed_labels_are_used_when_the_file_has_no_metadata() -> None:
    stream = io.BytesIO(BARE_DIGITS)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{number} n{number}\n" for number in (0, 1, 9, 2, 3, 4, 5, 6, 7, 8)))
    assert read_model_file(stream.getvalue()).settings.labels == tuple(f"n{number}" for number in range(10))


def test_damaged_metadata_raises_only_model_errors() -> None:
    """A sample of the seeds that were run once: damaged zip offsets and names, empty operators."""
    refused = 0
    for seed in range(700):
        chance = random.Random(seed)
        content = bytearray(DIGITS)
        for _ in range(chance.choice([1, 2, 5, 20])):
            near_the_end = len(content) - 1 - chance.randrange(chance.choice([300, 9000, len(content)]))
            content[near_the_end] = chance.choice([0, 127, 128, 255, chance.randrange(256)])
        try:
            read_model_file(bytes(content))
        except ModelError:
            refused += 1
    assert 150 < refused < 700


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "probabilities", "labels", "mean"),
    [
        ("mlperf_vww_96_float", True, None, None),
        ("mlperf_vww_96_int8", True, None, None),
        ("mobilenet_v1_025_128_uint8", True, None, None),
        ("mobilenet_v1_025_224_float", True, None, None),
        ("mobilenet_v1_025_224_float_metadata", True, 1001, (127.5,)),
        ("mobilenet_v1_025_224_quant_broken_metadata", True, 1001, None),
        ("mobilenet_v2_224_quant_nometadata", False, None, None),
        ("mobilenet_v2_224_uint8", True, 1001, (127.5,)),
    ],
)
def test_published_models_are_read(
    assets: Path, name: str, *, probabilities: bool, labels: int | None, mean: tuple[float, ...] | None
) -> None:
    path = next((assets / "models" / name).glob("*.tflite"))
    model = read_model_file(path.read_bytes())
    assert (model.settings.score == "probability") is probabilities
    assert (len(model.settings.labels) if model.settings.labels else None) == labels
    assert model.settings.mean == model.settings.std == mean


@pytest.mark.assets
@pytest.mark.parametrize("percent", [99.9, 99, 97, 50])
def test_truncated_published_model_is_refused(assets: Path, percent: float) -> None:
    for path in sorted((assets / "models").glob("*/*.tflite")):
        whole = path.read_bytes()
        try:
            model = read_model_file(whole[: int(len(whole) * percent / 100)])
        except ModelError as error:
            assert "damaged" in str(error)  # noqa: PT017  (the only other outcome is below)
        else:
            assert model.settings.labels is None  # its metadata names no label file, and its zip archive is cut off
            assert "broken_metadata" in str(path)


def test_provenance_of_an_untrusted_file_is_printable() -> None:
    deep: object = "end"
    for _ in range(900):
        deep = [deep]
    provenance = {"source": {"name": "\x1b[31m\ud800\nbirds"}, "deep": deep, "scheme": "int8", "drop": 0.5}
    model = pack_metadata(
        BARE_DIGITS,
        labels=DIGIT_LABELS,
        mean=[0.0],
        std=[255.0],
        color="gray",
        name="digits",
        version="1",
        additions={"provenance": provenance},
    )
    read = read_model_file(model).provenance
    assert read == {"source": {"name": " [31m  birds"}, "deep": [[[None]]], "scheme": "int8", "drop": 0.5}
