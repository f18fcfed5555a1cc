"""Familiarity: how much a photo looks like those of the training, so that what looks like none gets low scores.

The scores of a classifier say which label fits best, even if none fits. Here its logits are multiplied by the
familiarity, from 0 to 1: the order of the labels stays, and the scores of an unfamiliar photo are nearly equal. That
the nearest neighbor among the features tells what was never trained is from Sun et al., 2022 (arXiv 2204.06507).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from converter.training.head import softmax

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]

_MOST = 500  # photos that are in the model: 0.7 MB as int8
_UNFAMILIAR = 0.05  # the share of held-out photos whose familiarity is below one half
_STEEP = 0.25
_LEAST_COSINE = 0.1
_LEAST_SPREAD = 0.05  # photos of a camera that does not move are nearly the same; new light must not look strange


@dataclass(frozen=True, slots=True)
class Familiarity:
    """Compares the features of a photo, multiplied by `weights`, with those of the most similar training photo.

    The logistic function of dot^2 - penalty * length^2, where dot is the largest product with a row of `photos`, and
    length that of the features. This is positive if their cosine is large enough, and needs no root or quotient, which
    are coarse in int8, and not in every runtime.
    """

    weights: Floats
    photos: Floats
    penalty: float

    def of(self, features: Floats) -> Floats:
        """One value for each row of n x features."""
        weighted = features * self.weights
        largest = np.maximum((weighted @ self.photos.T).max(axis=1), 0)
        return softmax(np.stack([largest**2, self.penalty * (weighted**2).sum(axis=1)], axis=1))[:, 0]


def familiarity_of(trained: Floats, held_out: Floats) -> Familiarity:
    """From the features of training photos and of others with the same labels, a twentieth of which get less than 0.5.

    Features that vary little between the training photos count more. For ten pairs of classes of real photos, the
    largest cosine rejected twice as many photos of classes never trained as the best score; the distance, centered
    features and the mean of several neighbors were worse.
    """
    spread = trained.std(axis=0)
    weights = np.asarray(1 / (spread + max(float(spread.mean()), 1e-6)), np.float32)
    weights /= max(float(np.linalg.norm(held_out * weights, axis=1).mean()), 1e-6)
    photos = _unit(trained * weights)
    cosines = (_unit(held_out * weights) @ photos.T).max(axis=1)
    middle = max(float(np.quantile(cosines, _UNFAMILIAR)), _LEAST_COSINE)
    width = _STEEP * max(float(cosines.std()), _LEAST_SPREAD)
    scale = 1 / (2 * middle * width)  # cos^2 - middle^2 is about 2 * middle * (cos - middle)
    return Familiarity(weights, np.asarray(np.sqrt(scale) * photos, np.float32), scale * middle**2)


def examples_of(truth: Ints, *, seed: int) -> Ints:
    """Indices of the photos to keep in the model: at most 500, of each class in turn."""
    order = np.random.default_rng(seed).permutation(len(truth))
    turns = np.zeros(len(truth), np.int64)
    for label in np.unique(truth):
        own = order[truth[order] == label]
        turns[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turns[order], kind="stable")][:_MOST])


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)
