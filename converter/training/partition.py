"""Partition: divides photos into training and checking, evenly over the classes, with near duplicates on one side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from converter.errors import ImagesError
from converter.training.dataset import Finding

if TYPE_CHECKING:
    import numpy.typing as npt

    from converter.training.dataset import Dataset

    Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Partition:
    """Indices into the photos. `held_out` decides between candidates; `test`, if given, decides nothing."""

    train: Ints
    held_out: Ints
    test: Ints | None
    findings: tuple[Finding, ...] = ()

    @property
    def judged(self) -> Ints:
        """The photos for the figures of the report."""
        return self.held_out if self.test is None else self.test


def partition(dataset: Dataset, *, held_out: float, seed: int) -> Partition:
    """The splits that the folder has, or a random choice by `seed`. Raises ImagesError if a side lacks a class."""
    divided = _given(dataset) if dataset.has_parts else _drawn(dataset, held_out, seed)
    for side, indices in (("training", divided.train), ("checking", divided.held_out)):
        present = set(dataset.truth[indices].tolist())
        missing = [name for label, name in enumerate(dataset.labels) if label not in present]
        if missing:
            raise ImagesError(
                f"No photo of {', '.join(missing)} is left for {side}: photos that are nearly the same stay together. "
                "Add different photos."
            )
    return divided


def folds(truth: Ints, groups: Ints, count: int, *, seed: int) -> Ints:
    """A fold from 0 to `count` - 1 for each photo; each class is spread evenly, and a group stays in one fold.

    Large groups come first, each into the fold that has the fewest photos of its class.
    """
    random = np.random.default_rng(seed)
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    classes = np.zeros(len(sizes), np.int64)
    classes[numbers] = truth
    order = random.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros((int(truth.max()) + 1, count))
    total = np.zeros(count)
    fold_of = np.zeros(len(sizes), np.int64)
    for group in order:
        own = filled[classes[group]]
        fold = int(np.lexsort((total, own))[0])
        fold_of[group] = fold
        own[fold] += sizes[group]
        total[fold] += sizes[group]
    return np.asarray(fold_of[numbers.reshape(-1)])


def _drawn(dataset: Dataset, share: float, seed: int) -> Partition:
    """Of each class one of so many folds that each has about `share` of the photos: the one that comes closest.

    A large group of near duplicates fills a fold, and the model needs it more than the check.
    """
    truth, groups = dataset.truth, dataset.groups
    fold = folds(truth, groups, max(2, round(1 / share)), seed=seed)
    chosen = np.zeros(len(truth), np.bool_)
    for label in range(len(dataset.labels)):
        own = truth == label
        counts = np.bincount(fold[own]).astype(np.float64)
        counts[counts == 0] = np.inf
        nearest = int(np.abs(counts - share * own.sum()).argmin())
        chosen |= np.isin(groups, groups[own & (fold == nearest)])
    return Partition(np.flatnonzero(~chosen), np.flatnonzero(chosen), None)


def _given(dataset: Dataset) -> Partition:
    parts = np.array([photo.part for photo in dataset.photos])
    checking = parts != "train"
    leaked = ~checking & np.isin(dataset.groups, dataset.groups[checking])
    train = np.flatnonzero(~checking & ~leaked)
    names = tuple(dataset.photos[at].name for at in np.flatnonzero(leaked))
    text = "Photos for training that are also, or nearly so, among those for checking were left out."
    findings = (Finding(text, names),) if names else ()
    if not (parts == "validation").any():
        return Partition(train, np.flatnonzero(parts == "test"), None, findings)
    test = np.flatnonzero(parts == "test")
    return Partition(train, np.flatnonzero(parts == "validation"), test if len(test) else None, findings)
