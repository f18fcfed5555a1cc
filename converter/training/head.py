"""Head: the last layer of a classifier, softmax regression on the features of a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from converter.training.minimize import minimize
from converter.training.partition import folds

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]

_DECAYS = (1e-3, 1e-4, 1e-5, 1e-6)
_INNER_FOLDS = 3
_JITTER = 1e-6
_DETAIL = 8.0  # decides for drawings and signs, which differ in strokes
_MANY = 1000  # photos, of which one inner fold says enough


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a head is trained: the weight decay, and whether on the mirrored photos too.

    `detail` multiplies the features from deep inside the backbone.
    """

    decay: float
    mirrored: bool
    detail: float = 1.0


@dataclass(frozen=True, slots=True)
class Head:
    """Softmax regression: logits = features @ kernel + bias."""

    kernel: Floats
    bias: Floats
    recipe: Recipe

    def logits(self, features: Floats) -> Floats:
        """N x labels."""
        return np.asarray(features @ self.kernel + self.bias, np.float32)

    def scores(self, features: Floats) -> Floats:
        """Probabilities, n x labels."""
        return softmax(self.logits(features))


def softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def train_head(views: Floats, truth: Ints, groups: Ints, *, labels: int, seed: int, deep: int = 0) -> Head:
    """The best recipe for these photos, then a head trained on all of them. `views`: photos x views x features.

    The last `deep` features are those from deep inside the backbone.
    """
    recipe = choose_recipe(views, truth, groups, labels=labels, seed=seed, deep=deep)
    return fit_head(views, truth, recipe, labels=labels, deep=deep)


def choose_recipe(views: Floats, truth: Ints, groups: Ints, *, labels: int, seed: int, deep: int = 0) -> Recipe:
    """By cross-validation within the given photos, so that no other photo has a say; the log loss decides."""
    fold_of = folds(truth, groups, _INNER_FOLDS, seed=seed)

    def best(recipes: list[Recipe]) -> tuple[Recipe, float]:
        losses = np.zeros(len(recipes))
        for fold in range(1 if len(truth) > _MANY else _INNER_FOLDS):
            here, there = fold_of != fold, fold_of == fold
            if there.any() and here.any():
                problems = _Problems(views[here], truth[here], labels, deep)
                losses += _losses(problems, views[there, 0], truth[there], recipes)
        return recipes[int(losses.argmin())], float(losses.min())

    plain, loss = best([Recipe(decay, mirrored) for mirrored in _mirrorings(views) for decay in _DECAYS])
    if not deep:
        return plain
    detailed, detailed_loss = best([Recipe(decay, plain.mirrored, _DETAIL) for decay in _DECAYS])
    return detailed if detailed_loss < loss else plain


def fit_head(views: Floats, truth: Ints, recipe: Recipe, *, labels: int, deep: int = 0) -> Head:
    return _Problems(views, truth, labels, deep).of(recipe).solve(recipe)


class _Problems:
    """One for all recipes that differ in nothing but the decay."""

    def __init__(self, views: Floats, truth: Ints, labels: int, deep: int) -> None:
        self._views, self._truth, self._labels, self._deep = views, truth, labels, deep
        self._made: dict[tuple[bool, float], _Problem] = {}

    def of(self, recipe: Recipe) -> _Problem:
        key = (recipe.mirrored, recipe.detail)
        if key not in self._made:
            factors = np.ones(self._views.shape[2], np.float32)
            factors[len(factors) - self._deep :] = recipe.detail
            used = self._views if recipe.mirrored else self._views[:, :1]
            self._made[key] = _Problem(used, self._truth, self._labels, factors)
        return self._made[key]


class _Problem:
    """The class-weighted log loss of some photos, plus the decay, which has one minimum.

    With fewer photos than features, the kernel of the minimum is a combination of the photos' features, so the problem
    is solved in the space that these span: ten times faster. The features are multiplied by `factors` before, and the
    head is for those that are not.
    """

    def __init__(self, views: Floats, truth: Ints, labels: int, factors: Floats) -> None:
        self._factors = factors
        self._views = views.reshape(-1, views.shape[2]) * factors
        self._targets = np.repeat(truth, views.shape[1])
        self._weights = class_weights(self._targets, labels=labels)
        self._labels = labels
        self._table: Floats | None = None

    @cached_property
    def _root(self) -> npt.NDArray[np.float64] | None:
        """The Cholesky factor of the photos' products: its rows are the photos in an orthonormal basis of that space.

        A little is added to the diagonal, because equal photos make the products singular.
        """
        if len(self._views) >= self._views.shape[1]:
            return None
        products = self._views.astype(np.float64) @ self._views.T
        return np.linalg.cholesky(products + _JITTER * products.trace() / len(products) * np.eye(len(products)))

    @cached_property
    def _features(self) -> Floats:
        return self._views if self._root is None else np.asarray(self._root, np.float32)

    def _unrolled(self, kernel: Floats) -> Floats:
        """From that basis back to the features."""
        if self._root is None:
            return np.array(kernel)
        return np.asarray(self._views.T @ np.linalg.solve(self._root.T, kernel).astype(np.float32))

    def solve(self, recipe: Recipe) -> Head:
        """Starts where the last solution ended, with another decay."""
        count, labels = self._features.shape[1], self._labels
        start = np.zeros((count + 1, labels), np.float32) if self._table is None else self._table
        table = minimize(lambda flat: self._loss(flat, recipe.decay), start.reshape(-1)).reshape(count + 1, labels)
        self._table = table
        return Head(self._factors[:, None] * self._unrolled(table[:count]), table[count].copy(), recipe)

    def _loss(self, flat: Floats, decay: float) -> tuple[float, Floats]:
        table = flat.reshape(-1, self._labels)
        kernel, at = table[:-1], np.arange(len(self._targets))
        errors = softmax(self._features @ kernel + table[-1])
        value = float((self._weights * -np.log(np.maximum(errors[at, self._targets], 1e-12))).sum())
        errors[at, self._targets] -= 1
        errors *= self._weights[:, None]
        gradient = np.concatenate([self._features.T @ errors + np.float32(decay) * kernel, errors.sum(axis=0)[None]])
        return value + decay / 2 * float((kernel**2).sum()), gradient.reshape(-1)


def class_weights(truth: Ints, *, labels: int) -> Floats:
    """One per photo, so that each class counts the same; the sum is 1."""
    counts = np.bincount(truth, minlength=labels)
    present = int((counts > 0).sum())
    return np.asarray(1 / (present * counts[truth]), np.float32)


def _mirrorings(views: Floats) -> tuple[bool, ...]:
    return (True, False) if views.shape[1] > 1 else (False,)


def _losses(problems: _Problems, unseen: Floats, truth: Ints, recipes: list[Recipe]) -> npt.NDArray[np.float64]:
    """The class-weighted log loss on `unseen` of each recipe."""
    weights = class_weights(truth, labels=int(truth.max()) + 1)
    losses = np.zeros(len(recipes))
    for number, recipe in enumerate(recipes):
        scores = problems.of(recipe).solve(recipe).scores(unseen)
        losses[number] = float((weights * -np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-12))).sum())
    return losses
