from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.models.folder import ModelFolder
from agent.models.tree import MAX_FILES, tree_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def version(folder: Path) -> Path:
    path = folder / "m" / "3"
    for name, content in {"saved_model.pb": b"graph", "variables/variables.index": b"index"}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_tree_has_its_files_and_their_size(folder: Path, version: Path) -> None:
    (version / ".DS_Store").write_bytes(b"of a desktop")
    tree = tree_of(version, folder)
    assert (tree.files, tree.size, tree.fault) == (["saved_model.pb", "variables/variables.index"], 10, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "saved_model.pb").write_bytes(b"hparg"),
        lambda path: (path / "variables/variables.index").unlink(),
        lambda path: (path / "saved_model.pb").rename(path / "saved_model.pbx"),
        lambda path: (path / "new").touch(),
        lambda path: (path / ".new").touch(),
        lambda path: (path / "variables").rename(path / "variable"),
        lambda path: os.utime(path / "saved_model.pb", (1, 1)),
    ],
)
def test_every_change_gives_another_stamp(folder: Path, version: Path, change: object) -> None:
    assert callable(change)
    (drop,) = ModelFolder(folder).list()["m"]
    assert not drop.has_changed()
    change(version)
    assert drop.has_changed()


def test_newest_file_counts_for_the_rest(folder: Path, version: Path) -> None:
    (drop,) = ModelFolder(folder).list()["m"]
    newest_ns = max(path.stat().st_ctime_ns for path in version.rglob("*") if path.is_file())
    assert drop.changed_at_s == newest_ns / 1e9
    assert len(drop.fingerprint) == 1


def test_files_beside_the_folder_belong_to_it(folder: Path, version: Path) -> None:
    for name in ("3.txt", "3.yaml", "3.minisig"):
        version.with_name(name).write_text("x")
    (drop,) = ModelFolder(folder).list()["m"]
    assert (drop.file, drop.version, drop.is_saved_model, drop.has_proof) == ("m/3", 3, True, True)
    assert len(drop.fingerprint) == 4


def test_link_counts_inside_the_drop_folder_and_is_refused_otherwise(
    folder: Path, version: Path, tmp_path: Path
) -> None:
    shared = folder / "shared.index"
    shared.write_bytes(b"shared")
    (version / "variables/variables.index").unlink()
    (version / "variables/variables.index").symlink_to(shared)
    assert tree_of(version, folder).fault is None
    assert tree_of(version, folder).size == 11
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "outsides").mkdir()
    for target in (tmp_path / "outside", tmp_path / "outsides", folder / "nothing", version / "variables"):
        (version / "more").unlink(missing_ok=True)
        (version / "more").symlink_to(target)
        tree = tree_of(version, folder)
        assert tree.fault is not None
        assert tree.fault.startswith("more in the SavedModel is a link that does not lead to a file in the drop folder")


def test_other_files_and_names_are_refused(folder: Path, version: Path) -> None:
    os.mkfifo(version / "fifo")
    assert "fifo in the SavedModel is not a regular file" in str(tree_of(version, folder).fault)
    (version / "fifo").rename(version / "x")
    (version / "x").unlink()
    (version / "a\nb").touch()
    assert "'a\\nb'. Rename the file" in str(tree_of(version, folder).fault)


def test_folders_that_are_too_deep_are_refused_and_not_left_out(folder: Path, version: Path) -> None:
    deepest = version / "a/b/c/d/e/f/g/h"
    deepest.mkdir(parents=True)
    (deepest / "file").touch()
    assert "a/b/c/d/e/f/g/h/file" in tree_of(version, folder).files
    (deepest / "i").mkdir()
    assert tree_of(version, folder).fault == (
        "The SavedModel has more than 8 folders inside each other. Remove a/b/c/d/e/f/g/h/i."
    )


def test_folder_with_too_many_files_is_refused_and_not_listed_to_its_end(folder: Path, version: Path) -> None:
    for number in range(3 * MAX_FILES):
        (version / f"{number}").touch()
    tree = tree_of(version, folder)
    assert tree.fault == "The SavedModel has more than 1000 files. Drop only the files that TensorFlow saved."
    assert len(tree.files) <= 2 * MAX_FILES + 1


def test_tflite_file_comes_first_and_the_other_is_reported(folder: Path, version: Path) -> None:
    (version / "model.tflite").write_bytes(b"model")
    listing = ModelFolder(folder)
    (drop,) = listing.list()["m"]
    assert (drop.file, drop.is_saved_model) == ("m/3/model.tflite", False)
    assert listing.overlooked == (
        "m/3/saved_model.pb is ignored: model.tflite is in the same folder. Remove one of them.",
    )


def test_note_is_written_beside_the_folder_and_removed(folder: Path, version: Path) -> None:
    models, note = ModelFolder(folder), version.with_name("3.rejected.txt")
    (folder / "m" / "other.rejected.txt").write_text("of a user")
    models.write_notes({version: "No labels."})
    assert note.read_text() == "No labels.\n"
    models.write_notes({})
    assert not note.exists()
    assert (folder / "m" / "other.rejected.txt").exists()
