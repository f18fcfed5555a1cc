"""What is read of a SavedModel without TensorFlow."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from agent.errors import IncompleteModelError, ModelError
from agent.model_file.completeness import check_complete
from agent.model_file.golden import read_golden_folder
from agent.model_file.graph_signatures import read_signatures
from agent.model_file.model import read_model
from agent.model_file.saved_model import SavedModelFolder, read_saved_model
from agent.model_file.settings import ModelSettings
from agent.model_file.signature import choose_signature

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = "variables/variables.data-00000-of-00001"
INDEX = "variables/variables.index"

pytestmark = pytest.mark.assets


@pytest.fixture
def folder(assets: Path, tmp_path: Path) -> Path:
    return shutil.copytree(assets / "savedmodels/vww_96_savedmodel", tmp_path / "1")


def message(length: int, content: bytes = b"") -> bytes:
    """A field 2 that states `length` bytes."""
    return bytes([0x12, length]) + content


def test_complete_folder_without_additions_has_no_settings(folder: Path) -> None:
    assert read_saved_model(folder) == SavedModelFolder(folder, ModelSettings())
    assert read_model(folder) == read_saved_model(folder)


def test_settings_and_provenance_come_from_assets_extra(folder: Path) -> None:
    (folder / "assets.extra").mkdir()
    (folder / "labels.txt").write_text("of another program\n")
    assert read_saved_model(folder).settings.labels == ("of another program",)
    (folder / "assets.extra/labels.txt").write_text("no\nperson\n")
    additions = {"settings": {"mean": 0, "std": 255, "color": "rgb"}, "provenance": {"tool": "x\n"}}
    (folder / "assets.extra/edge_agent.json").write_text(json.dumps(additions))
    model = read_saved_model(folder)
    assert model.settings == ModelSettings(("no", "person"), mean=(0.0,), std=(255.0,), color="rgb")
    assert model.provenance == {"tool": "x "}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "assets.extra/edge_agent.json is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"settings": {"means": 3}}', "has the unknown key 'means'"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_unusable_additions_are_refused(folder: Path, content: str, words: str) -> None:
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra/edge_agent.json").write_text(content)
    with pytest.raises(ModelError, match=words):
        read_saved_model(folder)


@pytest.mark.parametrize("name", ["saved_model.pb", INDEX, WEIGHTS])
def test_every_truncated_or_missing_file_is_incomplete(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for length in (0, 1, 47, len(content) // 2, len(content) - 1):
        (folder / name).write_bytes(content[:length])
        with pytest.raises(IncompleteModelError, match=r"The SavedModel is not complete: (saved_model|variables)"):
            check_complete(folder)
    (folder / name).unlink()
    with pytest.raises(IncompleteModelError, match=f"{name} is missing"):
        check_complete(folder)


def test_index_of_two_data_files_needs_both(folder: Path) -> None:
    index = (folder / INDEX).read_bytes()
    at = index.index(b"\x08\x01\x1a\x02\x08\x01")  # the header: one data file, version 1
    (folder / INDEX).write_bytes(index[:at] + b"\x08\x02" + index[at + 2 :])
    with pytest.raises(IncompleteModelError, match=r"variables\.data-00000-of-00002 is missing"):
        check_complete(folder)
    (folder / WEIGHTS).rename(folder / "variables/variables.data-00000-of-00002")
    with pytest.raises(IncompleteModelError, match=r"variables\.data-00001-of-00002 is missing"):
        check_complete(folder)
    (folder / "variables/variables.data-00001-of-00002").touch()
    check_complete(folder)


def test_named_asset_must_exist_and_be_inside(folder: Path) -> None:
    def name_asset(name: bytes) -> None:
        graph = b"\x32" + bytes([len(name) + 2]) + message(len(name), name)
        (folder / "saved_model.pb").write_bytes(b"\x08\x01" + message(len(graph), graph))

    name_asset(b"vocab.txt")
    with pytest.raises(IncompleteModelError, match=r"assets/vocab\.txt is missing"):
        check_complete(folder)
    (folder / "assets").mkdir()
    (folder / "assets/vocab.txt").touch()
    check_complete(folder)
    for outside in (b"/etc/passwd", b"../../x", b"a/../../x"):
        name_asset(outside)
        with pytest.raises(ModelError, match="names a file outside its folder"):
            check_complete(folder)


def test_graph_without_variables_needs_none(folder: Path) -> None:
    shutil.rmtree(folder / "variables")
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + message(2, b"\x0a\x00"))
    check_complete(folder)


def test_signatures_are_read_without_tensorflow(folder: Path) -> None:
    (serve, default) = read_signatures(folder)
    assert str(default) == "serving_default takes input_1: float32 ? x 96 x 96 x 3 and returns output_0: float32 ? x 2"
    assert serve.key == "serve"
    assert choose_signature((serve, default), key=None, size=None).key == "serving_default"


def test_golden_samples_are_named_by_their_folders(folder: Path) -> None:
    assert read_golden_folder(folder) is None
    for name in ("person/b.png", "person/a.png", "no/c.jpg", "no/.hidden"):
        path = folder / "assets.extra/golden" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    golden = read_golden_folder(folder)
    assert golden is not None
    assert golden.tolerance == 0.1
    assert [(sample.label, sample.content) for sample in golden.samples] == [
        ("no", b"no/c.jpg"),
        ("person", b"person/a.png"),
        ("person", b"person/b.png"),
    ]
    for number in range(100):
        (folder / f"assets.extra/golden/no/{number}.png").touch()
    with pytest.raises(ModelError, match="has 103 golden samples"):
        read_golden_folder(folder)
