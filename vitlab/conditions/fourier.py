"""Single-frequency noise: one real Fourier basis image at a time (Yin et al. 2019).

Frequencies are integers (u, v): u waves down and v waves across the image. (u, v) and (-u, -v) have
the same basis image, so only one of the two is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitlab.conditions import Batch, Condition
from vitlab.rng import generator

Frequency = tuple[int, int]


def frequencies(size: int, stride: int = 1, highest: int | None = None) -> list[Frequency]:
    """One of each pair of conjugate frequencies of a size x size image.

    stride: only multiples of it; highest: only up to this |u| and |v| (size // 2 by default).

    >>> frequencies(4, stride=2)
    [(0, 0), (2, 0), (0, 2), (2, 2)]

    Raises ValueError for a stride below 1 or a highest frequency beyond size // 2.
    """
    highest = size // 2 if highest is None else highest
    if stride < 1 or not 0 <= highest <= size // 2:
        raise ValueError(
            f"a {size} px image has frequencies up to {size // 2}, in strides of 1 or more; "
            f"got highest {highest}, stride {stride}"
        )
    top = highest // stride * stride
    return [
        (u, v)
        for v in range(0, top + 1, stride)
        for u in range(-top, top + 1, stride)
        # -size / 2 is size / 2 once more; where v is its own conjugate, -u is u once more.
        if 2 * u != -size and (u >= 0 or 2 * v not in (0, size))
    ]


def multiplicity(frequency: Frequency, size: int) -> int:
    """How many places of the size x size spectrum share a basis image: 2, or 1."""
    return 1 if all(2 * k % size == 0 for k in frequency) else 2


def basis(u: int, v: int, size: int) -> Tensor:
    """The real Fourier basis image of a frequency, a cosine wave of L2 norm 1: float [size, size].

    Raises ValueError for a frequency that a size x size image does not have.
    """
    _check_frequency((u, v), size)
    place = torch.arange(size)
    # Whole turns are taken off in integers, so large images lose no precision.
    turns = ((u * place[:, None] + v * place[None]) % size).double() / size
    wave = torch.cos(2 * torch.pi * turns)
    return (wave / wave.norm()).float()


def perturb(pixels: Tensor, frequency: Frequency, norm: float, signs: Tensor) -> Tensor:
    """Add the basis image to every channel, then clip to [0, 1].

    pixels: float [B, 3, size, size]; norm: L2 norm of what is added to each channel, before
    clipping (Yin et al.: 15.7 at 224 px); signs: 1 or -1, [B, 3].
    """
    wave = basis(*frequency, pixels.shape[-1]).to(pixels)
    return (pixels + norm * signs.to(pixels)[:, :, None, None] * wave).clamp(0, 1)


def conditions(chosen: Sequence[Frequency], norm: float, seed: int = 0) -> list[Condition]:
    """A condition per frequency: its basis image with a random sign per image and channel.

    norm: L2 norm per channel; it is the conditions' level. Their names are those of `name`.

    Raises ValueError for a norm that is not positive; the conditions raise it for a frequency that
    the images do not have.
    """
    if not norm > 0:
        raise ValueError(f"norm must be positive, got {norm}")

    def condition(frequency: Frequency) -> Condition:
        def apply(batch: Batch) -> Tensor:
            drawn = [
                generator("fourier", seed, image_id, *frequency).integers(2, size=3)
                for image_id in batch.ids
            ]
            signs = torch.from_numpy(2 * np.stack(drawn) - 1)
            return perturb(batch.pixels, frequency, norm, signs)

        return Condition(
            name(frequency),
            norm,
            apply,
            check=lambda size: _check_frequency(frequency, size),
            key=f"seed {seed}",
        )

    return [condition(frequency) for frequency in chosen]


def name(frequency: Frequency) -> str:
    """The name of a frequency's condition.

    >>> name((-8, 16))
    'frequency (-8, 16)'
    """
    return f"frequency ({frequency[0]}, {frequency[1]})"


def heat_map(
    values: Sequence[float], chosen: Sequence[Frequency], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values of a size x size image's frequencies as a picture, the lowest in the middle.

    Returns the frequencies along either side, long [k], and the picture, float [k, k] (u down, v
    across), symmetric about its middle, NaN where no value is known.
    """
    axis = np.array(sorted({sign * k for f in chosen for k in f for sign in (-1, 1)}))
    picture = np.full((len(axis), len(axis)), np.nan)
    for (u, v), value in zip(chosen, values, strict=True):
        for sign in (-1, 1):
            down, across = ((axis - sign * k) % size == 0 for k in (u, v))
            picture[np.ix_(down, across)] = value
    return axis, picture


def _check_frequency(frequency: Frequency, size: int) -> None:
    if any(abs(k) > size // 2 for k in frequency):
        raise ValueError(
            f"a {size} px image has no frequency {frequency}: they go up to {size // 2}"
        )
