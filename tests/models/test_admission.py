from __future__ import annotations

import hashlib
import io
import os
import zipfile
from typing import TYPE_CHECKING

import pytest
from models_on_disk import BARE_DIGITS, DIGIT_LABELS, DIGITS, digits, make_admission, photo_of_3

from agent.errors import ModelError
from agent.models.settings import ModelSettings

if TYPE_CHECKING:
    from pathlib import Path

    from agent.models.admission import Admission, AdmittedModel

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def admit(
    folder: Path,
    content: bytes,
    *,
    text: str | None = None,
    yaml: str | None = None,
    admission: Admission | None = None,
) -> AdmittedModel:
    path = folder / "m.tflite"
    path.write_bytes(content)
    if text is not None:
        path.with_suffix(".txt").write_text(text)
    if yaml is not None:
        path.with_suffix(".yaml").write_text(yaml)
    return (admission or make_admission()).admit(path, name="m")


def label_of(admitted: AdmittedModel) -> str:
    (category,), _, _ = admitted.classifiers[0].classify(photo_of_3(), max_results=1, score_threshold=0)
    return category.label


def test_admitted_model_has_a_classifier_for_each_worker(tmp_path: Path) -> None:
    admitted = admit(tmp_path, DIGITS, admission=make_admission(workers=3))
    assert len(set(admitted.classifiers)) == 3
    for classifier in admitted.classifiers:
        (category,), _, _ = classifier.classify(photo_of_3(), max_results=1, score_threshold=0)
        assert category.label == "3"


def test_hash_is_that_of_the_file(tmp_path: Path) -> None:
    assert admit(tmp_path, DIGITS).sha256 == hashlib.sha256(DIGITS).hexdigest()


def test_metadata_gives_way_to_sidecars_and_these_to_the_configuration(tmp_path: Path) -> None:
    content = digits(labels=[f"packed {n}" for n in range(10)])
    assert label_of(admit(tmp_path, content)) == "packed 3"
    assert label_of(admit(tmp_path, content, text="\n".join(WORDS))) == "three"
    assert label_of(admit(tmp_path, content, yaml="labels: [a, b, c, d, e, f, g, h, i, j]")) == "d"
    configured = make_admission(settings={"m": ModelSettings(labels=tuple("ABCDEFGHIJ"))})
    admitted = admit(tmp_path, content, admission=configured)
    assert label_of(admitted) == "D"
    assert admitted.settings.mean == (0.0,)  # what the later places do not say stays


def test_settings_of_another_name_are_not_used(tmp_path: Path) -> None:
    others = make_admission(settings={"n": ModelSettings(labels=WORDS)})
    assert label_of(admit(tmp_path, DIGITS, admission=others)) == "3"


def test_numbered_label_file_beside_a_bare_model_names_its_outputs(tmp_path: Path) -> None:
    assert label_of(admit(tmp_path, BARE_DIGITS, text="".join(f"{n} {w}\n" for n, w in enumerate(WORDS)))) == "three"


def test_bad_sidecar_refuses_the_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m.yaml has the unknown key 'maen'"):
        admit(tmp_path, DIGITS, yaml="maen: 127.5")


def test_labels_of_another_model_beside_it_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There are 3 labels for 10 outputs"):
        admit(tmp_path, DIGITS, text="a\nb\nc\n")


@pytest.mark.parametrize("percent", [99.9, 99, 97, 50])
def test_cut_off_file_is_refused_before_the_runtime_sees_it(tmp_path: Path, percent: float) -> None:
    with pytest.raises(ModelError, match="damaged or not wholly copied"):
        admit(tmp_path, DIGITS[: int(len(DIGITS) * percent / 100)])


@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b"\x89HDF\r\n\x1a\n" + bytes(99)])
def test_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match=r"empty|not TFL3|Keras .h5"):
        admit(tmp_path, content)


def test_keras_archive_is_refused_with_the_converter_named(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(100))
    with pytest.raises(ModelError, match=r"zip archive .*edge-convert convert"):
        admit(tmp_path, stream.getvalue())


@pytest.mark.assets
def test_keras_h5_file_is_refused_with_the_converter_named(tmp_path: Path, assets: Path) -> None:
    with pytest.raises(ModelError, match=r"Keras .h5 file.*edge-convert convert"):
        admit(tmp_path, (assets / "h5" / "vww_96.h5").read_bytes())


def test_file_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: nothing is on the disk
    with pytest.raises(ModelError, match=r"more than 16 MB.*models\.max_mb"):
        make_admission().admit(path, name="m")


def test_file_at_the_limit_is_admitted(tmp_path: Path) -> None:
    assert admit(tmp_path, DIGITS, admission=make_admission(max_bytes=len(DIGITS))).sha256
    with pytest.raises(ModelError, match="more than"):
        admit(tmp_path, DIGITS, admission=make_admission(max_bytes=len(DIGITS) - 1))


def test_what_takes_the_place_of_the_file_is_refused_without_waiting(tmp_path: Path) -> None:
    link, fifo, folder, nothing = (tmp_path / name for name in ("link", "fifo", "folder", "nothing"))
    (tmp_path / "real").write_bytes(DIGITS)
    link.symlink_to(tmp_path / "real")
    os.mkfifo(fifo)
    folder.mkdir()
    for path in (link, fifo, folder, nothing):
        with pytest.raises(ModelError, match="cannot be read"):
            make_admission().admit(path, name="m")


def test_model_stays_whole_when_its_file_is_overwritten(tmp_path: Path) -> None:
    admitted = admit(tmp_path, DIGITS)
    with (tmp_path / "m.tflite").open("r+b") as file:
        file.truncate(10)
    assert label_of(admitted) == "3"
    assert admitted.file.settings.labels == DIGIT_LABELS
