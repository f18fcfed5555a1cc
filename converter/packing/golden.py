"""Golden samples: images packed into a finished file, which each device classifies before it serves the model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2

from agent.image import JPEG_START, Image, decode
from agent.model_file.golden import read_golden
from agent.runtimes.golden import ask_golden
from converter.errors import ConversionError, ImagesError, UsageError
from converter.images.image_folder import left_out_notes, list_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from agent.runtimes.classifier import Classifier
    from converter.images.image_folder import ImageFolder
    from converter.progress import Track

_MOST = 20
_SMALL_BYTES = 16 << 10
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Golden:
    """The packed `files` by name, each a JPEG or PNG, with their `labels`; `notes` are sentences for the user."""

    tolerance: float
    files: Mapping[str, bytes] = field(repr=False)
    labels: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The format that agent.model_file.golden reads."""
        samples = [{"file": file, "label": label} for file, label in zip(self.files, self.labels, strict=True)]
        return {"tolerance": self.tolerance, "samples": samples}


def golden_folder(path: Path) -> ImageFolder:
    """Raises UsageError for a flat folder, ImagesError as list_images() does."""
    folder = list_images(path)
    if not folder.class_names:
        raise UsageError(f"--golden {path} has no class folders, so the labels are unknown. Make one folder per class.")
    return folder


def choose_golden(folder: ImageFolder, source: Classifier, *, tolerance: float, track: Track) -> Golden:
    """Up to 20 images, evenly over the classes, that the source classifies as their folders say.

    Every device would refuse a file with an image that the source itself gets wrong. Raises ImagesError if fewer than
    half are left, ModelError if the scores of the source are not finite.
    """
    unreadable: list[str] = []
    wrong: list[str] = []
    files: dict[str, bytes] = {}
    labels: list[str] = []
    images = list(itertools.islice(_readable(folder, source, unreadable), _MOST))
    for name, label, content in track(images, "Choosing golden samples"):
        best = _answer(content, source)
        if best == label:
            files[f"golden/{len(files) + 1:04}{_suffix(content)}"] = content
            labels.append(label)
        else:
            wrong.append(f"{name} gave {best}")
    if not images:
        raise ImagesError(f"None of the images in {folder.root} can be read: {unreadable[0]}.")
    if 2 * len(files) < len(images):
        raise ImagesError(
            f"The source classifies only {len(files)} of {len(images)} golden samples in {folder.root} as their "
            f"folders say ({wrong[0]}). Check the images and their folders, --mean, --std, --color and the order of "
            "the labels."
        )
    return Golden(tolerance, files, tuple(labels), tuple(_notes(folder, unreadable, wrong)))


def check_packed(content: bytes, classifier: Classifier) -> None:
    """Raises ConversionError if the finished file fails its own golden samples."""
    golden = read_golden(content)
    answers = ask_golden(golden, classifier) if golden is not None else None
    if answers is not None and answers.fails:
        raise ConversionError(
            f"{answers.verdict} The source gets them all right, so every device would refuse this file. Use more "
            "calibration images like these, another scheme, or a higher --golden-tolerance."
        )


def _readable(folder: ImageFolder, source: Classifier, unreadable: list[str]) -> Iterator[tuple[str, str, bytes]]:
    """Name, label and packed bytes of each readable image, one of each class in turn."""
    truth = dict(zip(folder.images, folder.truth(source.labels) or (), strict=True))
    images = folder.evenly_over_classes()
    for found, image in folder.decode(images, smallest_side=source.smallest_side, left_out=unreadable):
        yield folder.name_of(found), source.labels[truth[found]], _encoded(_fitted(image, source.longest_side))


def _fitted(image: Image, side: int) -> Image:
    """Shrink to at most twice the side of the model's input, but never so far that the model would enlarge it."""
    longest, shortest = max(image.height, image.width), min(image.height, image.width)
    scale = max(2 * side / longest, side / shortest)
    if scale >= 1:
        return image
    size = (round(image.width * scale), round(image.height * scale))
    return Image(cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA), image.color)


def _encoded(image: Image) -> bytes:
    """As PNG, which every decoder reproduces exactly, or as JPEG if the PNG is large."""
    pixels = image.to_color("bgr").pixels
    content: bytes = cv2.imencode(".png", pixels)[1].tobytes()
    if len(content) > _SMALL_BYTES:
        content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return content


def _answer(content: bytes, source: Classifier) -> str:
    """The best label for the packed bytes, decoded as the agent decodes them."""
    image = decode(content, smallest_side=source.smallest_side)
    scores, _ = source.scores(image)
    (best,) = scores.best(1)
    return best.label


def _suffix(content: bytes) -> str:
    return ".jpg" if content.startswith(JPEG_START) else ".png"


def _notes(folder: ImageFolder, unreadable: list[str], wrong: list[str]) -> Iterator[str]:
    yield from left_out_notes("golden samples", folder, unreadable)
    if wrong:
        yield (f"Skipped golden samples that the source itself gets wrong ({len(wrong)}): {'; '.join(wrong[:3])}.")
