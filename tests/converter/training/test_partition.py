"""Partition: even over the classes, groups on one side, the same by the same seed."""

from __future__ import annotations

import numpy as np

from converter.training.partition import folds


def test_folds_spread_each_class_evenly() -> None:
    truth = np.repeat([0, 1, 2], [50, 20, 7])
    fold = folds(truth, np.arange(77), 5, seed=1)
    for label in range(3):
        counts = np.bincount(fold[truth == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_folds_keep_groups_together_even_across_classes() -> None:
    truth = np.repeat([0, 1], 30)
    groups = np.arange(60)
    groups[:10] = 0
    groups[40] = 20
    fold = folds(truth, groups, 4, seed=0)
    assert len(set(fold[:10].tolist())) == 1
    assert fold[40] == fold[20]


def test_folds_depend_only_on_the_seed() -> None:
    truth = np.repeat([0, 1], 40)
    one, same, other = (folds(truth, np.arange(80), 5, seed=seed) for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()
