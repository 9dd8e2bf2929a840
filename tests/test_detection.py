"""AUROC against scikit-learn and a loop over pairs; its interval against the bootstrap."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vitlab.rng import generator
from vitlab.statistics.detection import group_auroc, placements


def drawn(seed, n=60, m=40, ties=False):
    rng = generator("test auroc", seed)
    inside, outside = rng.normal(0.8, 1, n), rng.normal(0, 1, m)
    return (inside.round(), outside.round()) if ties else (inside, outside)


@pytest.mark.parametrize("ties", [False, True])
def test_against_scikit_learn_and_all_pairs(ties):
    inside, outside = drawn(0, ties=ties)
    positive = np.r_[np.zeros(60), np.ones(40)]
    expected = roc_auc_score(positive, -np.r_[inside, outside])
    pairs = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    known, unknown = placements(inside, outside)
    np.testing.assert_allclose(known, pairs.mean(1))
    np.testing.assert_allclose(unknown, pairs.mean(0))
    found = group_auroc({"a": (inside, outside)}, ["a"])
    assert found.value == pytest.approx(expected)
    assert known.mean() == pytest.approx(expected)


def test_a_groups_mean_and_the_same_without_one_training():
    scores = {"a": drawn(1), "b": drawn(2)}
    each = [group_auroc(scores, [name]).value for name in scores]
    both = group_auroc(scores, ["a", "b"])
    assert both.value == pytest.approx(np.mean(each))
    assert both.without("a").value == pytest.approx(each[1])


def test_its_interval_is_as_wide_as_a_bootstrap_says():
    inside, outside = drawn(3, 400, 300)
    rng = generator("test auroc bootstrap")
    again = [
        placements(rng.choice(inside, 400), rng.choice(outside, 300))[0].mean() for _ in range(2000)
    ]
    interval = group_auroc({"a": (inside, outside)}, ["a"]).interval
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.std(again), rel=0.08)


def test_two_scores_of_the_same_images_are_paired():
    inside, outside = drawn(4)
    one = group_auroc({"a": (inside, outside)}, ["a"])
    same = group_auroc({"a": (np.exp(inside), np.exp(outside))}, ["a"])
    gap = (one - same).interval
    assert gap.value == pytest.approx(0)
    assert gap.high - gap.low < 1e-6
