"""Assessment: how good a head is on photos that it was not trained on, and what more photos would bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from converter.training.familiarity import examples_of, familiarity_of
from converter.training.head import choose_recipe, fit_head
from converter.training.partition import folds
from converter.training.result import balanced_accuracy

if TYPE_CHECKING:
    import numpy.typing as npt

    from converter.progress import Track
    from converter.training.checkpoint import Checkpoint

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]

SHARES = (0.25, 0.5, 1.0)  # of the photos for training
_REPEATS = 2


@dataclass(frozen=True, slots=True)
class Assessment:
    """Cross-validation: `scores` has one row per photo, from the head of the fold that did not train on it.

    `curve` has the balanced accuracy, and `recalls` the recall of each class, for each of SHARES.
    """

    fold_of: Ints
    scores: Floats
    curve: Floats
    recalls: Floats

    def balanced_accuracies(self, truth: Ints) -> Floats:
        """One per fold."""
        each = (self.fold_of == at for at in np.unique(self.fold_of))
        return np.array([balanced_accuracy(self.scores[own], truth[own]) for own in each], np.float32)


def assess(
    views: Floats,
    truth: Ints,
    groups: Ints,
    *,
    deep: int,
    count: int,
    seed: int,
    checkpoint: Checkpoint,
    track: Track,
) -> Assessment:
    """Cross-validation over `count` folds, each one step of the checkpoint. `deep`: see train_head()."""
    labels = int(truth.max()) + 1
    fold_of = folds(truth, groups, count, seed=seed)
    scores = np.zeros((len(truth), labels), np.float32)
    answers = np.zeros((len(SHARES), len(truth)), np.float32)
    for fold in track(range(count), "Checking how well the classes are recognized"):
        own = np.flatnonzero(fold_of == fold)
        if not len(own):
            continue
        name = f"fold-{fold}-of-{count}"
        stored = checkpoint.load(name)
        if stored is None:
            stored = _fold(views, truth, groups, deep=deep, here=fold_of != fold, there=own, seed=seed)
            checkpoint.save(name, stored)
        scores[own], answers[:, own] = stored["scores"], stored["answers"]
    recalls = np.stack([answers[:, truth == label].mean(axis=1) for label in range(labels)], axis=1)
    return Assessment(fold_of, scores, recalls.mean(axis=1), recalls)


def _fold(
    views: Floats, truth: Ints, groups: Ints, *, deep: int, here: npt.NDArray[np.bool_], there: Ints, seed: int
) -> dict[str, Floats]:
    labels = int(truth.max()) + 1
    recipe = choose_recipe(views[here], truth[here], groups[here], labels=labels, seed=seed, deep=deep)
    answers = np.zeros((len(SHARES), len(there)), np.float32)
    for number, share in enumerate(SHARES):
        repeats = 1 if share == 1 else _REPEATS
        for repeat in range(repeats):
            used = _sample(np.flatnonzero(here), truth, share, seed=seed + repeat)
            head = fit_head(views[used], truth[used], recipe, labels=labels, deep=deep)
            scores = head.scores(views[there, 0])
            answers[number] += (scores.argmax(axis=1) == truth[there]) / repeats
    examples = views[used[examples_of(truth[used], seed=seed)], 0]
    return {"scores": familiarity_of(examples, examples).scores(head, views[there, 0]), "answers": answers}


def _sample(indices: Ints, truth: Ints, share: float, *, seed: int) -> Ints:
    """A share of each class, at least one photo."""
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(truth[indices]):
        own = random.permutation(indices[truth[indices] == label])
        chosen.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(chosen))
