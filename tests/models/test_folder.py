from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from agents.models_on_disk import write_whole

from agent.models.folder import ModelFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG_S = 60.0


def listed(folder: Path) -> dict[str, list[tuple[str, int | None]]]:
    drops = ModelFolder(folder).list()
    return {name: [(str(drop.path.relative_to(folder)), drop.version) for drop in each] for name, each in drops.items()}


def fingerprint(folder: Path, name: str = "m") -> tuple[tuple[int, int, int], ...]:
    (drop,) = ModelFolder(folder).list()[name]
    return drop.fingerprint


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"model")


def test_list_has_files_of_both_layouts_with_the_highest_version_first(tmp_path: Path) -> None:
    for file in ("a.tflite", "b.c.tflite", "a/2/model.tflite", "a/10/model.tflite", "a/007/model.tflite"):
        put(tmp_path / file)
    assert listed(tmp_path) == {
        "a": [("a/10/model.tflite", 10), ("a/007/model.tflite", 7), ("a/2/model.tflite", 2), ("a.tflite", None)],
        "b.c": [("b.c.tflite", None)],
    }


def test_drop_names_its_file_inside_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "a.tflite")
    put(tmp_path / "a" / "7" / "model.tflite")
    assert [drop.file for drop in ModelFolder(tmp_path).list()["a"]] == ["a/7/model.tflite", "a.tflite"]


def test_file_is_not_listed_when_it_is_unfinished_or_not_a_regular_file(tmp_path: Path) -> None:
    for file in (
        ".hidden.tflite",
        "m.tflite~",
        "m.tflite.part",
        "m.tflite.tmp",
        "m.tflite.filepart",
        ".m.tflite.aXb3",
        "m.keras",
        "tflite",
        "loose/model.tflite",
        "n/latest/model.tflite",
        "n/-1/model.tflite",
        "n/²/model.tflite",
        "n/1.tmp/model.tflite",
        "n/1/other.tflite",
        ".n/1/model.tflite",
        "n/2/model.tflite/model.tflite",
        "folder.tflite/1.txt",
    ):
        put(tmp_path / file)
    put(tmp_path.parent / "elsewhere.tflite")
    (tmp_path / "link.tflite").symlink_to(tmp_path.parent / "elsewhere.tflite")
    (tmp_path / "dangling.tflite").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo.tflite")
    assert listed(tmp_path) == {}


def test_upper_case_and_lite_are_models(tmp_path: Path) -> None:
    for file in ("UPPER.TFLITE", "coral.lite", "a/1/model.lite", "a/2/MODEL.TFLITE", "b.Lite", "b.tflite"):
        put(tmp_path / file)
    folder = ModelFolder(tmp_path)
    assert listed(tmp_path) == {
        "UPPER": [("UPPER.TFLITE", None)],
        "coral": [("coral.lite", None)],
        "a": [("a/2/MODEL.TFLITE", 2), ("a/1/model.lite", 1)],
        "b": [("b.tflite", None)],
    }
    folder.list()
    assert folder.overlooked == ("b.Lite is ignored: b.tflite has the same name. Rename one of them.",)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("birds.tflite.txt", "its labels are in birds.txt. Rename the file"),
        ("birds.tflite.bin", "the name of a model ends in .tflite"),
        ("converted_tflite.zip", "it is an archive. Unpack it"),
        ("birds.tflite.GZ", "it is an archive. Unpack it"),
        ("birds.tflite (1)", "the name of a model ends in .tflite"),
        ("birds.tflite_old", "the name of a model ends in .tflite"),
        ("birds.task", "it is not a .tflite file"),
        ("birds.onnx", "it is not a .tflite file. Convert the model"),
        ("m/1/other.tflite", "the file of a version is called model.tflite"),
        ("m/1/model.keras", "it is not a .tflite file. Convert the model"),
        ("m/1/saved_model.pbtxt", "only the binary form is read. Save it as one saved_model.pb"),
        ("m/saved_model.pb", "put the SavedModel into the folder of a version, such as m/1/saved_model.pb"),
        ("m/v2/saved_model.pb", "the name of a version's folder is a whole number, such as 2"),
        ("m/model.tflite", "put it into the folder of a version, such as m/1/model.tflite"),
        ("m/2024-05-01/model.tflite", "the name of a version's folder is a whole number, such as 20240501"),
        ("m/v2/x.lite", "the name of a version's folder is a whole number, such as 2"),
    ],
)
def test_file_that_looks_like_a_model_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, words: str
) -> None:
    put(tmp_path / file)
    folder = ModelFolder(tmp_path)
    for _ in range(3):
        assert folder.list() == {}
    (record,) = caplog.records
    (sentence,) = folder.overlooked
    assert record.getMessage() == sentence
    assert sentence.startswith(f"{file} is ignored: ")
    assert words in sentence
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    folder.list()
    assert folder.overlooked == ()


def test_file_that_belongs_to_a_model_is_not_reported(tmp_path: Path) -> None:
    for file in (
        "m.tflite",
        "m.txt",
        "m.yaml",
        "labels.txt",
        "m.tflite.sha256",
        "m.tflite.minisig",
        "m.tflite.rejected.txt",
        "n.tflite.crdownload",
        "README.md",
        "m/1/model.tflite",
        "m/1/variables/x.txt",
        "m/1/other.tflite.part",
    ):
        put(tmp_path / file)
    folder = ModelFolder(tmp_path)
    folder.list()
    assert folder.overlooked == ()


def test_report_has_no_control_codes_and_is_unicode(tmp_path: Path) -> None:
    put(tmp_path / "a\x1b[31m\n.zip")
    put(tmp_path / os.fsdecode(b"caf\xe9.zip"))
    folder = ModelFolder(tmp_path)
    folder.list()
    assert [sentence.partition(" is")[0] for sentence in folder.overlooked] == ["a?[31m?.zip", "caf?.zip"]


def test_number_of_reports_is_bounded(tmp_path: Path) -> None:
    for number in range(50):
        put(tmp_path / f"{number}.zip")
    folder = ModelFolder(tmp_path)
    folder.list()
    assert len(folder.overlooked) == 20


def test_link_inside_the_folder_is_listed_as_a_mounted_config_map_has_it(tmp_path: Path) -> None:
    put(tmp_path / "..2024_05_01" / "m.tflite")
    put(tmp_path / "..2024_05_01" / "m.txt")
    put(tmp_path / "..2024_05_01" / "n" / "7" / "model.tflite")
    (tmp_path / "..data").symlink_to("..2024_05_01")
    for name in ("m.tflite", "m.txt", "n"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert listed(tmp_path) == {"m": [("m.tflite", None)], "n": [("n/7/model.tflite", 7)]}
    before = fingerprint(tmp_path)
    assert len(before) == 2
    shutil.copytree(tmp_path / "..2024_05_01", tmp_path / "..2024_05_02")
    (tmp_path / "..data_tmp").symlink_to("..2024_05_02")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert fingerprint(tmp_path) != before
    folder = ModelFolder(tmp_path)
    folder.write_notes({tmp_path / "n" / "7" / "model.tflite": "It is bad."})
    assert not (tmp_path / "n" / "7" / "model.tflite.rejected.txt").exists()  # never written through a link


def test_link_to_a_version_in_the_folder_is_not_reported(tmp_path: Path) -> None:
    put(tmp_path / "m" / "7" / "model.tflite")
    (tmp_path / "m" / "latest").symlink_to("7")
    folder = ModelFolder(tmp_path)
    assert len(folder.list()["m"]) == 1
    assert folder.overlooked == ()


def test_link_out_of_the_folder_is_reported(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "7" / "model.tflite")
    models = tmp_path / "models"
    (models / "n").mkdir(parents=True)
    (models / "m.tflite").symlink_to(tmp_path / "elsewhere" / "7" / "model.tflite")
    (models / "m").symlink_to("../elsewhere")
    (models / "n" / "7").symlink_to(tmp_path / "elsewhere" / "7")
    folder = ModelFolder(models)
    assert folder.list() == {}
    assert [sentence.partition(":")[0] for sentence in folder.overlooked] == [
        "m is ignored",
        "m.tflite is ignored",
        "n/7 is ignored",
    ]
    assert "it is a link that does not lead to a file in this folder" in folder.overlooked[0]


def test_folder_named_like_a_model_file_may_contain_versions(tmp_path: Path) -> None:
    put(tmp_path / "m.tflite" / "1" / "model.tflite")
    assert listed(tmp_path) == {"m.tflite": [("m.tflite/1/model.tflite", 1)]}


def test_list_fails_when_the_folder_is_missing_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ModelFolder(tmp_path / "none").list()
    put(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        ModelFolder(tmp_path / "file").list()


def test_unreadable_inner_folder_hides_only_its_own_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as lost+found if the folder is the root of a disk."""
    put(tmp_path / "m.tflite")
    put(tmp_path / "lost+found" / "1" / "model.tflite")
    scandir = os.scandir

    def refuse(path: Path) -> Iterator[os.DirEntry[str]]:  # root, which may run the tests, can read every folder
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert listed(tmp_path) == {"m": [("m.tflite", None)]}


def test_fingerprint_changes_with_every_change_of_the_file(tmp_path: Path) -> None:
    path, seen = tmp_path / "m.tflite", set()
    write_whole(path, b"one")
    seen.add(fingerprint(tmp_path))
    write_whole(path, b"two")
    seen.add(fingerprint(tmp_path))
    old = tmp_path / "old"
    put(old)
    os.utime(old, (0, 0))
    shutil.copy2(old, path)
    assert path.stat().st_mtime == 0
    seen.add(fingerprint(tmp_path))
    with path.open("r+b") as file:
        file.write(b"MODEL")
    os.utime(path, (0, 0))
    seen.add(fingerprint(tmp_path))
    assert len(seen) == 4
    assert fingerprint(tmp_path) in seen


@pytest.mark.parametrize("sidecar", ["m.txt", "m.yaml"])
def test_fingerprint_changes_with_a_sidecar(tmp_path: Path, sidecar: str) -> None:
    put(tmp_path / "m.tflite")
    without = fingerprint(tmp_path)
    put(tmp_path / sidecar)
    first = fingerprint(tmp_path)
    write_whole(tmp_path / sidecar, b"changed")
    assert len({without, first, fingerprint(tmp_path)}) == 3
    (tmp_path / sidecar).unlink()
    assert fingerprint(tmp_path) == without


def test_change_time_is_recent_when_the_modification_time_is_old(tmp_path: Path) -> None:
    before_s = time.time()
    put(tmp_path / "m.tflite")
    os.utime(tmp_path / "m.tflite", (0, 0))
    (drop,) = ModelFolder(tmp_path).list()["m"]
    assert before_s - 1 < drop.changed_at_s < time.time() + 1


def test_model_is_ignored_and_logged_once_when_its_name_is_not_unicode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "m.tflite")
    put(tmp_path / os.fsdecode(b"caf\xe9.tflite"))
    put(tmp_path / os.fsdecode(b"caf\xe8") / "1" / "model.tflite")
    folder = ModelFolder(tmp_path)
    for _ in range(3):
        assert list(folder.list()) == ["m"]
    assert [record.getMessage() for record in caplog.records] == [
        rf"The model 'caf\udc{byte}' is ignored: its name is not valid UTF-8. Rename it." for byte in ("e8", "e9")
    ]


@pytest.mark.parametrize("proof", ["m.tflite.sha256", "m.tflite.minisig"])
def test_fingerprint_changes_with_a_checksum_or_signature_that_proves_the_file(tmp_path: Path, proof: str) -> None:
    put(tmp_path / "m.tflite")
    without = fingerprint(tmp_path)
    (bare,) = ModelFolder(tmp_path).list()["m"]
    assert not bare.has_proof
    (tmp_path / proof).symlink_to("nowhere")
    assert not bare.has_proof
    (tmp_path / proof).unlink()
    put(tmp_path / proof)
    assert fingerprint(tmp_path) != without
    assert bare.has_changed()
    (proven,) = ModelFolder(tmp_path).list()["m"]
    assert proven.has_proof


def test_note_is_rewritten_only_when_its_reason_changes(tmp_path: Path) -> None:
    folder, note = ModelFolder(tmp_path), tmp_path / "m.tflite.rejected.txt"
    folder.write_notes({tmp_path / "m.tflite": "It is bad."})
    written = note.stat()
    folder.write_notes({tmp_path / "m.tflite": "It is bad."})
    assert note.stat() == written
    folder.write_notes({tmp_path / "m.tflite": "It is worse \udcff."})
    assert note.read_text() == "It is worse ?.\n"
    folder.write_notes({})
    assert not note.exists()


def test_note_is_never_written_through_a_link(tmp_path: Path) -> None:
    models, precious = tmp_path / "models", tmp_path / "precious"
    models.mkdir()
    precious.write_text("precious")
    (models / "m.tflite.rejected.txt").symlink_to(precious)
    ModelFolder(models).write_notes({models / "m.tflite": "It is bad."})
    assert (models / "m.tflite.rejected.txt").read_text() == "It is bad.\n"
    assert precious.read_text() == "precious"


def test_unwritable_note_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = ModelFolder(tmp_path)
    (tmp_path / "m.tflite.rejected.txt" / "in the way").mkdir(parents=True)
    for _ in range(2):
        folder.write_notes({tmp_path / "m.tflite": "It is bad."})
    assert caplog.text.count("The reasons for rejections cannot be written to") == 1
    ModelFolder(tmp_path / "none").write_notes({})


def test_folder_behind_a_link_is_not_listed_and_gets_no_notes(tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    put(elsewhere / "7" / "model.tflite")
    put(elsewhere / "7" / "model.tflite.rejected.txt")
    (models / "n").mkdir(parents=True)
    (models / "m").symlink_to(elsewhere)
    (models / "n" / "7").symlink_to(elsewhere / "7")
    folder = ModelFolder(models)
    assert folder.list() == {}
    folder.write_notes({})
    assert (elsewhere / "7" / "model.tflite.rejected.txt").exists()
