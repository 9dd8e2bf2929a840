import numpy as np
import pytest

from vitlab.statistics import stability


def paper_distance(sigma):
    """The top-5 distance as Hendrycks & Dietterich write it: two sums of an indicator.

    sigma: rank, from 1 on, in the later list of each class of the earlier one, in its order.
    """
    total = 0
    for i in range(1, 6):
        for j in range(min(i, sigma[i - 1]) + 1, max(i, sigma[i - 1]) + 1):
            total += 1 <= j - 1 <= 5
    return total


def ranking(scores):
    return np.argsort(-scores, axis=-1, kind="stable")


def test_distances_by_hand():
    # Earlier list 1 2 3 4 5 against later ones; ranks past the fifth count as the sixth.
    for later, moved in [
        ([1, 2, 3, 4, 5], 0),
        ([2, 1, 3, 4, 5], 1 + 1),
        ([5, 4, 3, 2, 1], 4 + 2 + 0 + 2 + 4),
        ([1, 2, 3, 4, 9], 1),  # 5 fell from 5 to past 5
        ([9, 1, 2, 3, 4], 1 + 1 + 1 + 1 + 1),
        ([2, 3, 4, 5, 9], 5 + 1 + 1 + 1 + 1),  # 1 fell from 1 to past 5
        ([6, 7, 8, 9, 0], 5 + 4 + 3 + 2 + 1),
    ]:
        assert stability.top5_distance(np.array([[1, 2, 3, 4, 5], later])) == moved


@pytest.mark.parametrize("classes", [6, 16, 1000])
@pytest.mark.parametrize("to_first", [False, True])
def test_the_top_five_distance_is_the_papers_double_sum(classes, to_first):
    rng = np.random.default_rng(classes)
    scores = rng.normal(size=(4, 1, classes)) + 0.5 * rng.normal(size=(4, 7, classes))
    ranks = ranking(scores)
    ours = stability.top5_distance(ranks[..., :5], to_first)
    assert ours.shape == (4,)
    for n in range(4):
        distances = []
        for t in range(1, 7):
            earlier = ranks[n, 0 if to_first else t - 1]
            later = list(ranks[n, t])
            distances.append(paper_distance([later.index(c) + 1 for c in earlier]))
        assert ours[n] == pytest.approx(np.mean(distances))
    assert ours.max() > 0


@pytest.mark.parametrize("to_first", [False, True])
def test_flips_are_counted_pair_by_pair(to_first):
    predictions = np.random.default_rng(0).integers(3, size=(5, 2, 9))
    ours = stability.flip_probability(predictions, to_first)
    for n in range(5):
        for k in range(2):
            seen = predictions[n, k]
            count = 0
            for t in range(1, 9):
                count += seen[t] != seen[0 if to_first else t - 1]
            assert ours[n, k] == pytest.approx(count / 8)


def test_one_flip_there_and_back_is_two_flips_against_the_frame_before():
    seen = np.array([0, 0, 1, 0, 0])
    assert stability.flip_probability(seen) == 2 / 4
    assert stability.flip_probability(seen, to_first=True) == 1 / 4


def test_fewer_than_five_classes_are_ranked_as_far_as_they_go():
    both = np.array([[0, 1, 2], [2, 1, 0]])
    assert stability.top5_distance(both) == 2 + 0 + 2
    assert stability.top5_distance(both[[0, 0]]) == 0


def test_one_frame_is_no_sequence():
    for measure, frames in [
        (stability.flip_probability, np.zeros((3, 1), int)),
        (stability.top5_distance, np.zeros((3, 1, 5), int)),
    ]:
        with pytest.raises(ValueError, match="two frames or more, got 1"):
            measure(frames)


@pytest.mark.parametrize("measure", [stability.flip_probability, stability.top5_distance])
def test_nan_is_no_class(measure):
    frames = np.array([[1, 2], [np.nan, 2], [3, 4]])
    with pytest.raises(ValueError, match="got NaN"):
        measure(frames)


def test_lists_are_of_the_five_best_each_once():
    ten = np.stack([np.arange(10), np.arange(10)[::-1]])
    with pytest.raises(ValueError, match=r"1 to 5 best classes, got 10; give best\[\.\.\., :5\]"):
        stability.top5_distance(ten)
    assert stability.top5_distance(ten[:, :5]) == 15
    for wrong, message in [
        (ten[:, :0], "got 0"),
        (ten * 0, "got 10"),
        (ten[:, :5] * 0, "a class twice"),
        (ten[0], r"\[\.\.\., frames, classes\], got \[10\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            stability.top5_distance(wrong)
    with pytest.raises(ValueError, match=r"asked of \[\.\.\., frames\], got \[\]"):
        stability.flip_probability(np.array(3))
