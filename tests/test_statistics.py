from functools import partial

import numpy as np
import pandas as pd
import pytest

from vitlab import statistics as stats
from vitlab.statistics.check import judge, measured


def test_what_is_not_finite_or_too_little_has_no_interval():
    for values in (np.array([1.0, np.nan]), np.ones(1), np.full(3, np.inf)):
        assert not np.isfinite(stats.mean(values).interval.low)


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


@pytest.mark.parametrize("pooled", [False, True])
def test_a_shape_bias_of_a_handful_of_decisions_decides_nothing(pooled):
    """Two groups of equal bias, one of which decides for a cue on one image of fifty."""
    n, classes, wrong = 320, 16, 0
    for world in range(30):
        draw = np.random.default_rng(world)
        rows = []
        for model, share in {"a": 0.02, "b": 0.9}.items():
            decides, by_shape = draw.random(n) < share, draw.random(n) < 0.8
            cues = {"by_shape": decides & by_shape, "by_texture": decides & ~by_shape}
            about = {"image": range(n), "model": model, "shape": np.arange(n) % classes}
            rows.append(pd.DataFrame({**about, **cues}))
        of = partial(stats.group_shape_bias, pd.concat(rows), classes=classes, pooled=pooled)
        wrong += judge(measured("", of(["a"]) - of(["b"]) > 0)).word != "cannot tell"
    assert wrong <= 2  # 12 and 20 of them where images are counted that decide for neither cue
