import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from vitlab import images as data
from vitlab.attacks import patch as patch_attack
from vitlab.inside import tokens as features
from vitlab.models import load

IDS = [f"image{i}" for i in range(400)]


@pytest.mark.parametrize("size", [64, 224, 299])
@pytest.mark.parametrize("area", ["0.05", "0.06", "0.12", "0.15", "0.25", "0.36", "1"])
def test_the_side_is_the_largest_whose_square_fits_the_area(size, area):
    found = patch_attack.side(size, float(area))
    assert found == math.isqrt(math.floor(Fraction(area) * size**2))


@pytest.mark.parametrize("area", [0, -0.1, 1.1, 1e-6, float("nan")])
def test_no_area_no_patch(area):
    with pytest.raises(ValueError, match=r"share in \(0, 1\]"):
        patch_attack.side(64, area)


def test_the_start_is_uniform_noise_of_its_seed():
    start = patch_attack.start(32, 3)
    assert start.shape == (3, 32, 32)
    assert 0 <= start.min() < 0.01
    assert 0.99 < start.max() <= 1
    assert float(start.std()) == pytest.approx(1 / 12**0.5, rel=0.02)
    assert torch.equal(start, patch_attack.start(32, 3))
    assert not torch.equal(start, patch_attack.start(32, 4))


def test_places_are_uniform_over_all_that_are_inside():
    where = patch_attack.places(12, 5, IDS).numpy()
    assert where.shape == (400, 3)
    for column, ways in enumerate((8, 8, 4)):
        counts = np.bincount(where[:, column], minlength=ways)
        assert len(counts) == ways
        assert chisquare(counts).pvalue > 1e-3
    assert (patch_attack.places(12, 12, IDS)[:, :2] == 0).all()


def test_a_place_depends_on_image_seed_and_use_alone():
    state = torch.get_rng_state()
    where = patch_attack.places(64, 10, IDS, 1)
    assert torch.equal(torch.get_rng_state(), state)
    alone = torch.cat([patch_attack.places(64, 10, [name], 1) for name in IDS])
    assert torch.equal(where, alone)
    assert torch.equal(where.flip(0), patch_attack.places(64, 10, IDS[::-1], 1))
    assert not torch.equal(where, patch_attack.places(64, 10, IDS, 2))
    assert not torch.equal(where, patch_attack.places(64, 10, IDS, 1, "train"))


def test_a_patch_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="side 13 does not fit on an image of side 12"):
        patch_attack.places(12, 13, IDS)


def pasted(image, patch, row, column, turns):
    """With a mask, as the code that the authors name: (1 - mask) * image + mask * patch."""
    side, size = patch.shape[-1], image.shape[-1]
    mask, canvas = np.zeros((size, size)), np.zeros((3, size, size))
    mask[row : row + side, column : column + side] = 1
    for channel in range(3):
        canvas[channel, row : row + side, column : column + side] = np.rot90(patch[channel], turns)
    return (1 - mask) * image + mask * canvas, mask


@pytest.fixture
def some():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(9, 3, 11, 11, generator=generator)
    patches = list(torch.rand(9, 3, 4, 4, generator=generator))
    return pixels, patches, patch_attack.places(11, 4, IDS[:9])


def test_paste_is_the_masks_arithmetic_and_changes_nothing_else(some):
    pixels, patches, where = some
    before = pixels.clone()
    shown = patch_attack.paste(pixels, patches, where)
    for i in range(9):
        expected, mask = pasted(pixels[i].numpy(), patches[i].numpy(), *where[i].tolist())
        assert shown[i].numpy() == pytest.approx(expected)
        outside = torch.from_numpy(mask) == 0
        assert torch.equal(shown[i][:, outside], pixels[i][:, outside])
    assert len(set(where[:, 2].tolist())) == 4
    assert torch.equal(pixels, before)


def test_the_patchs_gradient_is_turned_back(some):
    pixels, _, where = some
    patch = torch.rand(3, 4, 4, requires_grad=True)
    weight = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))
    shown = patch_attack.paste(pixels, [patch] * 9, where)
    (gradient,) = torch.autograd.grad((weight * shown).sum(), patch)
    expected = np.zeros((3, 4, 4))
    for i, (row, column, turns) in enumerate(where.tolist()):
        window = weight[i, :, row : row + 4, column : column + 4].numpy()
        expected += np.rot90(window, -turns, (1, 2))
    assert gradient.numpy() == pytest.approx(expected, abs=1e-5)


@pytest.fixture
def linear():
    """Three classes that see only each channel's sum, wherever a patch is; images and labels."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(3, 3, generator=generator)
    pixels = torch.rand(12, 3, 8, 8, generator=generator)
    labels = torch.arange(12) % 3
    return lambda x: x.sum((2, 3)) / 20 @ weight.T, pixels, labels, weight


def test_a_step_is_the_hand_written_one(linear):
    logits, pixels, labels, weight = linear
    [after] = patch_attack.train(
        logits, pixels, labels, IDS[:12], [(8, 5)], steps=1, step_size=0.03, batch=12
    )
    start = patch_attack.start(8, 5).numpy()
    # A patch over the whole image: all twelve images give the same scores.
    scores = weight.numpy() @ (start.sum((1, 2)) / 20)
    shares = np.exp(scores) / np.exp(scores).sum()
    slope = sum((shares - np.eye(3)[label]) @ weight.numpy() for label in labels)
    expected = np.clip(start + 0.03 * np.sign(slope)[:, None, None], 0, 1)
    assert after.numpy() == pytest.approx(expected, abs=1e-6)


def test_many_steps_end_at_the_optimum_of_a_linear_model(linear):
    _, pixels, _, weight = linear

    def logits(x):  # two classes: the best patch is 1 where the label's weight is below zero
        score = x.sum((2, 3)) @ weight[0] / 20
        return torch.stack([score, torch.zeros_like(score)], 1)

    labels = torch.zeros(12, dtype=torch.long)
    [patch] = patch_attack.train(
        logits, pixels, labels, IDS[:12], [(3, 0)], steps=25, step_size=0.05, batch=2
    )
    assert torch.equal(patch, (weight[0] < 0).float()[:, None, None].expand(3, 3, 3))


def test_patches_trained_together_are_those_trained_alone(means_model):
    pixels = features.pixel_stack(means_model, data.load("stimuli", n=10))
    labels = torch.arange(10) % 16
    state = torch.get_rng_state()

    def train(*patches, at_once=None):
        arguments = means_model.logits, pixels, labels, IDS[:10], patches
        return patch_attack.train(*arguments, 7, step_size=0.1, batch=3, at_once=at_once)

    together = train((9, 0), (9, 1), (20, 0))
    for patch, job in zip(together, ((9, 0), (9, 1), (20, 0)), strict=True):
        assert torch.allclose(patch, train(job)[0], atol=1e-6)
        assert patch.min() >= 0
        assert patch.max() <= 1
    assert not torch.equal(together[0], together[1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("at_once", "passes"),
    [(None, [9]), (9, [9]), (8, [6, 3]), (6, [6, 3]), (5, [3] * 3), (1, [3] * 3)],
)
def test_no_more_patches_are_trained_together_than_fit_into_memory(at_once, passes, linear):
    logits, pixels, labels, _ = linear
    sizes = []

    def watched(x):
        sizes.append(len(x))
        return logits(x)

    def train(jobs, **more):
        return patch_attack.train(watched, pixels, labels, IDS[:12], jobs, 1, 0.1, batch=3, **more)

    jobs = [(3, 0), (3, 1), (5, 0)]
    found = train(jobs, at_once=at_once)
    assert sizes == passes
    for patch, job in zip(found, jobs, strict=True):
        assert torch.allclose(patch, train([job])[0], atol=1e-6)
    assert train([], at_once=at_once) == []


def test_an_epoch_uses_every_image_once_and_always_at_another_place(monkeypatch):
    seen = []
    paste = patch_attack.paste

    def spy(pixels, patches, where):
        names = (pixels[:, 0, 0, 0] * 100).round().long().tolist()
        seen.extend(zip(names, map(tuple, where.tolist()), strict=True))
        return paste(pixels, patches, where)

    monkeypatch.setattr(patch_attack, "paste", spy)
    pixels = (torch.arange(6) / 100).view(6, 1, 1, 1).expand(6, 3, 32, 32)
    labels = torch.zeros(6, dtype=torch.long)

    def logits(x):
        return x.mean((2, 3))

    patch_attack.train(logits, pixels, labels, IDS[:6], [(4, 0)], steps=6, step_size=0, batch=2)
    assert sorted(name for name, _ in seen[:6]) == list(range(6))
    assert sorted(name for name, _ in seen[6:]) == list(range(6))
    assert len(set(seen)) == 12


@pytest.mark.parametrize("name", ["mini/vit-0", "mini/cnn-0"])
def test_training_raises_the_loss_on_images_it_has_not_seen(name):
    model = load(name)
    images = data.load("stimuli", n=48, seed=1)
    pixels = features.pixel_stack(model, images)
    ids, labels = list(images.table["id"]), images.labels
    [patch] = patch_attack.train(
        model.logits, pixels[:24], labels[:24], ids[:24], [(28, 0)], 15, 0.1, batch=6
    )

    def loss(shown):
        where = patch_attack.places(64, 28, ids[24:])
        scores = model.logits(patch_attack.paste(pixels[24:], [shown] * 24, where))
        return float(torch.nn.functional.cross_entropy(scores, labels[24:]))

    assert loss(patch) > 1.3 * loss(patch_attack.start(28))


def test_training_refuses_nonsense(linear):
    logits, pixels, labels, _ = linear
    for arguments in ({"steps": 0}, {"step_size": -1}, {"batch": 0}):
        with pytest.raises(ValueError, match="a patch needs images"):
            patch_attack.train(logits, pixels, labels, IDS[:12], [(3, 0)], **arguments)
    with pytest.raises(ValueError, match="a patch needs images"):
        patch_attack.train(logits, pixels[:0], labels[:0], [], [(3, 0)])
    with pytest.raises(ValueError, match="does not fit"):
        patch_attack.train(logits, pixels, labels, IDS[:12], [(9, 0)])
    with pytest.raises(ValueError, match=r"pixels are in \[0, 1\]"):
        patch_attack.train(logits, 255 * pixels, labels, IDS[:12], [(3, 0)])
