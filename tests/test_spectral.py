"""Attacks on pixels, phases and magnitudes; rings of a spectrum; Holm's correction."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.nn.functional import cross_entropy

from vitlab.attacks import spectral
from vitlab.statistics import rings
from vitlab.statistics.holm import holm
from vitlab.statistics.interval import Interval


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


IMAGES = 0.3 + 0.4 * noise(5, 3, 8, 8)
WEIGHT = noise(4, 192, seed=1) - 0.5
LABELS = torch.tensor([0, 1, 2, 3, 0])


def linear(x):
    return 3 * x.flatten(1) @ WEIGHT.to(x.dtype).T


@pytest.mark.parametrize("mode", spectral.MODES)
@pytest.mark.parametrize("size", [7, 8])
def test_nothing_added_gives_the_image_again(mode, size):
    images = noise(2, 3, size, size)
    same = spectral.edited(images, mode, torch.zeros_like(images))
    assert torch.allclose(same, images, atol=1e-6)


def test_a_phase_that_grows_with_frequency_is_a_circular_shift():
    size, (down, across) = 8, (2, -3)
    image = noise(1, 3, size, size)
    u = np.fft.fftfreq(size, 1 / size)
    phase = -2 * np.pi * (u[:, None] * down + u[None] * across) / size
    # The highest frequency of an even size is its own conjugate: no phase can shift it.
    spectrum = np.fft.fft2(image.numpy())
    spectrum[..., size // 2, :] = spectrum[..., :, size // 2] = 0
    image = torch.from_numpy(np.fft.ifft2(spectrum).real).float()
    image = (image - image.min()) / (image.max() - image.min())
    moved = spectral.edited(image, "phase", torch.from_numpy(phase).float().expand_as(image))
    assert torch.allclose(moved, image.roll((down, across), (-2, -1)), atol=1e-5)


def test_a_doubled_magnitude_is_a_doubled_image():
    image = 0.4 * noise(1, 3, 8, 8)
    assert torch.allclose(
        spectral.edited(image, "mag", torch.ones_like(image)), 2 * image, atol=1e-6
    )


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("mode", ["phase", "mag"])
def test_any_edit_keeps_the_spectrum_of_a_real_image_and_what_it_may_not_change(mode, size):
    image, by = 0.4 + 0.2 * noise(1, 3, size, size), 0.2 * (noise(1, 3, size, size, seed=2) - 0.5)
    where = spectral.band(size, 0.6, low=False)
    shown = spectral.edited(image, mode, by, where)
    before, after = np.fft.fft2(image.double().numpy()), np.fft.fft2(shown.double().numpy())
    if mode == "phase":
        assert np.abs(after) == pytest.approx(np.abs(before), abs=1e-4)
    else:
        assert np.abs(np.angle(after / before)) == pytest.approx(0, abs=1e-4)
    out = ~where.numpy()
    assert np.abs(after - before)[..., out] == pytest.approx(0, abs=1e-4)
    assert np.abs(after - before)[..., ~out].max() > 1e-2
    # The half-plane is edited and mirrored: what the inverse would drop is nothing.
    u, v = 1, 2
    half = np.exp(1j * 0.5 * (by[..., u, v] - by[..., -u, -v]).numpy())
    if mode == "mag":
        half = 1 + 0.5 * (by[..., u, v] + by[..., -u, -v]).numpy()
    inside = bool(where[u, v])
    expected = before[..., u, v] * (half if inside else 1)
    assert after[..., u, v] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("mode", spectral.MODES)
def test_gradients_are_those_of_finite_differences(mode):
    image = 0.3 + 0.4 * noise(1, 3, 6, 6).double()
    by = 0.05 * (noise(1, 3, 6, 6, seed=3).double() - 0.5)
    where = 1.0 if mode == "pixel" else spectral.band(6, 0.8, low=True)
    assert torch.autograd.gradcheck(
        lambda free: spectral.edited(image, mode, free, where).square().sum((-2, -1)),
        by.requires_grad_(True),
    )


@pytest.mark.parametrize("mode", spectral.MODES)
def test_the_attack_is_torchs_adam_on_the_papers_loss(mode):
    weight, steps, rate = 500.0, 6, 5e-3
    by = torch.zeros_like(IMAGES, requires_grad=True)
    adam = torch.optim.Adam([by], lr=rate, weight_decay=5e-6)
    right, quality = [], []
    for k in range(steps + 1):
        x = spectral.edited(IMAGES, mode, by)
        right.append(linear(x).argmax(1) == LABELS)
        error = [float((a - b).square().mean()) for a, b in zip(x.detach(), IMAGES, strict=True)]
        quality.append([20 * math.log10(1 / math.sqrt(e)) if k else math.inf for e in error])
        loss = weight * (x - IMAGES).square().flatten(1).mean(1).sum()
        adam.zero_grad()
        (loss - cross_entropy(linear(x), LABELS, reduction="sum")).backward()
        adam.step()
    path = spectral.attack(linear, IMAGES, LABELS, mode, weight, steps, rate)
    assert torch.allclose(path.pixels, x, atol=1e-5)
    assert torch.equal(path.right, torch.stack(right))
    assert path.psnr[1:].numpy() == pytest.approx(np.array(quality[1:]), abs=0.02)
    assert path.psnr[0].isinf().all()


@pytest.mark.parametrize("mode", spectral.MODES)
def test_an_images_outcome_does_not_depend_on_its_batch(mode):
    how = {"weights": [3000, 30], "steps": 5, "lowest": 30}
    step = spectral.first_step(IMAGES, mode, 45)
    whole = spectral.sweep(linear, IMAGES, LABELS, mode, step=step, **how)
    for i in range(len(IMAGES)):
        one = slice(i, i + 1)
        alone = spectral.sweep(linear, IMAGES[one], LABELS[one], mode, step=step[one], **how)
        assert torch.allclose(alone.pixels, whole.pixels[one], atol=1e-5)
        assert torch.equal(alone.right, whole.right[:, one])


def test_a_fooled_image_is_left_alone_and_a_sweep_spares_it_the_smaller_weights():
    truth = linear(IMAGES).argmax(1)
    how = {"steps": 8, "step": 0.02}
    on = spectral.attack(linear, IMAGES, truth, "pixel", 1.0, **how)
    until = spectral.attack(linear, IMAGES, truth, "pixel", 1.0, until_fooled=True, **how)
    swept = spectral.sweep(linear, IMAGES, truth, "pixel", [1.0, 1e6], **how)
    strong = spectral.attack(linear, IMAGES, truth, "pixel", 1e6, until_fooled=True, **how)
    assert not on.right.all()
    assert torch.equal(on.right.all(0), until.right.all(0))
    for i in range(len(IMAGES)):
        wrong = (~on.right[:, i]).nonzero().flatten().tolist()
        end = wrong[0] if wrong else 8
        assert until.psnr[-1, i] == on.psnr[end, i]
        assert torch.equal(swept.right[:9, i], strong.right[:, i])
        if not strong.right[:, i].all():
            assert swept.right[9:, i].all()
            assert swept.psnr[9:, i].isinf().all()
            assert torch.equal(swept.pixels[i], strong.pixels[i])
        else:
            assert torch.equal(swept.pixels[i], until.pixels[i])


def test_accuracy_at_a_quality_counts_what_is_at_least_that_good():
    right = torch.tensor([[True, True, True, False], [True, False, True, False]])
    right = torch.cat([right, torch.tensor([[False, True, True, False]])])
    quality = torch.tensor([[math.inf] * 4, [50.0, 45, 50, math.inf], [40.0, 42, 45, math.inf]])
    path = spectral.Path(right, quality, noise(4, 3, 2, 2))
    for p in (60, 45, 41, 40, 30):
        for i in range(4):
            seen = [bool(right[k, i]) for k in range(3) if quality[k, i] >= p]
            assert bool(path.right_at(p)[i]) == all(seen)
    assert path.reached(44).tolist() == [True, True, False, True]


@pytest.mark.parametrize("mode", spectral.MODES)
def test_the_first_step_leaves_the_quality_that_was_asked_for(mode):
    image = 0.3 + 0.4 * noise(3, 3, 32, 32)
    where = 1.0 if mode == "pixel" else spectral.band(32, 0.4, low=False)
    step = spectral.first_step(image, mode, 50, where)
    by = step * torch.where(noise(3, 3, 32, 32, seed=4) > 0.5, 1.0, -1.0)
    if mode == "phase":
        by = by.abs() * (torch.fft.fft2(noise(1, 1, 32, 32, seed=5)).imag.sign())  # odd
    elif mode == "mag":
        by = by.abs()
    shown = spectral.edited(image, mode, by, where)
    assert spectral.psnr(shown, image).numpy() == pytest.approx(50, abs=0.1)


def test_psnr_is_that_of_its_definition():
    a, b = noise(1, 3, 4, 4), noise(1, 3, 4, 4, seed=1)
    total = sum(float(x - y) ** 2 for x, y in zip(a.flatten(), b.flatten(), strict=True))
    assert float(spectral.psnr(a, b)) == pytest.approx(20 * math.log10(1 / math.sqrt(total / 48)))
    assert float(spectral.psnr(a, a)) == math.inf


@pytest.mark.parametrize("size", [7, 20, 32])
def test_bands_and_rings_are_those_of_a_loop(size):
    where, perturbed = spectral.band(size, 0.4, low=True), noise(2, 3, size, size) - 0.5
    spectrum = np.fft.fft2(perturbed.double().numpy())
    energy, total, mean = np.zeros((2, 11)), np.zeros(2), np.zeros(2)
    for i in range(size):
        for j in range(size):
            u, v = (k if 2 * k < size else k - size for k in (i, j))
            far = math.sqrt(u * u + v * v) / (size / 2)
            assert bool(where[i, j]) == (round(far, 6) <= 0.4)
            here = (np.abs(spectrum[:, :, i, j]) ** 2).sum(1)
            energy[:, min(10, math.floor(round(10 * far, 6)))] += here
            total, mean = total + here, mean + far * here
    assert rings.rings(perturbed).numpy() == pytest.approx(energy / total[:, None], abs=1e-5)
    assert rings.mean_radius(perturbed).numpy() == pytest.approx(mean / total, abs=1e-5)


def test_one_wave_lies_in_one_ring():
    size, (u, v) = 32, (3, 4)
    place = torch.arange(size) / size
    wave = torch.cos(2 * math.pi * (u * place[:, None] + v * place[None])).expand(1, 3, -1, -1)
    assert float(rings.rings(wave)[0, 3]) == pytest.approx(1, abs=1e-5)  # 5 of 16
    assert float(rings.mean_radius(wave)) == pytest.approx(5 / 16, abs=1e-5)
    assert rings.rings(0 * wave).isnan().all()


def test_holm_is_that_of_p_values():
    random = np.random.default_rng(0)
    for _ in range(200):
        value = random.normal(1.5, 1.5, 6)
        cells = {str(k): Interval(v, v - 1.2, v + 1.2, 50) for k, v in enumerate(value)}
        p = 2 * norm.sf(value / (1.2 / norm.ppf(0.975)))  # two-sided, of values above 0
        kept, order = set(), np.argsort(p)
        for rank, k in enumerate(order):
            if p[k] > 0.05 / (6 - rank):
                break
            kept.add(str(k))
        assert {name for name, i in holm(cells).items() if i.low > 0} == kept


def test_nonsense_is_refused():
    some = linear, IMAGES, LABELS
    with pytest.raises(ValueError, match="unknown mode 'fase'"):
        spectral.attack(*some, "fase")
    with pytest.raises(ValueError, match="not on pixels"):
        spectral.attack(*some, "pixel", where=spectral.band(8, 0.4, True))
    with pytest.raises(ValueError, match="steps >= 1"):
        spectral.attack(*some, "mag", steps=0)
    with pytest.raises(ValueError, match="at least one weight"):
        spectral.sweep(*some, "mag", [])
    with pytest.raises(ValueError, match="a radius from 0 to"):
        spectral.band(8, 4, True)
