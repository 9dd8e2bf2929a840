import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Means

from vitlab import images as data
from vitlab import keys
from vitlab.conditions import CLEAN, Condition, patchdrop
from vitlab.models import Model, load
from vitlab.trials import run as evaluate
from vitlab.trials import store

DROPS = [CLEAN, *patchdrop.random([0.25, 0.5], (8, 8), draws=2, seed=1)]
GREY = patchdrop.random([0.25], (8, 8), seed=1, fill=0.5, name="grey")


class Seen(torch.nn.Module):
    """Means that remembers what it was shown, by the first pixels of each image."""

    def __init__(self):
        super().__init__()
        self.inner, self.seen = Means(), []

    def forward(self, x):
        self.seen += [row.numpy().tobytes() for row in x]
        return self.inner(x)


def seen_model():
    return Model("seen", Seen(), "CNN", "stimuli", "seen")


def test_trials_are_those_of_a_plain_loop(means_model):
    images = data.load("stimuli", n=20)
    trials = evaluate.run([means_model], images, DROPS, batch_size=7)
    assert len(trials) == 20 * len(DROPS)
    for condition in DROPS:
        for i in (0, 7, 19):
            batch = evaluate.batch_of(images, means_model, [i])
            p = means_model.logits(condition.apply(batch)).softmax(1)[0]
            [row] = trials[
                (trials["condition"] == condition.name)
                & np.isclose(trials["level"], condition.level)
                & (trials["draw"] == condition.draw)
                & (trials["image"] == i)
            ].itertuples()
            assert row.prediction == p.argmax()
            assert row.confidence == pytest.approx(float(p.max()), abs=1e-6)
            assert row.label == images.labels[i]
            assert row.p_label == pytest.approx(float(p[row.label]), abs=1e-6)


def test_twins_with_other_batch_size_order_and_workers_agree(tmp_path, monkeypatch):
    images = data.load("stimuli", n=300)  # more than a piece
    order = np.random.default_rng(0).permutation(300).tolist()
    models = [load("mini/vit-0"), load("mini/cnn-0")]
    pixels, runs = [], []
    for place, batch, workers, way in [("a", 64, 1, None), ("b", 17, 3, order)]:
        monkeypatch.setenv("VITLAB_TRIALS", str(tmp_path / place))
        spy = seen_model()
        runs.append(evaluate.run([*models, spy], images, DROPS, batch, workers, way))
        pixels.append(sorted(spy.net.seen))
    assert pixels[0] == pixels[1], "the models saw other pixels"
    one, other = runs
    exact = ["model", "condition", "level", "draw", "image", "label", "prediction"]
    pd.testing.assert_frame_equal(one[exact], other[exact])
    assert (one["confidence"] - other["confidence"]).abs().max() < 1e-5
    assert (one["p_label"] - other["p_label"]).abs().max() < 1e-5


def test_an_equal_run_is_not_repeated_and_another_one_is():
    images = data.load("stimuli", n=10)
    first = seen_model()
    evaluate.run([first], images, DROPS)
    again = seen_model()
    evaluate.run([again], images, DROPS)
    assert len(first.net.seen) == 10 * len(DROPS)
    assert again.net.seen == []
    for other_images, conditions in [
        (data.load("stimuli", n=10, seed=1), DROPS),
        (images, patchdrop.random([0.25], (8, 8), seed=2)),
    ]:
        spy = seen_model()
        evaluate.run([spy], other_images, conditions)
        assert len(spy.net.seen) == 10 * len(conditions)


def test_a_run_broken_off_keeps_its_pieces_and_goes_on(tmp_path):
    images, poison = data.load("stimuli", n=600), tmp_path / "poison"
    poison.touch()

    class Dies(Seen):
        def forward(self, x):
            if poison.exists() and len(self.seen) == 356:  # in the second piece
                raise KeyboardInterrupt
            return super().forward(x)

    with pytest.raises(KeyboardInterrupt):
        evaluate.run([Model("seen", Dies(), "CNN", "stimuli", "seen")], images, [CLEAN], 100)
    # The same weights in the same kind of network: what is there already is read.
    poison.unlink()
    again = Dies()
    trials = evaluate.run([Model("seen", again, "CNN", "stimuli", "seen")], images, [CLEAN], 50)
    assert len(again.seen) == 600 - store.PIECE
    assert trials["image"].tolist() == list(range(600))


def test_kill_9_in_the_middle_loses_no_piece(trial_store):
    program = f"""
import sys, time
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_run import seen_model
from vitlab.conditions import CLEAN
from vitlab.images import load as images
from vitlab.trials import run as evaluate
evaluate._answers = (lambda real: lambda *a: time.sleep(0.05) or real(*a))(evaluate._answers)
evaluate.run([seen_model()], images("stimuli", n=1100), [CLEAN], batch_size=16)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(trial_store.glob("*/piece-000001-*")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = list(trial_store.glob("*/piece-*"))
    assert 2 <= len(kept) < 5, kept
    spy = seen_model()
    trials = evaluate.run([spy], data.load("stimuli", n=1100), [CLEAN])
    assert len(spy.net.seen) == 1100 - len(kept) * store.PIECE
    assert len(trials) == 1100


def test_models_that_agree_on_size_share_pixels_and_others_get_their_own(photo_folder):
    class First(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)).sum(1, keepdim=True) * torch.linspace(0, 1, 1000)

    def model(name, size):
        config = {
            "input_size": (3, size, size),
            "crop_pct": 0.9,
            "interpolation": "bilinear",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
        }
        return Model(name, First(), "CNN", "imagenet", name, config)

    shown = []

    def spy(batch):
        shown.append(batch.pixels.shape[-1])
        return batch.pixels

    models = [model("a", 32), model("b", 32), model("c", 48)]
    trials = evaluate.run(models, data.load(photo_folder), [Condition("spy", 0, spy)])
    assert sorted(shown) == [32, 48]
    a, b, c = (trials.loc[trials["model"] == m, "confidence"].to_numpy() for m in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_what_does_not_go_together_is_refused_before_anything_is_written(
    means_model, photo_folder, trial_store
):
    stimuli = data.load("stimuli", n=4)
    for images, conditions, message in [
        (stimuli, patchdrop.random([0.5], (7, 7)), "does not divide the 64 px image"),
        (data.load(photo_folder), [CLEAN], "cannot decide about imagenet images"),
        (stimuli, [CLEAN, CLEAN], "two conditions are called"),
        (stimuli, [], "nothing to do"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate.run([means_model], images, conditions)
    with pytest.raises(ValueError, match="batch_size and workers must be >= 1"):
        evaluate.run([means_model], stimuli, [CLEAN], batch_size=0)
    for order in ([0, 1], [0] * 4, range(5)):
        with pytest.raises(ValueError, match="each of the 4 images once"):
            evaluate.run([means_model], stimuli, [CLEAN], order=order)
    with pytest.raises(ValueError, match="two models are called means"):
        evaluate.run([means_model, means_model], stimuli, [CLEAN])
    assert not trial_store.exists()


def test_a_number_that_is_none_is_refused_with_its_place(trial_store):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 16), torch.nan)

    broken = Model("broken", Broken(), "CNN", "stimuli", "broken")
    images = data.load("stimuli", n=4)
    with pytest.raises(
        evaluate.EvaluationError,
        match=r"broken returned NaN or infinity .* natural/test/0/000000 under clean",
    ):
        evaluate.run([broken], images, [CLEAN])
    assert not list(trial_store.glob("*/piece-*"))


def test_a_full_disk_is_told_and_leaves_no_half_file(means_model, trial_store, monkeypatch):
    images = data.load("stimuli", n=300)
    real, calls = Path.write_bytes, []

    def full(path, content):
        calls.append(1)
        real(path, content[: len(content) // len(calls)])
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(store.StoreError, match=r"No space left on device.*make room"):
        evaluate.run([means_model], images, [CLEAN])
    assert len(list(trial_store.rglob("*piece-*"))) == 1
    monkeypatch.undo()
    monkeypatch.setenv("VITLAB_TRIALS", str(trial_store))
    assert len(evaluate.run([means_model], images, [CLEAN])) == 300


def test_a_folder_that_cannot_be_written_is_told_before_compute(trial_store):
    trial_store.write_text("in the way")
    spy = seen_model()
    with pytest.raises(store.StoreError, match="cannot be written"):
        evaluate.run([spy], data.load("stimuli", n=4), [CLEAN])
    assert spy.net.seen == []


def damage(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "flipped":
        place = len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    else:
        path.write_bytes(content[: {"empty": 0, "cut": len(content) // 2}[how]])


@pytest.mark.parametrize("how", ["missing", "flipped", "empty", "cut", "strange"])
def test_a_damaged_piece_is_named_and_measured_again(trial_store, how, recwarn):
    images = data.load("stimuli", n=300)
    before = evaluate.run([seen_model()], images, DROPS)
    [path] = [p for p in trial_store.glob("*/piece-000001-*") if "clean" in about(p)]
    if how == "strange":  # another piece's content, under a name that does not fit
        path.rename(path.with_name(f"piece-000001-{'0' * 16}.parquet"))
        path = path.with_name(f"piece-000001-{'0' * 16}.parquet")
    else:
        damage(path, how)
    spy = seen_model()
    pd.testing.assert_frame_equal(evaluate.run([spy], images, DROPS), before)
    assert len(spy.net.seen) == 300 - store.PIECE, "only that piece, only that condition"
    named = [str(w.message) for w in recwarn if path.name in str(w.message)]
    assert bool(named) == (how != "missing")


def about(path):
    return (path.parent / "about.json").read_text()


def test_a_new_condition_or_model_is_measured_alone():
    images = data.load("stimuli", n=10)
    first = seen_model()
    evaluate.run([first], images, DROPS)
    more = seen_model()
    grown = evaluate.run([more, load("mini/cnn-0")], images, [*DROPS, *GREY])
    assert len(more.net.seen) == 10 * len(GREY)
    assert set(grown["model"]) == {"seen", "mini/cnn-0"}


def test_changed_code_of_a_condition_makes_its_trials_stale(monkeypatch, tmp_path):
    """A step in patchdrop is changed: patchdrop's trials are measured again, clean ones are not."""
    images = data.load("stimuli", n=10)
    evaluate.run([seen_model()], images, DROPS)
    real = keys._module

    def touched(path, changed, said=""):
        found, imports = real(path, changed)
        return (found + said if path.name == "patchdrop.py" else found), imports

    monkeypatch.setattr(keys, "_module", touched)
    same = seen_model()
    evaluate.run([same], images, DROPS)
    assert same.net.seen == []
    monkeypatch.setattr(keys, "_module", partial(touched, said="changed"))
    other = seen_model()
    evaluate.run([other], images, DROPS)
    assert len(other.net.seen) == 10 * (len(DROPS) - 1)


class Needy(torch.nn.Module):
    """Means that runs out of memory above a number of images, as a small GPU does."""

    def __init__(self, most):
        super().__init__()
        self.inner, self.most, self.sizes = Means(), most, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.inner(x)


def test_out_of_memory_halves_the_batch_and_goes_on(means_model):
    images = data.load("stimuli", n=100)
    needy = Needy(7)
    model = Model("means", needy, "CNN", "stimuli", means_model.weights)
    with pytest.warns(UserWarning, match="going on with 5 images at once"):
        trials = evaluate.run([model], images, DROPS, batch_size=40)
    expected = evaluate.run([means_model], images, DROPS)
    pd.testing.assert_frame_equal(trials, expected, rtol=1e-5)
    assert needy.sizes.count(40) == 1, "the size that did not fit is not tried again"
    assert max(needy.sizes[4:]) <= 5


def test_one_image_that_does_not_fit_is_told_and_other_errors_are_not_taken_for_it():
    images = data.load("stimuli", n=4)
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(evaluate.EvaluationError, match="one image at a time is too much"),
    ):
        evaluate.run([Model("n", Needy(0), "CNN", "stimuli", "n")], images, [CLEAN])

    def wrong(batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        evaluate.run([seen_model()], images, [Condition("wrong", 0, wrong)])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: 255 * x, "these go from 0 to 255"),
        (lambda x: x - 1, "these go from -1"),
        (lambda x: x * float("nan"), "these go from nan"),
        (lambda x: (255 * x).to(torch.uint8), "torch.uint8"),
        (lambda x: x.double(), "torch.float64"),
        (lambda x: x[:, :1], r"\[4, 1, 64, 64\]"),
        (lambda x: x[:1], r"\[1, 3, 64, 64\]"),
        (lambda x: x[..., :32], r"\[4, 3, 64, 32\]"),
        (lambda x: x.numpy(), "ndarray"),
    ],
)
def test_what_a_condition_gives_is_looked_at(means_model, spoil, message, trial_store):
    odd = Condition("odd", 2, lambda batch: spoil(batch.pixels))
    with pytest.raises(evaluate.EvaluationError, match=rf"odd at level 2 must give .*{message}"):
        evaluate.run([means_model], data.load("stimuli", n=4), [CLEAN, odd])
    assert not list(trial_store.rglob("*.parquet"))


def test_conditions_are_looked_at_once_a_run(means_model, monkeypatch):
    looked = []
    odd = Condition("half", 1, lambda batch: batch.pixels / 2)
    real = evaluate._check_shown
    monkeypatch.setattr(
        evaluate, "_check_shown", lambda c, *rest: looked.append(c.name) or real(c, *rest)
    )
    evaluate.run([means_model], data.load("stimuli", n=24), [CLEAN, odd], batch_size=4)
    assert looked == ["clean", "half"]
