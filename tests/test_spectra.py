import numpy as np
import pytest
import torch

from vitlab.statistics import spectra


def cosines(n):
    """The orthonormal DCT-II by its definition: [n, n], row k is the k-th frequency."""
    k, x = np.mgrid[:n, :n]
    return np.cos(np.pi * k * (x + 0.5) / n) * np.sqrt(np.where(k, 2, 1) / n)


@pytest.mark.parametrize("shape", [(64, 64), (224, 224), (7, 12)])
def test_the_dct_is_the_sum_over_cosines(shape):
    images = torch.rand(3, 3, *shape)
    rows, columns = map(cosines, shape)
    expected = rows @ images.double().numpy() @ columns.T
    assert np.abs(spectra.dct2(images).numpy() - expected).max() < 1e-12 * shape[0]


def test_energy_is_preserved():
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    total = spectra.energy(images).sum((1, 2))
    assert torch.allclose(total, images.square().sum((1, 2, 3)))


def test_entropy_of_known_spectra():
    flat, peak, half = np.ones(64), np.eye(64)[0], np.r_[np.ones(8), np.zeros(56)]
    assert spectra.spectral_entropy(flat) == pytest.approx(1)
    assert spectra.spectral_entropy(peak) == pytest.approx(0)
    assert spectra.spectral_entropy(half) == pytest.approx(0.5)  # ln 8 / ln 64
    assert spectra.spectral_entropy(np.stack([flat, peak])) == pytest.approx([1, 0])


def test_share_outside_the_low_quarter():
    square = np.zeros((8, 8))
    square[1, 2], square[5, 0] = 3, 1
    assert spectra.share_outside_low(square.ravel(), 8) == pytest.approx(0.25)


def test_rings_hold_all_energy_and_grow_with_frequency():
    energy = np.random.default_rng(0).random((2, 32, 32))
    assert spectra.radial_curve(energy).sum(-1) == pytest.approx([1, 1])
    lowest, highest = np.zeros((32, 32)), np.zeros((32, 32))
    lowest[0, 0] = highest[31, 31] = 1
    assert spectra.radial_curve(lowest)[0] == 1
    assert spectra.radial_curve(highest)[-1] == 1


@pytest.mark.parametrize(
    "of",
    [
        spectra.spectral_entropy,
        lambda maps: spectra.share_outside_low(maps, 4),
        lambda maps: spectra.radial_curve(maps.reshape(-1, 4, 4)),
    ],
)
def test_energy_is_not_negative(of):
    maps = np.random.default_rng(0).random((2, 16))
    spoilt = maps.copy()
    spoilt[1, 5] = -0.25
    for wrong in (-maps, spoilt):
        with pytest.raises(ValueError, match="not negative, these maps go down to -"):
            of(wrong)
    maps[:, 5] = -1e-16  # what rounding leaves of a mean less its only part
    assert np.isfinite(of(maps)).all()


def test_one_perturbation_alone_is_no_stack():
    with pytest.raises(ValueError, match=r"\[B, 3, h, w\], not \[3, 8, 8\]"):
        spectra.energy(torch.rand(3, 8, 8))
