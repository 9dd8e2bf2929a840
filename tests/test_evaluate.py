import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Means

from vitlab import images as data
from vitlab.conditions import CLEAN, Condition, patchdrop
from vitlab.models import Model, load
from vitlab.trials import run as evaluate

DROPS = [CLEAN, *patchdrop.random([0.25, 0.5], (8, 8), draws=2, seed=1)]


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


def test_trials_are_those_of_a_plain_loop(means_model, tmp_path):
    images = data.load("stimuli", n=20)
    trials = evaluate.run([means_model], images, DROPS, tmp_path, batch_size=7)
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


def test_twins_with_other_batch_size_order_and_workers_agree(tmp_path):
    images = data.load("stimuli", n=300)  # more than a piece
    order = np.random.default_rng(0).permutation(300).tolist()
    models = [load("mini/vit-0"), load("mini/cnn-0")]
    pixels, runs = [], []
    for out, batch, workers, way in [("a", 64, 1, None), ("b", 17, 3, order)]:
        spy = seen_model()
        runs.append(
            evaluate.run([*models, spy], images, DROPS, tmp_path / out, batch, workers, way)
        )
        pixels.append(sorted(spy.net.seen))
    assert pixels[0] == pixels[1], "the models saw other pixels"
    one, other = runs
    exact = ["model", "condition", "level", "draw", "image", "label", "prediction"]
    pd.testing.assert_frame_equal(one[exact], other[exact])
    assert (one["confidence"] - other["confidence"]).abs().max() < 1e-5
    assert (one["p_label"] - other["p_label"]).abs().max() < 1e-5


def test_an_equal_run_is_not_repeated_and_another_one_is(tmp_path):
    images = data.load("stimuli", n=10)
    first = seen_model()
    evaluate.run([first], images, DROPS, tmp_path)
    again = seen_model()
    evaluate.run([again], images, DROPS, tmp_path)
    assert len(first.net.seen) == 10 * len(DROPS)
    assert again.net.seen == []
    for other_images, conditions in [
        (data.load("stimuli", n=10, seed=1), DROPS),
        (images, patchdrop.random([0.25], (8, 8), seed=2)),
    ]:
        spy = seen_model()
        evaluate.run([spy], other_images, conditions, tmp_path)
        assert len(spy.net.seen) == 10 * len(conditions)


def test_a_run_broken_off_keeps_its_pieces_and_goes_on(tmp_path):
    images = data.load("stimuli", n=600)
    calls = []

    def dies(batch):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return batch.pixels

    with pytest.raises(KeyboardInterrupt):
        evaluate.run([seen_model()], images, [Condition("clean", 0, dies)], tmp_path, 100)
    spy = seen_model()
    trials = evaluate.run(
        [spy], images, [Condition("clean", 0, lambda b: b.pixels)], tmp_path, batch_size=50
    )
    assert len(spy.net.seen) == 600 - evaluate.PIECE
    assert sorted(trials["image"]) == list(range(600))


def test_kill_9_in_the_middle_loses_no_piece(tmp_path):
    program = f"""
import sys, time, torch
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_evaluate import seen_model
from vitlab import images as data
from vitlab.trials import run as evaluate
from vitlab.conditions import Condition
def slow(batch):
    time.sleep(0.05)
    return batch.pixels
evaluate.run([seen_model()], data.load("stimuli", n=1100), [Condition("clean", 0, slow)],
             {str(tmp_path)!r}, batch_size=16)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("*/piece-000001.parquet")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = sorted(path.name for path in tmp_path.glob("*/piece-*"))
    assert 2 <= len(kept) < 5, kept
    for path in tmp_path.glob("*/piece-*"):
        pd.read_parquet(path)
    spy = seen_model()
    trials = evaluate.run(
        [spy],
        data.load("stimuli", n=1100),
        [Condition("clean", 0, lambda b: b.pixels)],
        tmp_path,
    )
    assert len(spy.net.seen) == 1100 - len(kept) * evaluate.PIECE
    assert len(trials) == 1100


def test_models_that_agree_on_size_share_pixels_and_others_get_their_own(photo_folder, tmp_path):
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
    trials = evaluate.run(models, data.load(photo_folder), [Condition("spy", 0, spy)], tmp_path)
    assert sorted(shown) == [32, 48]
    a, b, c = (trials.loc[trials["model"] == m, "confidence"].to_numpy() for m in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_what_does_not_go_together_is_refused_before_anything_is_written(
    means_model, photo_folder, tmp_path
):
    out = tmp_path / "out"
    stimuli = data.load("stimuli", n=4)
    for images, conditions, message in [
        (stimuli, patchdrop.random([0.5], (7, 7)), "does not divide the 64 px image"),
        (data.load(photo_folder), [CLEAN], "cannot decide about imagenet images"),
        (stimuli, [CLEAN, CLEAN], "two conditions are called"),
        (stimuli, [], "nothing to do"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate.run([means_model], images, conditions, out)
    with pytest.raises(ValueError, match="batch_size and workers must be >= 1"):
        evaluate.run([means_model], stimuli, [CLEAN], out, batch_size=0)
    assert not out.exists()


def test_a_number_that_is_none_is_refused_with_its_place(tmp_path):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 16), torch.nan)

    broken = Model("broken", Broken(), "CNN", "stimuli", "broken")
    images = data.load("stimuli", n=4)
    with pytest.raises(
        evaluate.EvaluationError, match=r"broken gave .* natural/test/0/000000 under clean"
    ):
        evaluate.run([broken], images, [CLEAN], tmp_path)
    assert not list(tmp_path.glob("*/piece-*"))


def test_a_full_disk_is_told_and_leaves_no_half_file(means_model, tmp_path, monkeypatch):
    images = data.load("stimuli", n=300)
    real, calls = evaluate.pq.write_table, []

    def full(table, path, **options):
        calls.append(1)
        real(table, path, **options)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluate.pq, "write_table", full)
    with pytest.raises(evaluate.EvaluationError, match=r"No space left on device.*make room"):
        evaluate.run([means_model], images, [CLEAN], tmp_path)
    assert len([p for p in tmp_path.rglob("*") if p.suffix == ".parquet"]) == 1
    monkeypatch.undo()
    assert len(evaluate.run([means_model], images, [CLEAN], tmp_path)) == 300


def test_a_folder_that_cannot_be_written_is_told_before_compute(tmp_path):
    (tmp_path / "file").write_text("in the way")
    spy = seen_model()
    with pytest.raises(evaluate.EvaluationError, match="cannot be written"):
        evaluate.run([spy], data.load("stimuli", n=4), [CLEAN], tmp_path / "file")
    assert spy.net.seen == []


def test_a_missing_piece_is_not_read_over(means_model, tmp_path):
    images = data.load("stimuli", n=300)
    evaluate.run([means_model], images, [CLEAN], tmp_path)
    [folder] = tmp_path.iterdir()
    (folder / "piece-000001.parquet").unlink()
    with pytest.raises(evaluate.EvaluationError, match="holds 1 pieces of 2"):
        evaluate.read(folder, 300)


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


def test_out_of_memory_halves_the_batch_and_goes_on(means_model, tmp_path):
    images = data.load("stimuli", n=100)
    needy = Needy(7)
    model = Model("means", needy, "CNN", "stimuli", means_model.weights)
    with pytest.warns(UserWarning, match="going on with 5 images at once"):
        trials = evaluate.run([model], images, DROPS, tmp_path / "a", batch_size=40)
    expected = evaluate.run([means_model], images, DROPS, tmp_path / "b")
    pd.testing.assert_frame_equal(trials, expected, rtol=1e-5)
    assert needy.sizes.count(40) == 1, "the size that did not fit is not tried again"
    assert max(needy.sizes[4:]) <= 5


def test_one_image_that_does_not_fit_is_told_and_other_errors_are_not_taken_for_it(tmp_path):
    images = data.load("stimuli", n=4)
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(evaluate.EvaluationError, match="one image at a time is too much"),
    ):
        evaluate.run([Model("n", Needy(0), "CNN", "stimuli", "n")], images, [CLEAN], tmp_path)

    def wrong(batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        evaluate.run([seen_model()], images, [Condition("wrong", 0, wrong)], tmp_path)


def test_a_faster_form_is_taken_where_predictions_stay(capsys):
    images = data.load("stimuli", n=64)
    [vit] = evaluate.faster([load("mini/vit-0")], images, precision="bfloat16", compiled=False)
    assert vit.precision == "bfloat16"
    assert "mini/vit-0: bfloat16" in capsys.readouterr().out
    other = data.load("stimuli", n=256, seed=5)  # not the images it was tried on
    pixels = evaluate.batch_of(other, vit, range(256)).pixels
    with torch.inference_mode():
        exact = load("mini/vit-0").logits(pixels).softmax(1)
        close = vit.logits(pixels).softmax(1)
    assert (exact.argmax(1) == close.argmax(1)).float().mean() > 0.99
    assert 0 < (exact - close).abs().max() < 0.1


def test_a_faster_form_that_changes_predictions_is_left(capsys):
    class Fine(torch.nn.Module):
        """Decides by differences that 16 bit cannot hold."""

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 16)
            torch.nn.init.zeros_(self.layer.bias)
            self.layer.weight.data = 1000 + torch.linspace(0, 1, 16)[:, None]

        def forward(self, x):
            return 20 * self.layer(x.mean((1, 2, 3))[:, None])

    model = Model("fine", Fine(), "CNN", "stimuli", "fine")
    images = data.load("stimuli", n=16)
    [kept] = evaluate.faster([model], images, precision="bfloat16", compiled=False)
    assert kept is model
    assert "fine: not bfloat16: its predictions would change" in capsys.readouterr().out


def test_a_compiled_form_is_the_same_model_and_no_compiler_is_no_fault(
    means_model, monkeypatch, capsys
):
    images = data.load("stimuli", n=8)
    model = means_model
    [compiled] = evaluate.faster([model], images, sample=8)
    assert "means: compiled" in capsys.readouterr().out
    pixels = evaluate.batch_of(images, model, range(8)).pixels
    with torch.inference_mode():
        assert torch.allclose(compiled.logits(pixels), model.logits(pixels), atol=1e-3)

    def none(net):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", none)
    assert evaluate.faster([model], images, sample=8) == [model]
    assert "not compiled: no C++ compiler" in capsys.readouterr().out
