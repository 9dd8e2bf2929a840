"""Detection by low confidence, against scikit-learn, loops over pairs and the bootstrap."""

import numpy as np
import pytest
from padding import far
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from vitlab.rng import generator
from vitlab.statistics import detection
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


def test_auroc_is_scikit_learns_also_with_equal_scores_and_weights():
    draw = np.random.default_rng(2)
    inside, outside = draw.random(50).round(1), (draw.random(30) * 0.8).round(1)
    labels, scores = np.r_[np.ones(50), np.zeros(30)], np.r_[inside, outside]
    assert detection.auroc(inside, outside) == pytest.approx(roc_auc_score(labels, scores))
    counts = draw.integers(0, 3, (2, 80))
    expected = [roc_auc_score(labels, scores, sample_weight=one) for one in counts]
    assert detection.auroc(inside, outside, counts) == pytest.approx(expected)


def test_what_an_image_adds_to_the_auroc_is_its_pairs():
    inside, outside = np.array([0.9, 0.5, 0.5]), np.array([0.5, 0.1])
    ours, theirs = detection.placements(inside, outside)
    assert ours.tolist() == [1, 0.75, 0.75]
    assert theirs == pytest.approx([4 / 6, 1])


def test_auroc_of_a_group_has_delongs_interval_and_pairs_models():
    draw = np.random.default_rng(3)
    known = {name: (draw.normal(1, 1, 80), draw.normal(0, 1, 60)) for name in "ab"}
    one = detection.group_auroc(known, ["a"])
    ours, theirs = detection.placements(*known["a"])
    variance = far(ours).var(ddof=1) / 82 + far(theirs).var(ddof=1) / 62
    half = (one.interval.high - one.interval.low) / 2
    assert half == pytest.approx(1.98 * np.sqrt(variance), rel=0.01)
    both = detection.group_auroc(known, ["a", "b"])
    each = [roc_auc_score(np.r_[np.ones(80), np.zeros(60)], np.r_[known[m]]) for m in "ab"]
    assert both.value == pytest.approx(np.mean(each))
    assert both.without("b").value == pytest.approx(each[0])
    assert (one - one).interval[:3] == pytest.approx((0, 0, 0))


def test_fpr95_is_the_roc_curves():
    draw = np.random.default_rng(4)
    inside, outside = draw.normal(1, 1, 200), draw.normal(0, 1, 150)
    wrong, kept, _ = roc_curve(np.r_[np.ones(200), np.zeros(150)], np.r_[inside, outside])
    exact = wrong[kept >= 0.95].min()
    assert detection.fpr95(inside, outside) == pytest.approx(exact)
    assert detection.fpr95(np.ones(20), np.ones(9)) == 1


def test_the_kth_neighbour_is_scikit_learns():
    draw = np.random.default_rng(5)
    features, reference = draw.normal(size=(7, 4)), draw.normal(size=(30, 4))
    scaled = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, reference)]
    distance, _ = NearestNeighbors(n_neighbors=3).fit(scaled[1]).kneighbors(scaled[0])
    assert detection.nearest(features, reference, 3) == pytest.approx(-distance[:, -1])
    with pytest.raises(ValueError, match="the 5-th nearest of 3 reference images"):
        detection.nearest(features, reference[:3])


@pytest.mark.parametrize("k", [0, -1])
def test_there_is_no_zeroth_neighbour(k):
    with pytest.raises(ValueError, match=f"the {k}-th nearest of 6 reference images"):
        detection.nearest(np.ones((3, 4)), np.eye(6, 4) + 1, k)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, 0])
@pytest.mark.parametrize("which", [0, 1])
def test_features_without_direction_have_no_neighbours(spoilt, which):
    both = [np.ones((3, 4)), np.ones((9, 4))]
    both[which][1] = spoilt
    with pytest.raises(ValueError, match="no direction"):
        detection.nearest(*both, 2)


MEASURES = [detection.aupr, detection.auroc, detection.fpr95, detection.placements]


@pytest.mark.parametrize("measure", MEASURES)
def test_a_score_of_nan_ranks_nowhere(measure):
    inside, outside = drawn(6)
    spoilt = np.where(np.arange(60) == 3, np.nan, inside)
    for pair in ((spoilt, outside), (outside, spoilt)):
        with pytest.raises(ValueError, match="1 of 60 scores are NaN"):
            measure(*pair)
    with pytest.raises(ValueError, match=r"one for each image, not \[6, 10\]"):
        measure(inside.reshape(6, 10), outside)


@pytest.mark.parametrize("measure", MEASURES[:3])
def test_without_images_of_both_kinds_nothing_is_detected(measure):
    for sizes in ((0, 5), (5, 0), (0, 0)):
        assert np.isnan(measure(*map(np.ones, sizes)))
    known, unknown = placements(np.ones(3), np.ones(0))
    assert np.isnan(known).all()
    assert unknown.shape == (0,)
    if measure is not detection.fpr95:
        assert np.isnan(measure(np.ones(3), np.ones(0), np.ones((2, 3)))).tolist() == [True] * 2


@pytest.mark.parametrize("group", [group_auroc, detection.group_aupr])
def test_a_group_of_no_models_has_no_mean(group):
    with pytest.raises(ValueError, match="one model or more"):
        group({"a": drawn(7)}, [])
