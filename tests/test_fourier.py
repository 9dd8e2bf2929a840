import math

import numpy as np
import pytest
import torch

from vitlab.conditions import Batch, fourier


def batch(n=5, size=16, seed=0):
    pixels = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return Batch(pixels, tuple(f"image{i}" for i in range(n)), torch.arange(n))


@pytest.mark.parametrize("size", [7, 8, 16])
def test_the_frequencies_are_half_the_spectrum_and_their_images_an_orthonormal_set(size):
    chosen = fourier.frequencies(size)
    assert sum(fourier.multiplicity(f, size) for f in chosen) == size**2
    waves = torch.stack([fourier.basis(*f, size) for f in chosen]).flatten(1)
    assert torch.allclose(waves @ waves.T, torch.eye(len(chosen)), atol=1e-5)


@pytest.mark.parametrize("size", [8, 15])
def test_a_basis_image_has_one_conjugate_pair_in_its_spectrum(size):
    for u, v in fourier.frequencies(size):
        spectrum = np.abs(np.fft.fft2(fourier.basis(u, v, size).numpy()))
        places = {tuple(map(int, at)) for at in np.argwhere(spectrum > 1e-3)}
        assert places == {(u % size, v % size), (-u % size, -v % size)}
        assert len(places) == fourier.multiplicity((u, v), size)


def test_a_basis_image_is_the_inverse_transform_of_a_single_coefficient():
    for u, v in fourier.frequencies(16):
        half = np.zeros((16, 9))
        half[u % 16, v] = 1
        wave = np.fft.irfft2(half, s=(16, 16))
        if v == 0:  # irfft2 takes the real part of this column's wave
            half[-u % 16, v] = 1
            wave = np.fft.irfft2(half, s=(16, 16))
        wave /= np.linalg.norm(wave)
        assert np.abs(fourier.basis(u, v, 16).numpy() - wave).max() < 1e-6


def test_large_images_keep_the_norm():
    assert float(fourier.basis(-100, 111, 224).double().norm()) == pytest.approx(1, abs=1e-6)


def test_strides_and_windows():
    chosen = fourier.frequencies(64, stride=7)
    assert len(chosen) == len(set(chosen)) == (9 * 9 + 1) // 2
    assert {abs(k) for f in chosen for k in f} == {0, 7, 14, 21, 28}
    assert max(abs(k) for f in fourier.frequencies(64, 4, 16) for k in f) == 16
    mirrored = {(-u, -v) for u, v in chosen}
    assert mirrored & set(chosen) == {(0, 0)}


def test_each_channel_gets_the_norm_and_its_sign():
    grey = torch.full((4, 3, 16, 16), 0.5)
    signs = torch.tensor([[1, 1, 1], [1, -1, 1], [-1, -1, 1], [-1, -1, -1]])
    added = fourier.perturb(grey, [(3, 5)] * 4, 2.0, signs) - grey
    assert added.flatten(2).norm(dim=2).numpy() == pytest.approx(2, abs=1e-5)
    expected = signs[:, :, None, None] * 2 * fourier.basis(3, 5, 16)
    assert torch.allclose(added, expected, atol=1e-6)


def test_each_image_gets_its_own_frequency():
    grey = torch.full((3, 3, 16, 16), 0.5)
    waves = [(3, 5), (0, 1), (3, 5)]
    added = fourier.perturb(grey, waves, 2.0, torch.ones(3, 3)) - grey
    for i, frequency in enumerate(waves):
        assert torch.allclose(added[i], 2 * fourier.basis(*frequency, 16).expand(3, 16, 16))


def test_pixels_are_clipped():
    shown = fourier.perturb(torch.rand(2, 3, 16, 16), [(1, 0)] * 2, 50.0, torch.ones(2, 3))
    assert shown.min() == 0
    assert shown.max() == 1


def test_signs_are_fair():
    grey = Batch(torch.full((400, 3, 4, 4), 0.5), tuple(map(str, range(400))), torch.arange(400))
    [condition] = fourier.conditions([(0, 0)], 0.4)
    positive = (condition.apply(grey)[:, :, 0, 0] > 0.5).double()
    assert (positive.mean(0) - 0.5).abs().max() < 5 * 0.025
    assert len(positive.unique(dim=0)) == 8, "channels have signs of their own"


def test_a_heat_map_is_symmetric_with_the_lowest_frequency_in_the_middle():
    chosen = fourier.frequencies(16, 4)
    values = [u + 100 * v for u, v in chosen]
    axis, picture = fourier.heat_map(values, chosen, 16)
    assert axis.tolist() == [-8, -4, 0, 4, 8]
    assert picture[2, 2] == 0
    places = axis.tolist()
    for (u, v), value in zip(chosen, values, strict=True):
        for sign in (-1, 1):
            assert picture[places.index(sign * u), places.index(sign * v)] == value
    assert np.array_equal(picture, picture[::-1, ::-1])
    few = [f for f in chosen if f != (4, 4)]
    _, picture = fourier.heat_map(np.ones(len(few)), few, 16)
    assert np.argwhere(np.isnan(picture)).tolist() == [[1, 1], [3, 3]]


@pytest.mark.parametrize(
    ("count", "images", "each"),
    [(179, 300, 5), (1333, 300, 5), (10, 4, 3), (6, 9, 9), (8, 8, 8), (1, 4, 1), (24, 6, 1)],
)
def test_assignments_are_even_and_no_image_gets_a_frequency_twice(count, images, each):
    rounds = fourier.assign(count, images, each, 0)
    assert rounds.shape == (math.ceil(count * each / images), images)
    times = np.bincount(rounds.ravel(), minlength=count)
    assert len(times) == count
    assert times.min() >= each
    assert times.max() - times.min() <= 1
    assert all(len(set(column)) == len(rounds) for column in rounds.T)
    if each == images:
        assert all(sorted(column) == list(range(count)) for column in rounds.T)


def test_assignments_are_random_and_keyed():
    first, again, other = (fourier.assign(100, 40, 2, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert (first != other).mean() > 0.9
    # 100 frequencies over 40 images in order would rise by one from image to image
    assert (np.diff(first[0]) == 1).mean() < 0.2


def test_an_assigned_wave_is_that_frequencys_own_condition():
    whole = batch(8)
    chosen = fourier.frequencies(16)
    rounds = fourier.assign(len(chosen), 8, 1, 0)
    conditions = fourier.assigned(rounds, chosen, 2.0, seed=3)
    assert [c.draw for c in conditions] == list(range(len(rounds)))
    assert len({c.key for c in conditions}) == len(rounds)
    for own, condition in zip(rounds, conditions, strict=True):
        shown = condition.apply(whole)
        for i, k in enumerate(own):
            [single] = fourier.conditions([chosen[k]], 2.0, seed=3)
            assert torch.equal(shown[i], single.apply(whole)[i])


def test_impossible_assignments_are_refused():
    for count, images, each in ((10, 4, 5), (10, 4, 0), (0, 4, 1)):
        with pytest.raises(ValueError, match=rf"1\.\.4 images.* got {each} images"):
            fourier.assign(count, images, each)


def test_frequencies_that_an_image_does_not_have_are_refused():
    with pytest.raises(ValueError, match="up to 32"):
        fourier.frequencies(64, highest=40)
    with pytest.raises(ValueError, match="stride 0"):
        fourier.frequencies(64, stride=0)
    with pytest.raises(ValueError, match=r"no frequency \(40, 3\)"):
        fourier.basis(40, 3, 64)
