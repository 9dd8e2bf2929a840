"""Single-frequency noise: one real Fourier basis image at a time (Yin et al. 2019).

Frequencies are integers (u, v): u waves down and v waves across the image. (u, v) and (-u, -v) have
the same basis image, so only one of the two is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitlab.conditions.condition import Batch, Condition
from vitlab.files import digest
from vitlab.rng import check_seed, generator

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


def perturb(pixels: Tensor, shown: Sequence[Frequency], norm: float, signs: Tensor) -> Tensor:
    """Add a basis image to every channel, then clip to [0, 1].

    pixels: float [B, 3, size, size]; shown: each image's frequency; norm: L2 norm of what is added
    to each channel, before clipping; signs: 1 or -1, [B, 3].
    """
    waves = {frequency: basis(*frequency, pixels.shape[-1]) for frequency in set(shown)}
    added = torch.stack([waves[frequency] for frequency in shown]).to(pixels)[:, None]
    return (pixels + norm * signs.to(pixels)[:, :, None, None] * added).clamp(0, 1)


def conditions(chosen: Sequence[Frequency], norm: float, seed: int = 0) -> list[Condition]:
    """A condition per frequency: its basis image with a random sign per image and channel.

    norm: L2 norm per channel; it is the conditions' level. Their names are those of `name`.

    Raises ValueError for a norm that is not positive and finite; the conditions raise it for a
    frequency that the images do not have.
    """
    _check_norm(norm)
    check_seed(seed)

    def condition(frequency: Frequency) -> Condition:
        return Condition(
            name(frequency),
            norm,
            lambda batch: _add(batch, [frequency] * len(batch.ids), norm, seed),
            check=lambda size: _check_frequency(frequency, size),
            key=f"seed {seed}",
        )

    return [condition(frequency) for frequency in chosen]


def assign(count: int, images: int, each: int, *key: object) -> np.ndarray:
    """Which of `count` frequencies each image is shown in each round: long [rounds, images].

    In each round every image gets one frequency, a different one in every round. Every frequency is
    assigned to at least `each` images; as the last round is full, some go to more. With `each`
    equal to `images` every image gets every frequency.

    key: what the random order depends on.

    Raises ValueError for `each` outside 1..images or no frequencies.
    """
    if count < 1 or not 1 <= each <= images:
        raise ValueError(
            f"a frequency can be assigned to 1..{images} images; got {each} images for each of "
            f"{count} frequencies"
        )
    rounds = -(-count * each // images)
    turn = np.arange(rounds * images)
    # Two wheels, of frequencies and of images, turn in step. After their common period one is
    # moved on by a place, so that no pair meets again before all pairs have met.
    at = (turn + turn // np.lcm(count, images)) % count
    frequency = generator("deal", "frequencies", *key).permutation(count)[at]
    image = generator("deal", "images", *key).permutation(images)[turn % images]
    assigned = np.empty((rounds, images), int)
    assigned[turn // images, image] = frequency
    return assigned


def assigned(
    rounds: np.ndarray, chosen: Sequence[Frequency], norm: float, seed: int = 0, name: str = "wave"
) -> list[Condition]:
    """A condition per round of `assign`: each image with the frequency assigned to it.

    rounds: long [rounds, images of the set], indices into `chosen`. The round is the condition's
    draw, `norm` its level. Signs are those of `conditions`.

    Raises ValueError as `conditions` does.
    """
    _check_norm(norm)
    check_seed(seed)

    def condition(draw: int) -> Condition:
        shown = [chosen[k] for k in rounds[draw]]  # of each image of the set

        def apply(batch: Batch) -> Tensor:
            return _add(batch, [shown[i] for i in batch.index.tolist()], norm, seed)

        def check(size: int) -> None:
            for frequency in set(shown):
                _check_frequency(frequency, size)

        key = f"seed {seed}, assigned {digest(shown)}"
        return Condition(name, norm, apply, draw, check, key)

    return [condition(draw) for draw in range(len(rounds))]


def _add(batch: Batch, shown: Sequence[Frequency], norm: float, seed: int) -> Tensor:
    """Each image with a basis image of its own, its signs keyed by image and frequency."""
    drawn = [
        generator("fourier", seed, image_id, *frequency).integers(2, size=3)
        for image_id, frequency in zip(batch.ids, shown, strict=True)
    ]
    return perturb(batch.pixels, shown, norm, torch.from_numpy(2 * np.stack(drawn) - 1))


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


def _check_norm(norm: float) -> None:
    if not 0 < norm < np.inf:
        raise ValueError(f"norm must be positive and finite, got {norm}")


def _check_frequency(frequency: Frequency, size: int) -> None:
    if any(abs(k) > size // 2 for k in frequency):
        raise ValueError(
            f"a {size} px image has no frequency {frequency}: they go up to {size // 2}"
        )
