"""Familiarity: how much a photo looks like the known photos; an unfamiliar photo gets low scores.

The scores of a classifier say which label fits best, even if none fits. Here its logits are multiplied by the
familiarity, from 0.1 to 1: the order of the labels stays, and the scores of an unfamiliar photo are nearly equal. That
the neighbors among the features tell what was never trained is from Sun et al., 2022 (arXiv 2204.06507).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from converter.training.head import softmax

if TYPE_CHECKING:
    import numpy.typing as npt

    from converter.training.head import Head

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]

LEAST = 0.1  # with less, int8 has too few steps to tell the labels apart
_SAME = 0.9  # cosine of features from which two photos count as the same one, such as mirrored or compressed again
_MOST_EXAMPLES = 500  # 0.7 MB as int8, with the default network
_FEWEST_PER_CLASS = 2
_UNFAMILIAR_SHARE = 0.1
_COSINES = (0.1, 0.85)  # photos of a camera that does not move are nearly the same; new light must not look strange
_LEAST_SPREAD = 0.05
_STEEPNESS = 0.25


@dataclass(frozen=True, slots=True)
class Familiarity:
    """Compares the features of a photo, multiplied by `weights`, with those of the most similar other photo.

    The same photo does not count. So an example is not more familiar than other photos of its kind, and the photos held
    out to find a threshold can be examples, too.

    The logistic function of dot^2 - penalty * length^2, where dot is the product with a row of `examples`, and length
    that of the features. This is positive if their cosine is above `middle`, and needs no root or quotient, which are
    coarse in int8, and not in every runtime.
    """

    weights: Floats
    examples: Floats
    penalty: float
    middle: float

    @property
    def same(self) -> float:
        """The photo is the same one if dot^2 is above this times penalty * length^2; the change is gradual."""
        return (_SAME / self.middle) ** 2

    def scores(self, head: Head, features: Floats) -> Floats:
        """Probabilities, n x labels, of n x features."""
        return softmax(head.logits(features) * self.of(features)[:, None])

    def of(self, features: Floats) -> Floats:
        """One value for each row of n x features."""
        weighted = features * self.weights
        squares = np.maximum(_two_largest(weighted @ self.examples.T), 0) ** 2
        length = self.penalty * (weighted**2).sum(axis=1)
        which = softmax(np.stack([self.same * length, squares[:, 0]], axis=1))
        alike = (squares * which).sum(axis=1)
        return np.asarray(LEAST + (1 - LEAST) * softmax(np.stack([alike, length], axis=1))[:, 0], np.float32)


def familiarity_of(examples: Floats, typical: Floats) -> Familiarity:
    """From the features of known photos: about 10 % of the `typical` ones, which may be examples, become unfamiliar.

    Features that vary little between the photos count more. For ten pairs of classes of real photos, the cosine
    rejected twice as many photos of classes never trained as the best score; the distance, centered features, the
    second and third neighbor, neighbors of one class, and the labels of ImageNet were worse.
    """
    deviations = examples.std(axis=0)
    weights = np.asarray(1 / (deviations + max(float(deviations.mean()), 1e-6)), np.float32)
    weights /= max(float(np.linalg.norm(typical * weights, axis=1).mean()), 1e-6)
    rows = _unit(examples * weights)
    first, second = _two_largest(_unit(typical * weights) @ rows.T).T
    cosines = np.where(first > _SAME, second, first)
    middle = float(np.clip(np.quantile(cosines, _UNFAMILIAR_SHARE), *_COSINES))
    spread = max(float(cosines.std()), _LEAST_SPREAD)
    scale = 1 / (2 * middle * _STEEPNESS * spread)  # cos^2 - middle^2 is about 2 * middle * (cos - middle)
    return Familiarity(weights, np.asarray(np.sqrt(scale) * rows, np.float32), scale * middle**2, middle)


def examples_of(truth: Ints, *, seed: int) -> Ints:
    """Indices of the photos to keep in the model: of each class in turn, at most 500, or two of each class."""
    order = np.random.default_rng(seed).permutation(len(truth))
    turns = np.zeros(len(truth), np.int64)
    labels = np.unique(truth)
    for label in labels:
        own = order[truth[order] == label]
        turns[own] = np.arange(len(own))
    most = max(_MOST_EXAMPLES, _FEWEST_PER_CLASS * len(labels))
    return np.sort(order[np.argsort(turns[order], kind="stable")][:most])


def _two_largest(rows: Floats) -> Floats:
    """Of each row, the largest first."""
    return np.asarray(np.partition(rows, (-2, -1), axis=1)[:, :-3:-1], np.float32)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)
