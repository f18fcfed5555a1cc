"""Unknown: how many photos of two classes that were never trained are rejected, of all ten pairs of five."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from conversions import untracked
from stamps import FOLDERS, copy_photos, copy_stamps

from converter.evaluation.unknown import find_threshold
from converter.training.backbone import DEFAULT, open_backbone
from converter.training.checkpoint import Checkpoint
from converter.training.dataset import open_dataset
from converter.training.familiarity import familiarity_of
from converter.training.features import features_of, scales_of
from converter.training.head import Recipe, fit_head
from converter.training.partition import folds
from converter.training.strategy import strategy_of_host

if TYPE_CHECKING:
    import numpy.typing as npt

    from converter.training.backbone import Backbone

    Flags: TypeAlias = npt.NDArray[np.bool_]
    Floats: TypeAlias = npt.NDArray[np.floating]
    Ints: TypeAlias = npt.NDArray[np.int64]

pytestmark = pytest.mark.long

OTHER = "other"
OTHER_FOLDERS = ("household", "vehicles", "hobbies", "seasonal/christmas")
_FOLDS = 10
_RECIPE = Recipe(decay=1e-4, mirrored=True)


@dataclass(frozen=True)
class Seen:
    """What the frozen network sees in each photo."""

    backbone: Backbone
    labels: tuple[str, ...]
    views: Floats
    truth: Ints
    groups: Ints

    def of(self, names: tuple[str, ...]) -> Flags:
        return np.isin(self.truth, [self.labels.index(name) for name in names])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    root = copy_stamps(tmp_path_factory.mktemp("photos") / "stamps")
    for folder in OTHER_FOLDERS:
        copy_photos(folder, root / OTHER)
    dataset, backbone = open_dataset(root, track=untracked), open_backbone(DEFAULT, None)
    checkpoint = Checkpoint(root.with_name("checkpoint"), key="")
    views = features_of(backbone, dataset.photos, checkpoint, strategy=strategy_of_host(), track=untracked)
    return Seen(backbone, dataset.labels, views, dataset.truth, dataset.groups)


def rejected(seen: Seen, never_trained: tuple[str, ...], *, other: bool) -> tuple[float, float]:
    """The shares of the known and of the unknown photos; each threshold is of known photos in other folds.

    One fold is judged, the next one is the photos held out from the training on the rest. With `other`, there is also
    a label for the photos of other things, which counts as no answer.
    """
    names = tuple(name for name in FOLDERS if name not in never_trained)
    known, unknown, others = seen.of(names), seen.of(never_trained), seen.of((OTHER,))
    used = known | (others & other)
    truth = np.where(others, len(names), np.searchsorted(sorted(map(seen.labels.index, names)), seen.truth))
    fold = np.full(len(seen.truth), -1)
    fold[used] = folds(truth[used], seen.groups[used], _FOLDS, seed=0)
    best: list[tuple[Floats, Floats]] = []
    for number in range(_FOLDS):
        held_out = fold == (number + 1) % _FOLDS
        train = used & (fold != number) & ~held_out
        scales = scales_of(seen.backbone, seen.views[train])
        head = fit_head(seen.views[train] / scales, truth[train], _RECIPE, labels=len(names) + other)
        examples = seen.views[train | held_out, 0] / scales
        familiarity = familiarity_of(examples, examples)
        sides = (seen.views[side, 0] / scales for side in (known & (fold == number), unknown))
        mine, theirs = (familiarity.scores(head, side)[:, : len(names)].max(axis=1) for side in sides)
        best.append((mine, theirs))
    known_rejected, unknown_rejected = [], []
    for number, (mine, theirs) in enumerate(best):
        rest = np.concatenate([each for at, (each, _) in enumerate(best) if at != number])
        below = find_threshold(rest)
        known_rejected.append(mine < below)
        unknown_rejected.append(theirs < below)
    return float(np.concatenate(known_rejected).mean()), float(np.concatenate(unknown_rejected).mean())


def mean_shares(seen: Seen, *, other: bool) -> tuple[float, float]:
    shares = {pair: rejected(seen, pair, other=other) for pair in itertools.combinations(FOLDERS, 2)}
    for pair, (known, unknown) in shares.items():
        print(f"never trained {' and '.join(pair)}: {known:.2f} of known, {unknown:.2f} of unknown rejected")
    known, unknown = np.mean(list(shares.values()), axis=0)
    print(f"mean: {known:.3f} of known, {unknown:.3f} of unknown rejected")
    return known, unknown


def test_photos_of_classes_never_trained_are_rejected_as_often_as_the_guide_says(seen: Seen) -> None:
    """Not always: to a network that never saw fruit, much fruit looks like a vegetable."""
    known, unknown = mean_shares(seen, other=False)
    assert known <= 0.1
    assert unknown >= 0.7


def test_a_class_of_other_things_helps_little_against_classes_that_it_does_not_show(seen: Seen) -> None:
    known, unknown = mean_shares(seen, other=True)
    assert known <= 0.1
    assert unknown >= 0.6
