"""Pairs of a digit and a picture, and what is trained on them."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from vitlab import models
from vitlab.images import cifar, masks, pairs
from vitlab.images.errors import DataError
from vitlab.images.unknown import unknown_images
from vitlab.models import Model
from vitlab.stimuli import pairs as drawn
from vitlab.training import finetune


def test_a_zero_has_a_hole_and_a_one_has_none():
    for key in range(30):
        for which, parts in ((0, 2), (1, 1)):
            strokes = drawn.digit(which, key)
            assert ndimage.label(strokes > 0.5, np.ones((3, 3)))[1] == 1, "one stroke"
            assert ndimage.label(strokes < 0.5)[1] == parts
            edges = np.r_[strokes[0], strokes[-1], strokes[:, 0], strokes[:, -1]]
            assert edges.max() == 0, "it does not touch the edge"
            assert np.array_equal(strokes, drawn.digit(which, key))
    with pytest.raises(ValueError, match="0 or 1, got 7"):
        drawn.digit(7)


def test_the_digit_is_above_and_the_picture_below():
    strokes = drawn.digit(0, "a")
    picture = Image.fromarray(np.full((32, 32, 3), (10, 20, 30), np.uint8))
    found = np.asarray(drawn.stacked(strokes, picture))
    assert found.shape == (64, 64, 3)
    assert np.abs(found[:32] / 255 - strokes[..., None]).max() <= 0.5 / 255 + 1e-9
    assert (found[32:] == (10, 20, 30)).all()


def test_both_cues_tell_the_class_or_the_digit_tells_nothing():
    agree, apart = (pairs.pairs("stimuli", 200, independent=one) for one in (False, True))
    disc, star = (agree.categories.index(name) for name in ("disc", "star"))
    assert agree.labels.tolist() == [disc, star] * 100
    assert pairs.by_digit(agree).labels.tolist() == agree.labels.tolist()
    assert apart.labels.tolist() == agree.labels.tolist()
    same = (pairs.by_digit(apart).labels == apart.labels).double().mean()
    assert 0.4 < same < 0.6
    assert pairs.by_digit(apart).fingerprint != apart.fingerprint != agree.fingerprint
    for i in range(6):
        one, other = (np.asarray(images.picture(i)) for images in (agree, apart))
        assert np.array_equal(one[32:], other[32:])
        zero = apart.table["digit"][i] == disc
        holes = ndimage.label(other[:32, :, 0] < 128)[1]
        assert holes == (2 if zero else 1)
    strokes = masks(apart)[3]
    assert strokes[32:].max() == 0
    assert strokes[:32].numpy() == pytest.approx(
        np.asarray(apart.picture(3))[:32, :, 0] / 255, abs=0.003
    )


@pytest.fixture
def photographs(monkeypatch):
    """Sixty photographs, each of its class's grey."""
    labels = torch.arange(60) % 10
    shown = (labels * 20 + 5).to(torch.uint8)[:, None, None, None].expand(60, 3, 32, 32)
    monkeypatch.setattr(cifar, "load", lambda split: (shown, labels))
    monkeypatch.setattr(cifar, "fingerprint", lambda: "grey")


def test_photographs_of_automobiles_and_trucks(photographs):
    images = pairs.pairs("cifar-10", 12)
    assert images.labels.tolist() == [1, 9] * 6
    greys = [np.asarray(images.picture(i))[40, 32, 0] for i in range(12)]
    assert greys == [25, 185] * 6
    assert len(set(images.table["id"])) == 12, "no photograph twice"
    with pytest.raises(DataError, match="12 test pictures of automobile and truck, not 14"):
        pairs.pairs("cifar-10", 14)
    with pytest.raises(DataError, match="no pairs of 'cifar'"):
        pairs.pairs("cifar", 2)


def test_digits_of_mnist(photographs, tmp_path, monkeypatch):
    """Three digits: a 0 of 100, a 1 of 200, a 7 that is left out."""
    shown = np.repeat(np.array([100, 200, 250], np.uint8), 28 * 28).tobytes()
    folder = tmp_path / "mnist"
    folder.mkdir()
    content = {"images-idx3": bytes(16) + shown, "labels-idx1": bytes(8) + bytes([0, 1, 7])}
    for kind, raw in content.items():
        (folder / f"t10k-{kind}-ubyte.gz").write_bytes(gzip.compress(raw))
    monkeypatch.setattr(pairs.catalogue, "images_folder", lambda name: folder)
    images = pairs.pairs("mnist,cifar-10", 4)
    assert images.classes == "pairs"
    assert images.categories == ("0 over automobile", "1 over truck")
    assert images.labels.tolist() == [0, 1, 0, 1]
    assert [np.asarray(images.picture(i))[16, 32, 0] for i in range(4)] == [100, 200, 100, 200]
    assert np.asarray(images.picture(0))[16, 10, 0] == 0
    with pytest.raises(DataError, match="vitlab data fetch mnist"):
        pairs.pairs("mnist,cifar-10", 4, split="train")


def test_fine_tuning_learns_and_leaves_the_model_as_it_was():
    """Pairs are told apart in forty steps by a new head; the old network answers as before."""
    net = models.load("mini/vit-0", "cpu")
    learned = replace(pairs.pairs("stimuli", 64, split="train"), categories=("0", "1"))
    learned.table["label"] = np.arange(64) % 2
    pixels = torch.rand(3, 3, 64, 64)
    before = net.logits(pixels)
    weights = finetune.fine_tuned(net, learned, steps=40, batch=16, rate=5e-4)
    torch.manual_seed(1)
    tuned = finetune.with_weights(net, learned, weights)
    assert torch.equal(net.logits(pixels), before)
    assert net.net.head.out_features == 16
    shown = torch.stack([net.pixels(learned.picture(i)) for i in range(64)]).float() / 255
    assert (tuned.logits(shown).argmax(1) == learned.labels).double().mean() > 0.9
    assert not any(p.requires_grad for p in tuned.net.parameters())
    once = finetune.fine_tuned(net, learned, steps=2, batch=4)
    torch.manual_seed(2)
    again = finetune.fine_tuned(net, learned, steps=2, batch=4)
    assert all(torch.equal(once[k], again[k]) for k in once)


class Linear(torch.nn.Module):
    """A network with timm's head, to do a step of by hand."""

    def __init__(self):
        super().__init__()
        self.reset_classifier(3)
        self.num_features = 3

    def reset_classifier(self, classes):
        self.head = torch.nn.Linear(3, classes)

    def forward_features(self, x):
        return x.mean((2, 3))

    def forward_head(self, x, pre_logits=False):
        return x if pre_logits else self.head(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_one_step_of_fine_tuning_by_hand():
    """AdamW's first step: weight decay, then the rate times the gradient's sign."""
    net = Model("linear", Linear(), "CNN", "stimuli", "linear")
    images = pairs.pairs("stimuli", 8)
    images.table["label"] = np.arange(8) % 2
    images = replace(images, categories=("0", "1"))
    start = finetune._with_head(net, images, 0).head.weight.detach().clone()
    found = finetune.fine_tuned(net, images, steps=1, batch=8, rate=0.01)["head.weight"].float()
    moved = found - start * (1 - 0.01 * 0.05)
    assert moved.abs() == pytest.approx(np.full((2, 3), 0.01), rel=0.2, abs=1e-3)


def test_unknown_images_are_of_no_known_class(tmp_path, monkeypatch):
    found = unknown_images(["new shapes", "new textures", "imagenet-o"], 16)
    assert list(found) == ["new shapes", "new textures"], "what is not here is left out"
    assert not set(found["new shapes"].categories) & set(pairs.stimuli.CATEGORIES)
    assert len(found["new textures"]) == 16


def test_other_cue_conflicts_show_nothing_of_cifar(tmp_path, monkeypatch):
    folder = tmp_path / "cue-conflict"
    for shape, texture in [("bear", "clock"), ("bear", "cat"), ("cat", "oven"), ("knife", "oven")]:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (8, 8))
        picture.save(folder / shape / f"{shape}1-{texture}1.png")
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    images = unknown_images(["other cue conflicts"], 9)["other cue conflicts"]
    kinds = [
        (images.categories[a], images.categories[b])
        for a, b in images.table[["shape", "texture"]].to_numpy()
    ]
    assert sorted(kinds) == [("bear", "clock"), ("knife", "oven")]
