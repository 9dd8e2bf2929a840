import torch
from safetensors.torch import load_file

from vitlab import train

TINY = {**train.RECIPE, "images": 128, "epochs": 3}


def test_a_broken_off_training_reaches_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "TEST_IMAGES", 16)
    whole = train.train("mini/cnn-0", tmp_path / "a", _with(tmp_path / "a"))
    assert train.train("mini/cnn-0", tmp_path / "b", _with(tmp_path / "b"), stop_after=7) == {}
    assert not (tmp_path / "b" / "cnn-0.safetensors").exists()
    resumed = train.train("mini/cnn-0", tmp_path / "b", TINY)
    assert resumed["sha256"] == whole["sha256"]
    assert resumed["curve"] == whole["curve"]


def _with(folder):
    folder.mkdir()
    return TINY


def test_a_finished_training_is_not_repeated_but_another_recipe_is(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "TEST_IMAGES", 16)
    recipe = {**TINY, "epochs": 1}
    first = train.train("mini/cnn-1", tmp_path, recipe)
    assert train.train("mini/cnn-1", tmp_path, recipe) == first
    other = train.train("mini/cnn-1", tmp_path, {**recipe, "learning_rate": 2e-3})
    assert other["sha256"] != first["sha256"]


def test_shipped_weights_are_16_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "TEST_IMAGES", 16)
    record = train.train("mini/vit-0", tmp_path, {**TINY, "epochs": 1})
    kinds = {v.dtype for v in load_file(tmp_path / record["file"]).values()}
    assert kinds == {torch.float16}
