"""Head: reaches the minimum that scikit-learn finds, in either space, and chooses its recipe without other photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.training.head import Recipe, class_weights, fit_head, train_head

if TYPE_CHECKING:
    import numpy.typing as npt

    Views = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]


def _photos(per_class: int, features: int) -> tuple[Views, Ints]:
    """Three overlapping clouds, with one view per photo."""
    random = np.random.default_rng(5)
    truth = np.repeat(np.arange(3), [per_class, per_class // 2, per_class // 3])
    centers = random.normal(0, 1, (3, features)) / np.sqrt(features)
    points = centers[truth] + random.normal(0, 1.2, (len(truth), features)) / np.sqrt(features)
    return points[:, None].astype(np.float32), truth


@pytest.mark.parametrize("features", [5, 200], ids=["fewer-features-than-photos", "more"])
def test_head_is_the_minimum_of_the_weighted_loss(features: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    views, truth = _photos(30, features)
    decay = 1e-3
    head = fit_head(views, truth, Recipe(decay, mirrored=False), labels=3)
    reference = linear.LogisticRegression(C=1 / decay, max_iter=5000, tol=1e-8)
    reference.fit(views[:, 0], truth, sample_weight=class_weights(truth, labels=3))
    np.testing.assert_allclose(head.scores(views[:, 0]), reference.predict_proba(views[:, 0]), atol=0.01)


def test_class_weights_count_each_class_the_same() -> None:
    truth = np.repeat([0, 1], [90, 10])
    weights = class_weights(truth, labels=2)
    assert weights[truth == 0].sum() == pytest.approx(weights[truth == 1].sum())


def test_mirrored_photos_are_left_out_if_they_mislead() -> None:
    """As with letters: the mirror image of one class looks like the other."""
    views, truth = _photos(30, 20)
    views, truth = views[truth < 2], truth[truth < 2]
    mirrored = np.concatenate([views, -views], axis=1)
    groups = np.arange(len(truth))
    centered = mirrored - mirrored[:, :1].mean(axis=0, keepdims=True)
    assert not train_head(centered, truth, groups, labels=2, seed=0).recipe.mirrored


@pytest.mark.parametrize(("telling", "detail"), [("deep", 8.0), ("others", 1.0)])
def test_features_from_deep_inside_count_more_if_that_helps(telling: str, detail: float) -> None:
    views, truth = _photos(60, 20)
    noise = np.random.default_rng(3).normal(0, 1, views.shape).astype(np.float32)
    parts = [noise, 0.1 * views] if telling == "deep" else [3 * views, noise]
    recipe = train_head(np.concatenate(parts, axis=2), truth, np.arange(len(truth)), labels=3, seed=0, deep=20).recipe
    assert recipe.detail == detail


def test_training_twice_gives_equal_bytes() -> None:
    views, truth = _photos(40, 100)
    one, other = (train_head(views, truth, np.arange(len(truth)), labels=3, seed=2) for _ in range(2))
    assert one.kernel.tobytes() == other.kernel.tobytes()
    assert one.recipe == other.recipe
