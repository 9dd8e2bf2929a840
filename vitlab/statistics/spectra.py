"""Where in the DCT spectrum the energy of a perturbation lies (Paul & Chen 2022, section 5)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dctn
from torch import Tensor


def dct2(images: Tensor) -> Tensor:
    """Two-dimensional orthonormal DCT-II of the last two dimensions, float64 on the CPU."""
    return torch.from_numpy(dctn(images.double().cpu().numpy(), axes=(-2, -1), norm="ortho"))


def energy(perturbations: Tensor) -> Tensor:
    """DCT energy of each perturbation: float64 [B, h, w], summed over the colour channels.

    perturbations: float [B, 3, h, w]. [0, 0] is the lowest frequency. Raises ValueError for other
    shapes, e.g. of one image alone.
    """
    if perturbations.ndim != 4:
        raise ValueError(f"perturbations are [B, 3, h, w], not {[*perturbations.shape]}")
    return dct2(perturbations).square().sum(1)


def _check_energy(maps: np.ndarray) -> None:
    # What is left of a mean when an image is taken out of it may be a hair below 0.
    if maps.size and maps.min() < -1e-9 * maps.max():
        raise ValueError(f"energy is not negative, these maps go down to {maps.min():g}")


def spectral_entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy of energy maps over their frequencies, 1 if flat: [..., h * w] -> [...].

    A map is a row: those of `energy`, [B, h, w], are to be flattened first (``flatten(1)``), or
    each of their rows counts as a map. NaN where there is no energy. Raises ValueError for energy
    below 0.
    """
    _check_energy(maps)
    share = maps / maps.sum(-1, keepdims=True)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum(-1) / np.log(maps.shape[-1])


def share_outside_low(maps: np.ndarray, size: int) -> np.ndarray:
    """Share of energy outside the lowest quarter of frequencies: [..., size * size] -> [...].

    The lowest quarter is the top-left block with both frequencies below half the side. NaN and
    errors as in `spectral_entropy`.
    """
    _check_energy(maps)
    square = maps.reshape(*maps.shape[:-1], size, size)
    low = square[..., : size // 2, : size // 2].sum((-2, -1))
    return 1 - low / maps.sum(-1)


def radial_curve(maps: np.ndarray, bins: int = 32) -> np.ndarray:
    """Share of a map's energy per ring of equal radial frequency: [..., size, size] -> [..., bins].

    Rings go from frequency 0 to the corner's (sqrt 2 of the axis maximum), equally wide. NaN and
    errors as in `spectral_entropy`.
    """
    _check_energy(maps)
    size = maps.shape[-1]
    axis = np.arange(size) / (size - 1)
    radius = np.hypot(axis[:, None], axis[None]) / np.sqrt(2)
    ring = np.minimum((radius * bins).astype(int), bins - 1)
    sums = np.stack([(maps * (ring == r)).sum((-2, -1)) for r in range(bins)], axis=-1)
    return sums / sums.sum(-1, keepdims=True)
