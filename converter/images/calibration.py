"""Calibration: images, preprocessed as on the device, from which int8 measures value ranges."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.image import Image
from agent.runtimes.preprocessing import Preprocessor
from converter.errors import ImagesError
from converter.images.image_folder import left_out_notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from agent.model_file.metadata import Tensor
    from agent.model_file.settings import ModelSettings
    from converter.images.image_folder import FoundImage, ImageFolder
    from converter.progress import Track

    Array: TypeAlias = npt.NDArray[np.generic]

_MOST = 200
_FEWEST = 10
_ENOUGH = 50


@dataclass(frozen=True, slots=True)
class Calibration:
    """At least ten images of the model's input size; `notes` are sentences for the user."""

    images: tuple[Image, ...]
    notes: tuple[str, ...]

    def representative(self, tensor: Tensor, settings: ModelSettings) -> Iterator[list[Array]]:
        """One float32 tensor per image, as TensorFlow expects from a representative dataset.

        The corner of the first image gets the darkest and the brightest possible pixel. So the quantized input covers
        the whole range of pixels, not only that of these images, and a raw uint8 pixel equals its quantized value.
        """
        prepare = Preprocessor.of(replace(tensor, dtype="float32"), settings)
        for number, image in enumerate(self.images):
            pixels = np.array(prepare(image))
            if number == 0:
                ends = [prepare(Image(np.full_like(image.pixels, value), image.color)) for value in (0, 255)]
                pixels[0, 0, 0, 0], pixels[0, 0, 1, 0] = np.min(ends), np.max(ends)
            yield [pixels]


def calibrate(folder: ImageFolder, tensor: Tensor, settings: ModelSettings, *, track: Track) -> Calibration:
    """Sample up to 200 images evenly over the classes; the sample is the same in every call.

    Raises ImagesError if fewer than ten can be read.
    """
    fit = Preprocessor.of(replace(tensor, dtype="uint8"), settings)
    images: list[Image] = []
    read: list[FoundImage] = []
    unreadable: list[str] = []
    sample = list(itertools.islice(folder.evenly_over_classes(), _MOST))
    sought = track(sample, "Reading calibration images")
    for found, image in folder.decode(sought, smallest_side=fit.smallest_side, left_out=unreadable):
        read.append(found)
        pixels = fit(image)[0]
        gray = pixels.shape[2] == 1
        images.append(Image(pixels[:, :, 0] if gray else pixels, "gray" if gray else settings.color or "rgb"))
    _check_count(folder, len(images), unreadable)
    notes = list(left_out_notes("calibration images", folder, unreadable, sample, read))
    if len(images) < _ENOUGH:
        notes.append(f"Only {len(images)} calibration images. With 100 or more, the value ranges are more accurate.")
    return Calibration(tuple(images), tuple(notes))


def _check_count(folder: ImageFolder, count: int, unreadable: list[str]) -> None:
    if count < _FEWEST:
        raise ImagesError(
            f"{folder.root} has {count} readable images. Calibration needs at least {_FEWEST}, better 100 or more, "
            f"that show what the camera will see." + (f" {unreadable[0]}." if unreadable else "")
        )
