"""Where in the Fourier spectrum the energy of a perturbation lies (Kim & Lee 2022, their code)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitlab.attacks.spectral import radius

RINGS = 11  # ten of a tenth of half the sampling rate each, and the corners


def rings(perturbations: Tensor, power: float = 2) -> Tensor:
    """Share of the spectrum in rings about frequency 0: float [B, 3, s, s] -> [B, 11].

    Ring k has the radii from k / 10 on to below (k + 1) / 10 of half the sampling rate; the last
    one has all from there on. power: 2 for energy, 1 for amplitude. NaN where nothing is perturbed.
    """
    size = perturbations.shape[-1]
    ring = (radius(size) * 10 + 1e-5).long().clamp_max(RINGS - 1)  # 0.3 * 10 is a hair below 3
    inside = torch.nn.functional.one_hot(ring.flatten(), RINGS).to(perturbations)
    return _shares(perturbations, power) @ inside


def mean_radius(perturbations: Tensor, power: float = 2) -> Tensor:
    """Mean radius of the spectrum, weighted by energy (or amplitude): [B, 3, s, s] -> [B].

    In units of half the sampling rate. Arguments and NaN as in `rings`.
    """
    at = radius(perturbations.shape[-1]).flatten().to(perturbations)
    return _shares(perturbations, power) @ at


def _shares(perturbations: Tensor, power: float) -> Tensor:
    """Each frequency's share, the channels together: [B, s * s]."""
    energy = torch.fft.fft2(perturbations).abs().pow(power).sum(1).flatten(1)
    return energy / energy.sum(1, keepdim=True)
