from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.cameras.reference import ReferenceFile, forget_others
from agent.cameras.scene import HEIGHT, WIDTH

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH), np.uint8)


def test_reference_is_the_same_after_a_restart(tmp_path: Path) -> None:
    assert ReferenceFile(tmp_path / "references/front.json", made_by="a").save(PICTURE) is None
    loaded = ReferenceFile(tmp_path / "references/front.json", made_by="a").load()
    assert loaded is not None
    assert np.array_equal(loaded, PICTURE)


def test_others_cannot_read_the_folder(tmp_path: Path) -> None:
    ReferenceFile(tmp_path / "references/front.json", made_by="a").save(PICTURE)
    assert (tmp_path / "references").stat().st_mode & 0o777 == 0o700


def test_reference_is_not_used_when_something_else_made_it(tmp_path: Path) -> None:
    ReferenceFile(tmp_path / "front.json", made_by="a").save(PICTURE)
    assert ReferenceFile(tmp_path / "front.json", made_by="b").load() is None


def test_reference_is_removed_when_it_is_outdated_or_of_no_camera(tmp_path: Path) -> None:
    files = [ReferenceFile(tmp_path / f"{name}.json", made_by="a") for name in ("front", "door", "gone", "damaged")]
    for file in files:
        file.save(PICTURE)
    (tmp_path / "damaged.json").write_text("damaged")
    masked = ReferenceFile(tmp_path / "door.json", made_by="masks")
    forget_others(tmp_path, [files[0], masked, files[3]])
    assert {path.name for path in tmp_path.iterdir()} == {"front.json", "damaged.json"}
    forget_others(tmp_path / "missing", [])


def test_reference_is_gone_when_it_is_forgotten(tmp_path: Path) -> None:
    file = ReferenceFile(tmp_path / "front.json", made_by="a")
    file.forget()
    file.save(PICTURE)
    file.forget()
    assert file.load() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["empty", "cut", "no picture", "other size", "a list", "deep"])
def test_reference_is_taken_again_when_its_file_is_damaged(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "front.json"
    file = ReferenceFile(path, made_by="a")
    file.save(PICTURE[:60] if damage == "other size" else PICTURE)
    whole = path.read_bytes()
    content = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "no picture": json.dumps({**json.loads(whole), "png": "AAAA"}).encode(),
        "a list": b"[]",
        "deep": b"[" * 100_000,
    }
    path.write_bytes(content.get(damage, whole))
    assert file.load() is None
    assert "front.json is unreadable" in caplog.text


def test_reference_that_cannot_be_saved_says_so(tmp_path: Path) -> None:
    (tmp_path / "references").write_text("a file")
    sentence = ReferenceFile(tmp_path / "references/front.json", made_by="a").save(PICTURE)
    assert sentence is not None
    assert f"cannot be saved in {tmp_path / 'references'} (" in sentence
