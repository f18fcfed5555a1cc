"""Trained on: a SavedModel lists the photos of its training, and nothing is fitted to its scores for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.host.digest import sha256_of
from converter.images.image_folder import list_images
from converter.images.trained_on import NAME, list_of, trained_on

if TYPE_CHECKING:
    from pathlib import Path


def test_listed_photos_are_recognized_by_their_content(tmp_path: Path) -> None:
    photos, model = tmp_path / "photos", tmp_path / "model"
    photos.mkdir()
    (model / NAME).parent.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (photos / f"{name}.png").write_bytes(name.encode())
    images = list_images(photos).images
    assert trained_on(model, images).tolist() == [False] * 3
    with (photos / "b.png").open("rb") as file:
        (model / NAME).write_bytes(list_of([sha256_of(file), "0" * 64]))
    (photos / "b.png").rename(photos / "d.png")
    assert trained_on(model, list_images(photos).images).tolist() == [False, False, True]
