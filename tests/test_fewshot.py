import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vitlab.inside import episodes as fewshot

LABELS = torch.arange(160) % 8


@pytest.mark.parametrize(
    ("way", "shot", "d", "c"), [(5, 5, 96, 1.0), (3, 1, 40, 10.0), (5, 5, 8, 1.0), (2, 5, 40, 1.0)]
)
def test_all_episodes_at_once_reach_scikit_learns_optimum(way, shot, d, c):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(8, d, generator=generator)
    features = torch.nn.functional.normalize(
        centres[LABELS] + 1.5 * torch.randn(160, d, generator=generator), dim=1
    )
    episodes = fewshot.sample(LABELS, way, shot, 10, 12)
    support, query = features.double()[episodes.support], features.double()[episodes.query]
    ours = fewshot.logistic_regression(
        support @ support.mT, episodes.support_target, query @ support.mT, c
    ).softmax(2)
    for e in range(12):
        oracle = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
        oracle.fit(features[episodes.support[e]].double(), episodes.support_target[e])
        theirs = oracle.predict_proba(features[episodes.query[e]].double())
        assert np.abs(ours[e].numpy() - theirs).max() < 1e-4


def test_accuracy_is_a_loop_over_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(8, 30, generator=generator)[LABELS]
    features = features + 2 * torch.randn(160, 30, generator=generator)
    episodes = fewshot.sample(LABELS, 5, 5, 15, 30)
    unit = torch.nn.functional.normalize(features, dim=1)
    loop = [
        LogisticRegression(tol=1e-8, max_iter=5000)
        .fit(unit[episodes.support[e]], episodes.support_target[e])
        .score(unit[episodes.query[e]], episodes.query_target[e])
        for e in range(30)
    ]
    assert fewshot.accuracy(features, episodes, chunk=7).numpy() == pytest.approx(loop)


def test_a_large_pool_gives_the_same_accuracies():
    """Above 4,000 images the inner products are taken episode by episode."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(4100) % 8
    features = torch.randn(8, 30, generator=generator)[labels]
    features = features + 2 * torch.randn(4100, 30, generator=generator)
    small = fewshot.sample(labels[:160], 5, 5, 15, 10)
    whole, part = fewshot.accuracy(features, small), fewshot.accuracy(features[:160], small)
    assert torch.equal(whole, part)


def test_support_images_that_coincide_are_fitted_like_scikit_learn():
    features = torch.eye(8)[LABELS] + 0.1
    episodes = fewshot.sample(LABELS, 5, 5, 10, 5)
    assert torch.equal(fewshot.accuracy(features, episodes), torch.ones(5).double())
    assert fewshot.accuracy(0 * features, episodes).numpy() == pytest.approx(0.2)


def test_episodes_are_what_they_say():
    episodes = fewshot.sample(LABELS, 5, 3, 4, 50)
    for e in range(50):
        support, query = LABELS[episodes.support[e]], LABELS[episodes.query[e]]
        classes = support[::3]
        assert len(set(classes.tolist())) == 5
        assert torch.equal(support, classes.repeat_interleave(3))
        assert torch.equal(query, classes.repeat_interleave(4))
        assert not set(episodes.support[e].tolist()) & set(episodes.query[e].tolist())
        assert torch.equal(classes[episodes.query_target[e]], query)


def test_an_episode_does_not_depend_on_how_many_are_drawn():
    few, many = fewshot.sample(LABELS, 5, 5, 5, 3), fewshot.sample(LABELS, 5, 5, 5, 9)
    assert torch.equal(few.query, many.query[:3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((9, 5, 5), "9-way episodes need 9 classes, there are 8"),
        ((5, 15, 6), "smallest class has 20"),
    ],
)
def test_episodes_that_cannot_be_drawn_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fewshot.sample(LABELS, *arguments, 1)


def pool(seed, images=160, noise=2.0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(8, 30, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(images) % 8
    return centres[labels] + noise * torch.randn(images, 30, generator=generator), labels


def test_the_rows_of_a_pool_have_its_mean_and_are_the_same_again():
    features, labels = pool(1)
    whole = fewshot.accuracy(features, fewshot.sample(labels, 5, 5, 15, 40))
    rows = fewshot.over_pools(features, labels, whole, 5, 5, 15)
    assert rows.shape == (40,)
    assert rows.mean().item() == pytest.approx(whole.mean().item())
    assert torch.equal(rows, fewshot.over_pools(features, labels, whole, 5, 5, 15))


def test_the_error_of_a_pool_is_what_pools_differ_by():
    errors, means = [], []
    for seed in range(1, 13):
        features, labels = pool(seed)
        whole = fewshot.accuracy(features, fewshot.sample(labels, 5, 5, 15, 60))
        means.append(whole.mean().item())
        rows = fewshot.over_pools(features, labels, whole, 5, 5, 15, halves=20, count=8)
        errors.append(rows.std().item() / 20**0.5)
        assert errors[-1] > whole.std().item() / 60**0.5  # more than the episodes' own
    assert np.mean(np.square(errors)) ** 0.5 == pytest.approx(np.std(means, ddof=1), rel=0.5)


def test_where_all_episodes_are_right_a_pool_has_no_error():
    features, labels = pool(1, noise=0.0)
    whole = fewshot.accuracy(features, fewshot.sample(labels, 5, 5, 15, 10))
    rows = fewshot.over_pools(features, labels, whole, 5, 5, 15, halves=4, count=2)
    assert rows.tolist() == [1.0] * 4


def test_features_that_are_no_numbers_are_no_class():
    labels = torch.arange(40) % 4
    drawn = fewshot.sample(labels, 2, 1, 2, 3)
    broken = torch.rand(40, 5)
    broken[drawn.query[0, 0], 0] = float("nan")
    for call, message in [
        (lambda: fewshot.accuracy(broken, drawn), "features hold NaN or infinity"),
        (lambda: fewshot.accuracy(torch.rand(10, 5), drawn), r"got \[10, 5\]"),
        (lambda: fewshot.accuracy(torch.rand(40), drawn), r"features are \[n, d\]"),
        (lambda: fewshot.sample(labels, 2, 1, 2, 0), "0 episodes"),
        (lambda: fewshot.sample(labels[:0], 2, 1, 2, 3), r"labels \[0\]"),
        (lambda: fewshot.sample(labels, 2, 1, 2, 3, seed=None), "a seed is an integer"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
