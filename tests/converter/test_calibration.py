"""Calibration: which images are sampled, and that they are preprocessed as on the device."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from conversions import Untracked, untracked

from agent.model_file.metadata import Tensor
from agent.model_file.settings import ModelSettings
from agent.runtimes.preprocessing import Preprocessor
from converter.errors import ImagesError
from converter.images.calibration import calibrate
from converter.images.image_folder import list_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from converter.images.calibration import Calibration
    from converter.images.image_folder import ImageFolder
    from converter.progress import T

IMAGE = Tensor("image", (1, 8, 6, 3), "float32")
SETTINGS = ModelSettings(("a", "b"), mean=(0.0,), std=(255.0,))


def write_images(folder: Path, count: int, *, first: int = 0, size: tuple[int, int] = (12, 10)) -> None:
    """Writes images of noise, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{number:03}.png"), pixels)


def calibrated(
    root: Path, tensor: Tensor = IMAGE, settings: ModelSettings = SETTINGS
) -> tuple[Calibration, ImageFolder]:
    folder = list_images(root)
    return calibrate(folder, tensor, settings, track=untracked), folder


class Drawn(Untracked):
    """Counts how many images of each class it passes on."""

    def __init__(self) -> None:
        self.classes: Counter[str] = Counter()

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]:
        self.classes.update(item.class_name for item in items)  # type: ignore[attr-defined]
        return items


def test_sample_is_even_over_classes_and_has_at_most_200_images(tmp_path: Path) -> None:
    for name, count in (("a", 150), ("b", 90), ("c", 40), ("d", 120)):
        write_images(tmp_path / name, count, size=(2, 2))
    drawn = Drawn()
    calibration = calibrate(list_images(tmp_path), IMAGE, SETTINGS, track=drawn)
    assert drawn.classes == {
        "a": 54,
        "b": 53,
        "c": 40,
        "d": 53,
    }  # all of the smallest class, equal counts of the others
    assert len(calibration.images) == 200
    assert calibration.notes == ()


def test_sample_takes_almost_equal_counts_from_large_classes(tmp_path: Path) -> None:
    for name in "abc":
        write_images(tmp_path / name, 70, size=(2, 2))
    drawn = Drawn()
    calibrate(list_images(tmp_path), IMAGE, SETTINGS, track=drawn)
    assert sorted(drawn.classes.values()) == [66, 67, 67]


def test_sample_is_the_same_in_every_call(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 15)
    write_images(tmp_path / "b", 15, first=100)
    first, second = calibrated(tmp_path)[0], calibrated(tmp_path)[0]
    for one, other in zip(first.images, second.images, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_calibration_needs_ten_images(tmp_path: Path) -> None:
    write_images(tmp_path, 9)
    with pytest.raises(ImagesError) as raised:
        calibrated(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path} has 9 readable images. Calibration needs at least 10, better 100 or more, that show what the "
        "camera will see."
    )
    write_images(tmp_path, 1, first=9)
    assert calibrated(tmp_path)[0].notes == (
        "Only 10 calibration images. With 100 or more, the value ranges are more accurate.",
    )


def test_fifty_images_give_no_note(tmp_path: Path) -> None:
    write_images(tmp_path, 50, size=(2, 2))
    assert calibrated(tmp_path)[0].notes == ()


def test_unreadable_images_are_skipped_with_a_note(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 50, size=(2, 2))
    for number in range(5):
        (tmp_path / "a" / f"bad_{number}.png").write_bytes(b"no image")
    (note,) = calibrated(tmp_path)[0].notes
    assert note.startswith("Skipped unreadable calibration images (5): a/bad_")
    assert note.count("bad_") == 3


def test_pictures_in_other_formats_are_skipped_with_a_note(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 50, size=(2, 2))
    for name in ("phone_1.HEIC", "phone_2.heic", "drawing.svg"):
        (tmp_path / "a" / name).touch()
    (note,) = calibrated(tmp_path)[0].notes
    assert note == "Skipped calibration images in other formats (2 .heic, 1 .svg): save them as JPEG."


def test_folder_without_readable_images_is_refused_with_a_reason(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.png").write_bytes(b"no image")
    with pytest.raises(ImagesError) as raised:
        calibrated(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path} has 0 readable images. Calibration needs at least 10")
    assert ".png: " in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("channels", "settings"),
    [
        (3, SETTINGS),
        (3, ModelSettings(mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))),
        (3, ModelSettings(mean=(127.5,), std=(127.5,), color="bgr", resize="crop")),
        (3, ModelSettings(mean=(0.0,), std=(1.0,), resize="pad")),
        (3, ModelSettings(mean=(0.0,), std=(1.0,), resample="nearest")),
        (1, ModelSettings(mean=(0.0,), std=(255.0,), color="gray")),
    ],
)
def test_images_are_preprocessed_as_on_the_device(channels: int, settings: ModelSettings, tmp_path: Path) -> None:
    write_images(tmp_path, 12, size=(20, 33))
    tensor = Tensor("image", (1, 8, 6, channels), "float32")
    calibration, folder = calibrated(tmp_path, tensor, settings)
    on_device = Preprocessor(
        tensor,
        mean=settings.mean,
        std=settings.std,
        color=settings.color or "rgb",
        resize=settings.resize or "stretch",
        resample=settings.resample or "antialias",
    )
    expected = [on_device(found.read(smallest_side=8)) for found in folder.evenly_over_classes()]
    fed = [batch[0] for batch in calibration.representative(tensor, settings)]
    assert fed[0].dtype == np.float32
    assert fed[0].shape == (1, 8, 6, channels)
    assert (fed[0] != expected[0]).sum() <= 2  # the two ends of the range
    for one, other in zip(fed[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("mean", "std", "ends"),
    [
        ((0.0,), (255.0,), (0.0, 1.0)),
        ((127.5,), (127.5,), (-1.0, 1.0)),
        ((255.0,), (-255.0,), (0.0, 1.0)),
        ((100.0, 50.0, 20.0), (50.0, 100.0, 25.0), (-2.0, 9.4)),
    ],
)
def test_first_image_spans_the_whole_pixel_range(
    mean: tuple[float, ...], std: tuple[float, ...], ends: tuple[float, float], tmp_path: Path
) -> None:
    for number in range(10):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((9, 9, 3), 90 + number, np.uint8))
    settings = ModelSettings(mean=mean, std=std)
    first, second, *_ = calibrated(tmp_path, IMAGE, settings)[0].representative(IMAGE, settings)
    np.testing.assert_allclose((first[0].min(), first[0].max()), ends, atol=1e-6)
    assert second[0].min() > ends[0]
    assert second[0].max() < ends[1]


def test_representative_images_can_be_iterated_again(tmp_path: Path) -> None:
    write_images(tmp_path, 10)
    calibration = calibrated(tmp_path)[0]
    once, again = (list(calibration.representative(IMAGE, SETTINGS)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
