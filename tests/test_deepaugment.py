"""DeepAugment: an image-to-image network that is the identity until it is damaged."""

import numpy as np
import pytest
import torch

from vitlab.rng import generator
from vitlab.stimuli import scenes
from vitlab.training import augmentation, deepaugment
from vitlab.training.augmentation import Batch
from vitlab.training.deepaugment import basis, damaged

KEYS = [(0, 1, i) for i in range(6)]


@pytest.fixture(scope="module")
def pictures():
    return scenes.render([scenes.describe("train", i) for i in range(6)])[0].float() / 255


def test_undamaged_it_returns_the_pictures(pictures):
    for layers in (1, 3):
        found = damaged(pictures, KEYS, layers, operations=0)
        torch.testing.assert_close(found, pictures, atol=2e-6, rtol=0)
    odd = torch.rand(2, 3, 17, 32)
    torch.testing.assert_close(damaged(odd, KEYS[:2], operations=0), odd, atol=2e-6, rtol=0)


def test_its_filters_are_an_orthonormal_basis_and_its_negative():
    rows = basis(0)[:27].flatten(1).double()
    torch.testing.assert_close(rows @ rows.T, torch.eye(27).double(), atol=1e-6, rtol=0)
    assert torch.equal(basis(0)[27:], -basis(0)[:27])
    assert not torch.equal(basis(0), basis(1))


def test_a_layer_by_hand(monkeypatch):
    """With one known damage, against patches that are written out and put together in a loop."""
    monkeypatch.setattr(deepaugment, "DAMAGES", (deepaugment.turn,))
    monkeypatch.setattr(deepaugment, "FORWARD", (deepaugment.nothing,))
    picture = torch.rand(3, 5, 6)
    rng = generator("deepaugment", *KEYS[0])
    share = rng.uniform(0.375, 0.75)
    rng.permutation(1)
    filters = basis(0).rot90(int(rng.integers(1, 4)), (2, 3)).double()
    z = picture.double() - picture.double().mean()
    rim = np.pad(z.numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    out = np.zeros_like(rim)
    for y in range(rim.shape[1] - 2):
        for x in range(rim.shape[2] - 2):
            patch = rim[:, y : y + 3, x : x + 3]
            for damaged_one, whole in zip(filters.numpy(), basis(0).double().numpy(), strict=True):
                out[:, y : y + 3, x : x + 3] += max(0, (damaged_one * patch).sum()) * whole / 9
    made = out[:, 2:-2, 2:-2]
    made *= np.sqrt((z.numpy() ** 2).mean() / (made**2).mean())
    expected = (picture.double().mean() + (1 - share) * z + share * torch.tensor(made)).clamp(0, 1)
    found = damaged(picture[None], KEYS[:1], layers=1, operations=1)[0].double()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_picture_depends_on_its_own_key_alone(pictures):
    together = damaged(pictures, KEYS)
    alone = torch.cat([damaged(p[None], [k]) for p, k in zip(pictures, KEYS, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    backwards = damaged(pictures.flip(0), KEYS[::-1]).flip(0)
    torch.testing.assert_close(together, backwards, atol=1e-5, rtol=0)
    torch.manual_seed(5)
    assert torch.equal(together, damaged(pictures, KEYS))
    same = damaged(pictures[:1].expand(6, -1, -1, -1), KEYS)
    assert all((same[0] - other).abs().mean() > 0.01 for other in same[1:])


def test_pixels_stay_in_range_and_change(pictures):
    keys = [(0, epoch, i) for epoch in range(8) for i in range(6)]
    found = damaged(pictures.repeat(8, 1, 1, 1), keys)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.isfinite().all()
    assert ((found - pictures.repeat(8, 1, 1, 1)).abs().mean((1, 2, 3)) > 0.01).all()
    grey = damaged(torch.full((1, 3, 16, 16), 0.5), KEYS[:1])  # nothing to be as strong as
    torch.testing.assert_close(grey, torch.full((1, 3, 16, 16), 0.5))


@pytest.mark.parametrize("damage", deepaugment.DAMAGES)
def test_each_damage_changes_filters_and_leaves_the_basis(damage):
    before = basis(0).clone()
    changed = [damage(basis(0), generator("test", i)) for i in range(4)]
    assert all(one.shape == before.shape and one.isfinite().all() for one in changed)
    assert any(not torch.equal(one, before) for one in changed)
    assert torch.equal(basis(0), before)


@pytest.mark.parametrize("change", deepaugment.FORWARD)
def test_changes_of_features(change):
    features = torch.arange(1, 54 * 20 + 1).float().view(54, 4, 5)
    found = change(features, generator("test", 0))
    same = (found == features).float().mean()
    if change is deepaugment.swap:
        order = (found[:, 0, 0] - 1) / 20
        assert sorted(order.tolist()) == list(range(54))
        assert (order != torch.arange(54)).sum() == 10
    elif change is deepaugment.nothing:
        assert same == 1
    else:
        expected = {deepaugment.drop: (0.95, 0), deepaugment.reverse: (0.975, -1)}[change]
        assert same == pytest.approx(expected[0], abs=0.01)
        other = found != features
        assert torch.equal(found[other], expected[1] * features[other])


def test_damages_in_closed_form():
    ones = torch.arange(54 * 27.0).view(54, 3, 3, 3) + 1
    rng = generator("test", 1)
    half = deepaugment.negate_half(ones, rng) / ones
    assert sorted(half[:, 0, 0, 0].tolist()) == [-1.0] * 27 + [1.0] * 27
    assert (half.flatten(1) == half[:, 0, 0, :1]).all()
    kept = deepaugment.zero_half(ones, rng).flatten(1).any(1)
    assert kept.sum() == 27
    assert (deepaugment.largest(ones, rng) != 0).sum() == 54 * 3
    inner = deepaugment.blend(torch.ones(54, 3, 3, 3), rng)[:, :, 1, 1]
    torch.testing.assert_close(inner, torch.ones(54, 3))
    centre = deepaugment.laplacian(torch.ones(54, 3, 3, 3), rng)
    assert centre.sum() == 0
    assert set((deepaugment.signs(ones, rng) / ones).unique().tolist()) == {-1.0, 1.0}
    assert set((deepaugment.mask(ones, rng) / ones).unique().tolist()) == {0.0, 1.0}


def test_in_training_a_share_of_the_pictures_is_changed_each_epoch_others(pictures):
    images = torch.arange(400)
    pixels = torch.rand(1, 3, 8, 8).expand(400, -1, -1, -1)

    def changed(epoch, share):
        batch = Batch(pixels, images % 16, images, 3, epoch, 0, torch.Generator())
        found = augmentation.deepaugment(batch, share=share)
        assert torch.equal(found.labels, batch.labels)
        return (found.pixels != pixels).flatten(1).any(1)

    first, second = changed(0, 0.5), changed(1, 0.5)
    assert 160 < first.sum() < 240
    assert not torch.equal(first, second)
    assert torch.equal(first, changed(0, 0.5))
    assert changed(0, 0).sum() == 0
    assert changed(0, 1).all()
