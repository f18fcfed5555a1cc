"""Folders of images: which images are found, and how subfolders map to labels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from converter.errors import ImagesError
from converter.images.image_folder import list_images

if TYPE_CHECKING:
    from pathlib import Path

    from converter.images.image_folder import ImageFolder


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def names_in(folder: ImageFolder) -> list[str]:
    return [folder.name_of(image) for image in folder.images]


def test_images_are_found_by_suffix_at_any_depth_and_sorted(tmp_path: Path) -> None:
    folder_of(tmp_path, "b/2.JPG", "b/deep/1.jpeg", "a/x.png", "c.webp", "d.BMP", "a/notes.txt", "a/list.csv")
    assert names_in(list_images(tmp_path)) == ["a/x.png", "b/2.JPG", "b/deep/1.jpeg", "c.webp", "d.BMP"]


def test_class_is_the_subfolder_directly_below_the_root(tmp_path: Path) -> None:
    folder = list_images(folder_of(tmp_path, "owl/night/1.png", "owl/2.png", "Cat/1.png", "beside.png"))
    assert [image.class_name for image in folder.images] == ["Cat", None, "owl", "owl"]


def test_class_names_are_sorted_as_in_keras(tmp_path: Path) -> None:
    folder = list_images(folder_of(tmp_path, "b/1.png", "A/1.png", "a/1.png", "10/1.png", "9/1.png"))
    assert folder.class_names == ("10", "9", "A", "a", "b")


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/1.png", "a/.2.png", ".thumbnails/a/1.png", "a/._1.png")
    assert names_in(list_images(tmp_path)) == ["a/1.png"]


def test_subfolder_without_images_is_not_a_class(tmp_path: Path) -> None:
    assert list_images(folder_of(tmp_path, "a/1.png", "b/readme.txt")).class_names == ("a",)


@pytest.mark.parametrize("name", ["file.png", "absent"])
def test_path_that_is_not_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder_of(tmp_path, "file.png")
    with pytest.raises(ImagesError) as raised:
        list_images(tmp_path / name)
    assert str(raised.value) == (
        f"{tmp_path / name} is not a folder. Give a folder with images, or with one subfolder per class."
    )


def test_folder_without_images_is_refused_with_the_supported_formats(tmp_path: Path) -> None:
    with pytest.raises(ImagesError) as raised:
        list_images(folder_of(tmp_path, "a/clip.mp4"))
    assert str(raised.value) == f"{tmp_path} contains no images. Supported: JPEG, PNG, WebP, BMP and GIF files."


def test_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> None:  # permissions would not stop root, if tests run as root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(ImagesError) as raised:
        list_images(tmp_path)
    assert str(raised.value) == f"{tmp_path} cannot be listed: Permission denied."


def test_evenly_over_classes_yields_every_image_once_and_classes_in_turn(tmp_path: Path) -> None:
    names = [f"{name}/{number}.png" for name, count in (("a", 5), ("b", 2), ("c", 3)) for number in range(count)]
    folder = list_images(folder_of(tmp_path, *names))
    order = list(folder.evenly_over_classes())
    assert sorted(image.path for image in order) == [image.path for image in folder.images]
    assert [image.class_name for image in order] == ["a", "b", "c", "a", "b", "c", "a", "c", "a", "a"]
    assert order == list(folder.evenly_over_classes())


def test_evenly_over_classes_shuffles_each_class(tmp_path: Path) -> None:
    folder = list_images(folder_of(tmp_path, *(f"a/{number:02}.png" for number in range(50))))
    assert [image.path for image in folder.evenly_over_classes()] != [image.path for image in folder.images]


def test_folder_names_match_labels_ignoring_case_underscores_and_hyphens(tmp_path: Path) -> None:
    folder = list_images(folder_of(tmp_path, "Hot_Dog/1.png", "ice-cream/1.png", "HOT DOG/2.png", "tea/1.png"))
    truth = folder.truth(("tea", "hot dog", "Ice Cream"))
    assert truth is not None
    assert Counter(zip((image.class_name for image in folder.images), truth, strict=True)) == {
        ("Hot_Dog", 1): 1,
        ("HOT DOG", 1): 1,
        ("ice-cream", 2): 1,
        ("tea", 0): 1,
    }


def test_folder_names_match_labels_by_index(tmp_path: Path) -> None:
    assert list_images(folder_of(tmp_path, "0/1.png", "2/1.png")).truth(("tea", "hot dog", "ice")) == (0, 2)


def test_numeric_label_has_precedence_over_an_index(tmp_path: Path) -> None:
    assert list_images(folder_of(tmp_path, "0/1.png", "1/1.png")).truth(("1", "0")) == (1, 0)


def test_folder_matches_the_first_of_two_similar_labels(tmp_path: Path) -> None:
    assert list_images(folder_of(tmp_path, "crane/1.png")).truth(("dog", "crane", "Crane")) == (1,)


def test_truth_of_a_flat_folder_is_none(tmp_path: Path) -> None:
    assert list_images(folder_of(tmp_path, "1.png", "2.png")).truth(("a", "b")) is None


def test_unknown_folder_is_refused_with_the_closest_label(tmp_path: Path) -> None:
    folder = list_images(folder_of(tmp_path, "dog/1.png", "hot_dgo/1.png"))
    with pytest.raises(ImagesError) as raised:
        folder.truth(("dog", "Hot Dog", "cat"))
    assert str(raised.value) == (
        f"The folder name {tmp_path / 'hot_dgo'} matches none of the 3 labels; the closest is 'Hot Dog'. "
        "Rename the folder, or check the labels."
    )


def test_index_beyond_the_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match="matches none of the 2 labels"):
        list_images(folder_of(tmp_path, "2/1.png")).truth(("a", "b"))


def test_images_next_to_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImagesError) as raised:
        list_images(folder_of(tmp_path, "a/1.png", "lost.png")).truth(("a", "b"))
    assert str(raised.value) == (
        f"{tmp_path} has class folders and images next to them (lost.png). Move the images into the class folders."
    )


def test_image_is_read_as_the_agent_reads_an_upload(tmp_path: Path) -> None:
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:, :, 2] = 200
    assert cv2.imwrite(str(tmp_path / "1.png"), pixels)
    image = list_images(tmp_path).images[0].read(smallest_side=4)
    assert image.to_color("rgb").pixels[0, 0].tolist() == [200, 0, 0]


def test_error_of_an_image_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "1.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    (tmp_path / "2.png").write_bytes(b"II*\0" + b"\0" * 100)
    (tmp_path / "3.jpg").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 100)
    reasons = (
        "^The image is damaged or truncated and cannot be decoded$",
        "^The image format is not supported; JPEG, PNG, WebP, BMP and GIF are$",
        "^HEIC images are not supported; ",
    )
    for image, reason in zip(list_images(tmp_path).images, reasons, strict=True):
        with pytest.raises(ImagesError, match=reason):
            image.read(smallest_side=32)


def test_removed_image_is_refused(tmp_path: Path) -> None:
    image = list_images(folder_of(tmp_path, "1.png")).images[0]
    image.path.unlink()
    with pytest.raises(ImagesError) as raised:
        image.read(smallest_side=32)
    assert str(raised.value) == "it cannot be read: No such file or directory"


def test_links_to_class_folders_are_followed_without_loops(color_images: Path, tmp_path: Path) -> None:
    (tmp_path / "red").symlink_to(color_images / "red")
    (tmp_path / "blue").symlink_to(color_images / "blue")
    (tmp_path / "back").symlink_to(tmp_path)
    folder = list_images(tmp_path)
    assert folder.class_names == ("blue", "red")
    assert len(folder.images) == 40


def test_labels_that_differ_only_in_case_or_hyphen_match_exactly(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "t-shirt/1.png", "t_shirt/1.png", "A/1.png", "a/1.png")
    assert list_images(folder).truth(("a", "A", "t_shirt", "t-shirt")) == (1, 0, 3, 2)
