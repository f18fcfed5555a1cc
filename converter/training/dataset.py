"""Dataset: the photos to train on, with their classes and what was found out about them before training."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.errors import AgentError
from agent.host.digest import sha256_of
from converter.errors import ImagesError
from converter.images.image_folder import counted_suffixes, list_images
from converter.images.splits import given_splits
from converter.training.similarity import SIDE, loosened, near_duplicates, thumbnail_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from converter.images.image_folder import FoundImage, ImageFolder
    from converter.images.splits import Part
    from converter.progress import Track

    Bytes: TypeAlias = npt.NDArray[np.uint8]
    Ints: TypeAlias = npt.NDArray[np.int64]

FEWEST = 2  # photos of a class: one to train on, one to check
ENOUGH = 20
_MOST_NAMED = 5
_ODD = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are not UTF-8, ends of lines


@dataclass(frozen=True, slots=True)
class Photo:
    """`name` is its path in the data set. Photos with the same `group` show nearly the same."""

    found: FoundImage
    name: str
    label: int
    part: Part | None
    sha256: str
    group: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the user should know before training; `names` are paths in the data set."""

    text: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = ", ..." if len(self.names) > _MOST_NAMED else ""
        named = f" ({', '.join(self.names[:_MOST_NAMED])}{more})" if self.names else ""
        return f"{self.text[:-1]}{named}." if named else self.text


@dataclass(frozen=True, slots=True)
class Dataset:
    """At least two classes with at least two photos each, sorted by path."""

    root: Path
    labels: tuple[str, ...]
    photos: tuple[Photo, ...]
    findings: tuple[Finding, ...]

    @property
    def truth(self) -> Ints:
        return np.array([photo.label for photo in self.photos], np.int64)

    @property
    def groups(self) -> Ints:
        return np.array([photo.group for photo in self.photos], np.int64)

    @property
    def has_parts(self) -> bool:
        return self.photos[0].part is not None

    @property
    def fingerprint(self) -> str:
        """Changes with any photo, its path or its class."""
        lines = "".join(f"{photo.sha256} {photo.name!a}\n" for photo in self.photos)
        return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Seen:
    sha256: str
    thumbnail: Bytes


def open_dataset(root: Path, *, track: Track) -> Dataset:
    """Reads every photo once. Raises ImagesError if the folder cannot be trained on, with a sentence that says why."""
    if not root.is_dir():
        raise ImagesError(f"{root} is not a folder. Give the folder that has one folder of photos per class.")
    listed = list(_listed(root))
    labels = tuple(sorted({found.class_name for _, _, found in listed if found.class_name is not None}))
    _check_classes(root, labels, listed)
    seen, unreadable = _read(root, [found for _, _, found in listed], track)
    readable = [(part, found) for _, part, found in listed if found in seen]
    with track.step("Comparing photos"):
        thumbnails = np.array([seen[found].thumbnail for _, found in readable], np.uint8).reshape(-1, SIDE, SIDE)
        groups = near_duplicates(thumbnails) if len(thumbnails) else np.zeros(0, np.int64)
    photos = tuple(
        Photo(found, _name(root, found), labels.index(str(found.class_name)), part, seen[found].sha256, int(group))
        for (part, found), group in zip(readable, groups, strict=True)
    )
    _check_counts(root, labels, photos, unreadable)
    findings = (
        *_unreadable(unreadable),
        *_other_formats(root, _unsupported(listed)),
        *_few(labels, photos),
        *_duplicates(photos),
    )
    own, alike = loosened(groups, np.array([photo.label for photo in photos]), [photo.sha256 for photo in photos])
    photos = tuple(replace(photo, group=group) for photo, group in zip(photos, own.tolist(), strict=True))
    return Dataset(root, labels, photos, (*findings, *_alike([labels[label] for label in alike])))


def _listed(root: Path) -> Iterator[tuple[ImageFolder, Part | None, FoundImage]]:
    parts = given_splits(root)
    for part, path in parts.items() or [(None, root)]:
        folder = list_images(path)
        yield from ((folder, part, found) for found in folder.images)


def _unsupported(listed: Iterable[tuple[ImageFolder, Part | None, FoundImage]]) -> list[Path]:
    return sorted({path for folder, _, _ in listed for path in folder.unsupported})


def _name(root: Path, found: FoundImage) -> str:
    return str(found.path.relative_to(root))


def _check_classes(
    root: Path, labels: Sequence[str], listed: Sequence[tuple[ImageFolder, Part | None, FoundImage]]
) -> None:
    beside = [found for _, _, found in listed if found.class_name is None]
    if not labels:
        raise ImagesError(f"{root} has no class folders. Make one folder per class and put its photos in it.")
    if beside:
        raise ImagesError(
            f"{root} has photos next to its class folders ({beside[0].path.name}). Move them into the class folders."
        )
    odd = [label for label in labels if any(unicodedata.category(each) in _ODD for each in label)]
    if odd:
        raise ImagesError(
            f"The folder {root / odd[0]} cannot be a label: its name is not UTF-8 in one line. Rename it."
        )
    empty = sorted({folder.root / name for folder, _, _ in listed for name in folder.empty})
    if empty:
        there = [path for path in _unsupported(listed) if any(path.is_relative_to(name) for name in empty)]
        found = f" Found there: {counted_suffixes(there)}; save them as JPEG." if there else ""
        names = ", ".join(map(str, empty))
        raise ImagesError(f"There are no photos in {names}. Put photos there, or delete the folder.{found}")
    if len(labels) == 1:
        inside = {found.path.relative_to(root / labels[0]).parts for _, part, found in listed if part is None}
        deeper = {parts[0] for parts in inside if len(parts) > 1}
        if len(deeper) > 1:
            raise ImagesError(
                f"{root} has only one folder, {labels[0]}, and {len(deeper)} folders in it. If these are the classes, "
                f"give {root / labels[0]}."
            )
        raise ImagesError(
            f"{root} has only one class, {labels[0]}. A model chooses between at least two: add a folder with photos "
            "of something else."
        )


def _read(root: Path, images: Sequence[FoundImage], track: Track) -> tuple[dict[FoundImage, _Seen], list[str]]:
    seen: dict[FoundImage, _Seen] = {}
    unreadable: list[str] = []
    with ThreadPoolExecutor() as pool:
        try:
            for found, result in zip(track(images, "Reading photos"), pool.map(_look, images), strict=True):
                if isinstance(result, _Seen):
                    seen[found] = result
                else:
                    unreadable.append(f"{_name(root, found)}: {result}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return seen, unreadable


def _look(found: FoundImage) -> _Seen | AgentError:
    try:
        thumbnail = thumbnail_of(found.read(smallest_side=2 * SIDE))
        with found.open() as file:
            return _Seen(sha256_of(file), thumbnail)
    except AgentError as error:
        return error
    except OSError as error:
        return ImagesError(f"it cannot be read: {error.strerror}")


def _check_counts(root: Path, labels: Sequence[str], photos: Sequence[Photo], unreadable: Sequence[str]) -> None:
    counts = Counter(photo.label for photo in photos)
    few = [f"{name} has {counts[label]}" for label, name in enumerate(labels) if counts[label] < FEWEST]
    if few:
        why = f" Unreadable: {'; '.join(unreadable[:3])}." if unreadable else ""
        raise ImagesError(
            f"Each class in {root} needs at least {FEWEST} readable photos, better {ENOUGH} or more, but "
            f"{', '.join(few[:_MOST_NAMED])}.{why}"
        )


def _unreadable(unreadable: Sequence[str]) -> Iterator[Finding]:
    if unreadable:
        count = len(unreadable)
        what = "1 photo cannot be read and was" if count == 1 else f"{count} photos cannot be read and were"
        yield Finding(f"{what} left out.", tuple(unreadable))


def _other_formats(root: Path, paths: Sequence[Path]) -> Iterator[Finding]:
    if paths:
        by_folder: dict[Path, list[Path]] = defaultdict(list)
        for path in paths:
            by_folder[path.parent.relative_to(root)].append(path)
        named = tuple(f"{folder}: {counted_suffixes(there)}" for folder, there in by_folder.items())
        yield Finding("Pictures in formats that cannot be read were left out. Save them as JPEG.", named)


def _few(labels: Sequence[str], photos: Iterable[Photo]) -> Iterator[Finding]:
    counts = Counter(photo.label for photo in photos)
    few = tuple(f"{name}: {counts[label]}" for label, name in enumerate(labels) if counts[label] < ENOUGH)
    if few:
        yield Finding(f"Some classes have fewer than {ENOUGH} photos, so their figures are uncertain.", few)


def _duplicates(photos: Iterable[Photo]) -> Iterator[Finding]:
    by_group: dict[int, list[Photo]] = defaultdict(list)
    for photo in photos:
        by_group[photo.group].append(photo)
    groups = [group for group in by_group.values() if len(group) > 1]
    named = tuple(map(_equation, groups))
    if groups:
        count = sum(map(len, groups))
        yield Finding(
            f"{count} photos are copies of others or nearly the same; those that belong together are used either for "
            "training or for checking.",
            named,
        )
    torn = [group for group in groups if len({photo.label for photo in group}) > 1]
    copies = [group for group in torn if len({photo.sha256 for photo in group}) == 1]
    for which, text in (
        (copies, "The same photo is in folders of different classes; one of them must be wrong."),
        (
            [group for group in torn if group not in copies],
            "Photos in folders of different classes are nearly the same. Check that each is in the right folder.",
        ),
    ):
        if which:
            yield Finding(text, tuple(_equation(_one_per_class(group)) for group in which))


def _alike(names: Sequence[str]) -> Iterator[Finding]:
    if names:
        yield Finding(
            "Nearly all photos of a class are nearly the same. They are used for training and for checking, so the "
            "figures of the class are too good. Add photos from other days or places.",
            tuple(names),
        )


def _one_per_class(group: Sequence[Photo]) -> list[Photo]:
    return list({photo.label: photo for photo in reversed(group)}.values())[::-1]


def _equation(group: Sequence[Photo]) -> str:
    return " = ".join(photo.name for photo in group[:3]) + (" = ..." if group[3:] else "")
