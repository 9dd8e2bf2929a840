import numpy as np
import pandas as pd
import pytest
import scipy.stats

from vitlab import statistics as stats


def test_the_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(0).exponential(size=300)
    ours = stats.bootstrap(values)
    theirs = scipy.stats.bootstrap(
        [values], np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_intervals_cover_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(2).random((200, 100)) < 0.7
    inside = [low <= 0.7 <= high for _, low, high, _ in (stats.bootstrap(d) for d in draws)]
    assert 0.88 <= np.mean(inside) <= 0.99


def test_pairing_removes_what_models_share():
    rng = np.random.default_rng(3)
    difficulty = rng.normal(size=400)
    one = difficulty + 0.1 + 0.05 * rng.normal(size=400)
    other = difficulty + 0.05 * rng.normal(size=400)
    paired = stats.bootstrap(one - other)
    assert paired.low > 0.08
    assert paired.high < 0.12


def test_a_ratio_is_bootstrapped_as_a_ratio_of_means():
    values = np.random.default_rng(4).random((500, 2)) + np.array([1, 3])
    ours = stats.bootstrap(values, lambda means: means[..., 0] / means[..., 1])
    rng = np.random.default_rng(5)
    loop = []
    for _ in range(4000):
        chosen = values[rng.integers(500, size=500)]
        loop.append(chosen[:, 0].sum() / chosen[:, 1].sum())
    assert [ours.low, ours.high] == pytest.approx(np.percentile(loop, [2.5, 97.5]), abs=0.002)


def test_no_images_and_non_finite_values_are_refused():
    for values in (np.zeros(0), np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="finite"):
            stats.bootstrap(values)


@pytest.fixture
def trials():
    rng = np.random.default_rng(6)
    rows = [
        {
            "model": m,
            "condition": c,
            "level": np.float32(level),
            "draw": d,
            "image": i,
            "label": i % 4,
        }
        | {"prediction": int(rng.integers(4))}
        for m in ("a", "b")
        for c, level, draws in (("clean", 0.0, 1), ("drop", 0.1, 3))
        for d in range(draws)
        for i in range(12)
    ]
    return pd.DataFrame(rows)


def test_correct_averages_draws_within_an_image(trials):
    per_image = stats.correct(trials)
    for model in ("a", "b"):
        ours = per_image[model, "drop", np.float32(0.1)]
        for i in range(12):
            rows = trials[
                (trials["model"] == model)
                & (trials["condition"] == "drop")
                & (trials["image"] == i)
            ]
            assert ours[i] == pytest.approx((rows["prediction"] == i % 4).mean())


def test_shape_bias_is_the_count_geirhos_defines():
    rng = np.random.default_rng(7)
    table = pd.DataFrame({"shape": rng.integers(4, size=200), "texture": rng.integers(4, size=200)})
    trials = pd.DataFrame(
        [
            {"model": m, "image": i, "prediction": int(rng.integers(4))}
            for m in ("a", "b")
            for i in range(200)
        ]
    )
    decided = stats.shape_decisions(trials, table)
    ours = stats.group_shape_bias(decided, ["a", "b"], 4).value
    bias = []
    for category in range(4):
        by_shape = by_texture = 0
        for row in trials.itertuples():
            shape, texture = table.loc[row.image, ["shape", "texture"]]
            if shape == category and shape != texture:
                by_shape += row.prediction == shape
                by_texture += row.prediction == texture
        bias.append(by_shape / (by_shape + by_texture))
    assert ours == pytest.approx(np.mean(bias))


def test_a_class_nobody_decided_about_is_left_out():
    means = np.array([0.2, 0.0, 0.2, 0.0])  # class 1 has neither shape nor texture decisions
    assert stats.shape_bias_of_means(means) == pytest.approx(0.5)
