import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from vitlab import models, train


def test_names_and_patterns():
    assert models.select("mini/vit-?") == ["mini/vit-0", "mini/vit-1", "mini/vit-2"]
    assert models.select("mini/cnn-1, mini/cnn-1,mini/vit-0") == ["mini/cnn-1", "mini/vit-0"]
    assert len(models.select("mini/*")) == 12


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("mini/vt-0", "unknown model 'mini/vt-0'; nearest: mini/vit-0"),
        ("mini/vit-0,mini/cmm-1", "unknown model 'mini/cmm-1'; nearest: mini/cnn-1"),
        (" , ", "no model in"),
    ],
)
def test_unknown_models_are_answered_with_the_nearest(wanted, message):
    with pytest.raises(models.ModelError, match=message):
        models.select(wanted)


def test_an_unknown_timm_model_is_answered_with_the_nearest():
    with pytest.raises(models.ModelError, match="deit_small_patch16_224"):
        models.load("timm/deit_smal_patch16_224")


def test_damaged_weights_are_refused(tmp_path, monkeypatch):
    index = json.loads((models.ZOO / "index.json").read_text())
    name = "mini/cnn-0"
    content = bytearray((models.ZOO / index["models"][name]["file"]).read_bytes())
    content[-1] ^= 1
    (tmp_path / index["models"][name]["file"]).write_bytes(content)
    monkeypatch.setattr(models, "ZOO", tmp_path)
    with pytest.raises(models.ModelError, match=r"weights of mini/cnn-0 are damaged.*make zoo"):
        models.load(name)


@pytest.mark.parametrize("size", [(300, 200), (224, 500), (64, 64)])
def test_preprocessing_is_timms_own(size):
    net = timm.create_model("resnet10t", pretrained=False).eval()
    config = timm.data.resolve_model_data_config(net)
    model = models.Model("timm/resnet10t", net, "CNN", "imagenet", "", config)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    expected = timm.data.create_transform(**config)(picture)
    ours = model.normalise(model.pixels(picture).float() / 255)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_a_miniature_sees_a_stimulus_as_it_is_and_anything_else_resized():
    model = models.load("mini/vit-0")
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(model.pixels(Image.fromarray(noise)).permute(1, 2, 0).numpy(), noise)
    assert model.pixels(Image.new("RGB", (200, 120))).shape == (3, 64, 64)


def test_the_zoo_is_what_its_index_says():
    zoo = models.zoo()
    assert list(zoo) == list(train.plan())
    for name, entry in zoo.items():
        model = models.load(name)
        assert sum(p.numel() for p in model.net.parameters()) == entry["parameters"]
        assert entry["curve"][-1]["images"] == train.RECIPE["images"] * train.RECIPE["epochs"]
    sizes = [entry["parameters"] for entry in zoo.values()]
    assert max(sizes) / min(sizes) < 1.1
    assert sum(path.stat().st_size for path in models.ZOO.iterdir()) < 40e6


def test_natural_models_are_good_and_equally_so():
    natural = {n: e for n, e in models.zoo().items() if e["stimuli"] == "natural"}
    assert len(natural) == 6
    measured = {}
    for name, entry in natural.items():
        net = models.load(name).net
        measured[name] = train._accuracy(net, "test", "natural", 480, "cpu")
        assert measured[name] >= 0.97
        assert measured[name] == pytest.approx(entry["accuracy"], abs=0.01)
    vit, cnn = (np.mean([measured[n] for n in natural if kind in n]) for kind in ("vit", "cnn"))
    assert abs(vit - cnn) < 0.015


def test_efficientnet_lite0_is_the_packages(monkeypatch):
    model = models.load("efficientnet-lite0")
    assert model.config["mean"] == (0.5, 0.5, 0.5)
    assert model.size == 224
    assert model.net.num_classes == 1000
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(models.ModelError, match=r"vitlab\[real\]"):
        models.load("efficientnet-lite0")
