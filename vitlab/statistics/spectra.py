"""Where in the DCT spectrum the energy of a perturbation lies (Paul & Chen 2022, section 5)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def dct_matrix(n: int) -> Tensor:
    """The orthonormal DCT-II as a matrix: float64 [n, n], row k is the k-th frequency."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(torch.pi / n * (k[None] + 0.5) * k[:, None]) * (2 / n) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def dct2(images: Tensor) -> Tensor:
    """Two-dimensional orthonormal DCT-II of the last two dimensions, in float64."""
    rows, columns = (dct_matrix(n).to(images.device) for n in images.shape[-2:])
    return rows @ images.double() @ columns.T


def energy(perturbations: Tensor) -> Tensor:
    """DCT energy of each perturbation: float64 [B, h, w], summed over the colour channels.

    perturbations: float [B, 3, h, w]. [0, 0] is the lowest frequency.
    """
    return dct2(perturbations).square().sum(1)


def spectral_entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy of energy maps over their frequencies, 1 if flat: [..., h * w] -> [...]."""
    share = maps / maps.sum(-1, keepdims=True)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum(-1) / np.log(maps.shape[-1])


def share_outside_low(maps: np.ndarray, size: int) -> np.ndarray:
    """Share of energy outside the lowest quarter of frequencies: [..., size * size] -> [...].

    The lowest quarter is the top-left block with both frequencies below half the side.
    """
    square = maps.reshape(*maps.shape[:-1], size, size)
    low = square[..., : size // 2, : size // 2].sum((-2, -1))
    return 1 - low / maps.sum(-1)


def radial_curve(maps: np.ndarray, bins: int = 32) -> np.ndarray:
    """Share of a map's energy per ring of equal radial frequency: [..., size, size] -> [..., bins].

    Rings go from frequency 0 to the corner's (sqrt 2 of the axis maximum), equally wide.
    """
    size = maps.shape[-1]
    axis = np.arange(size) / (size - 1)
    radius = np.hypot(axis[:, None], axis[None]) / np.sqrt(2)
    ring = np.minimum((radius * bins).astype(int), bins - 1)
    sums = np.stack([(maps * (ring == r)).sum((-2, -1)) for r in range(bins)], axis=-1)
    return sums / sums.sum(-1, keepdims=True)
