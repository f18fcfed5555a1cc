"""ImageFolder: the images of a folder, with their classes from the subfolders."""

from __future__ import annotations

import difflib
import os
import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from agent.errors import AgentError, ImageError, ImageFormatError
from agent.host.plain_file import open_plain_file
from agent.image import decode, has_image_name
from converter.errors import ImagesError
from converter.images.gif import decode_gif, is_gif
from converter.images.splits import check_not_splits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.image import Image

_MAX_BYTES = 1 << 28
_SEED = 0
_FORMATS = "JPEG, PNG, WebP, BMP and GIF"
_UNSUPPORTED = frozenset(
    (
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".svg",
        ".tif",
        ".tiff",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".raf",
        ".orf",
        ".rw2",
    )
)


@dataclass(frozen=True, slots=True)
class FoundImage:
    """`class_name` is the subfolder directly below the root, None for an image directly in the root."""

    path: Path
    class_name: str | None

    def open(self) -> BinaryIO:
        """Raises OSError, also for a FIFO or a device, which could block."""
        return open_plain_file(Path(os.path.realpath(self.path)))

    def read(self, *, smallest_side: int) -> Image:
        """Decodes as the agent decodes an upload, and a GIF as Keras does.

        Raises ImagesError, which says what is wrong as a clause, without naming the file.
        """
        try:
            with self.open() as file:
                content = file.read(_MAX_BYTES)
        except OSError as error:
            raise ImagesError(f"it cannot be read: {error.strerror}") from None
        try:
            return decode_gif(content) if is_gif(content) else decode(content, smallest_side=smallest_side)
        except ImageError as error:  # its second sentence is for those who upload
            reads = f"; {_FORMATS} are" if isinstance(error, ImageFormatError) else ""
            raise ImagesError(str(error).partition(". ")[0].rstrip(".") + reads) from None


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """At least one image, sorted by path; `empty` names the class folders without any image.

    `unsupported`: pictures in other formats.
    """

    root: Path
    images: tuple[FoundImage, ...]
    empty: tuple[str, ...] = ()
    unsupported: tuple[Path, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order in which Keras numbers them: sorted by code point."""
        return tuple(sorted({image.class_name for image in self.images if image.class_name is not None}))

    @property
    def names_classes(self) -> bool:
        """Whether labels can be taken from it: Keras counts an empty folder as a class, and a model has several."""
        return len(self.class_names) > 1 and not self.empty

    def name_of(self, image: FoundImage) -> str:
        return str(image.path.relative_to(self.root))

    def evenly_over_classes(self) -> Iterator[FoundImage]:
        """Every image once, one of each class in turn; the order is the same in every call."""
        by_class: dict[str | None, list[FoundImage]] = defaultdict(list)
        for image in self.images:
            by_class[image.class_name].append(image)
        for images in by_class.values():
            random.Random(_SEED).shuffle(images)  # noqa: S311  (a sample, not a secret)
        for turn in range(max(map(len, by_class.values()))):
            for images in by_class.values():
                if turn < len(images):
                    yield images[turn]

    def decode(
        self, images: Iterable[FoundImage], *, smallest_side: int, left_out: list[str]
    ) -> Iterator[tuple[FoundImage, Image]]:
        """Yields the readable ones of `images`; adds the names of the others, with reasons, to `left_out`."""
        for found in images:
            try:
                image = found.read(smallest_side=smallest_side)
            except AgentError as error:
                left_out.append(f"{self.name_of(found)}: {error}")
                continue
            yield found, image

    def truth(self, labels: Sequence[str]) -> tuple[int, ...] | None:
        """The index into `labels` of every image, from its subfolder; None for a folder without subfolders.

        A subfolder has the name of a label (ignoring case, spaces, hyphens and underscores) or its index.
        Raises ImagesError if one has not, or if there are images next to the subfolders.
        """
        if not self.class_names:
            return None
        beside = [self.name_of(image) for image in self.images if image.class_name is None]
        if beside:
            raise ImagesError(
                f"{self.root} has class folders and images next to them ({beside[0]}). Move the images into the class "
                "folders."
            )
        exact = {str(index): index for index in range(len(labels))}
        exact |= {label: index for index, label in reversed(list(enumerate(labels)))}  # the first of equal labels wins
        plain = [_plain(label) for label in labels]
        counts = Counter(plain)
        known = {label: index for index, label in enumerate(plain) if counts[label] == 1}
        numbers: dict[str | None, int] = {}
        for name in self.class_names:
            number = exact.get(name, known.get(_plain(name)))
            if number is None:
                near = [repr(labels[known[text]]) for text in difflib.get_close_matches(_plain(name), known, n=1)]
                which = f"the closest is {near[0]}" if near else f"the first are {', '.join(map(repr, labels[:3]))}"
                raise ImagesError(
                    f"The folder name {self.root / name} matches none of the {len(labels)} labels; {which}. "
                    "Rename the folder, or check the labels."
                )
            numbers[name] = number
        return tuple(numbers[image.class_name] for image in self.images)


def left_out_notes(
    what: str,
    folder: ImageFolder,
    unreadable: Sequence[str],
    sought: Iterable[FoundImage] = (),
    read: Iterable[FoundImage] = (),
) -> Iterator[str]:
    """Sentences about images that cannot be read, with reasons, and about pictures in other formats.

    One more names the class folders without an image, and those of whose `sought` images none was `read`.
    """
    if unreadable:
        yield f"Skipped unreadable {what} ({len(unreadable)}): {'; '.join(unreadable[:3])}."
    if folder.unsupported:
        yield f"Skipped {what} in other formats ({counted_suffixes(folder.unsupported)}): save them as JPEG."
    unread = {image.class_name for image in sought} - {image.class_name for image in read} - {None}
    names = sorted({*folder.empty, *map(str, unread)})
    if names:
        yield f"No {what} in {folder.root} for {', '.join(names)}: no file there can be read as an image ({_FORMATS})."


def list_images(root: Path) -> ImageFolder:
    """Raises ImagesError when the folder is missing, cannot be listed, or contains no image files."""
    if not root.is_dir():
        raise ImagesError(f"{root} is not a folder. Give a folder with images, or with one subfolder per class.")
    try:
        files = sorted(_files(root))
        subfolders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    except OSError as error:
        raise ImagesError(f"{error.filename} cannot be listed: {error.strerror}.") from None
    paths = [path for path in files if has_image_name(path.name) or path.suffix.lower() == ".gif"]
    unsupported = tuple(path for path in files if path.suffix.lower() in _UNSUPPORTED)
    if not paths:
        found = f" Found: {counted_suffixes(unsupported)}; save them as JPEG." if unsupported else ""
        raise ImagesError(f"{root} contains no images. Supported: {_FORMATS} files.{found}")
    check_not_splits(root, subfolders, paths)
    images = tuple(FoundImage(path, _class_name(path.relative_to(root))) for path in paths)
    classes = {image.class_name for image in images} - {None}
    return ImageFolder(root, images, tuple(sorted(subfolders - classes)) if classes else (), unsupported)


def counted_suffixes(paths: Iterable[Path]) -> str:
    """Such as `3 .heic, 1 .svg`."""
    counts = Counter(path.suffix.lower() for path in paths)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())


def _class_name(inside: Path) -> str | None:
    return inside.parts[0] if len(inside.parts) > 1 else None


def _files(root: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
        there = os.path.realpath(folder)
        folders[:] = [name for name in folders if not name.startswith(".") and there not in seen]
        if there not in seen:  # a link can lead back to a folder
            yield from (Path(folder, name) for name in names if not name.startswith("."))
        seen.add(there)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _raise(error: OSError) -> None:
    raise error
