"""A universal adversarial patch: one small square that fools a model wherever it is pasted.

Brown et al. 2017, untargeted, as Naseer et al. (2021) use it: a square patch, pasted at a random
place and turned by a random number of quarter turns, in training and in the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from vitlab.attacks.gradient import scored
from vitlab.conditions.condition import check_pixels
from vitlab.rng import generator


def side(size: int, area: float) -> int:
    """Side of the square patch that covers a share of a size x size image, rounded down.

    >>> side(64, 0.06), side(64, 0.25)
    (15, 32)

    Raises ValueError for an area that is not in (0, 1], or too small for a pixel.
    """
    found = int(size * area**0.5 + 1e-9) if 0 < area <= 1 else 0
    if found < 1:
        raise ValueError(
            f"a patch covers a share in (0, 1] of the image, at least one pixel; got {area}"
        )
    return found


def start(side: int, seed: int = 0) -> Tensor:
    """The patch before training, uniform noise: float [3, side, side] in [0, 1]."""
    drawn = generator("patch start", seed, side).uniform(0, 1, (3, side, side))
    return torch.from_numpy(drawn).float()


def places(size: int, side: int, ids: Sequence[str], seed: int = 0, use: str = "test") -> Tensor:
    """Where a patch goes on each image, and how it is turned: long [B, 3], row, column, turns.

    Uniform over all places at which the whole patch is inside, and over 0 to 3 quarter turns. An
    image's place depends on its id, the seed, the side and `use` alone.

    Raises ValueError for a patch larger than the image.
    """
    if not 1 <= side <= size:
        raise ValueError(f"a patch of side {side} does not fit on an image of side {size}")
    ends = [size - side + 1, size - side + 1, 4]
    drawn = [generator("patch place", use, seed, side, name).integers(ends) for name in ids]
    return torch.from_numpy(np.array(drawn).reshape(-1, 3))


def paste(pixels: Tensor, patches: Sequence[Tensor], where: Tensor) -> Tensor:
    """Each image with its patch on it; differentiable in the patches.

    pixels: float [B, 3, h, w]; patches: B of them, float [3, side, side]; where: of `places`.
    """
    shown = pixels.clone()
    for i, (patch, (row, column, turns)) in enumerate(zip(patches, where.tolist(), strict=True)):
        bottom, right = row + patch.shape[1], column + patch.shape[2]
        shown[i, :, row:bottom, column:right] = patch.rot90(turns, (1, 2))
    return shown


def train(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    patches: Sequence[tuple[int, int]],
    steps: int = 60,
    step_size: float = 0.05,
    batch: int = 4,
    at_once: int | None = None,
) -> list[Tensor]:
    """Train patches against one model; returns each as float [3, side, side] in [0, 1].

    A step pastes the patch onto the next `batch` images and adds `step_size` times the sign of the
    cross-entropy's gradient, summed over them. An epoch takes the images in random order, and
    every time an image is used it gets another place.

    pixels: float [B, 3, size, size] in [0, 1]; labels: long [B]; ids: the images' ids.
    patches: (side, seed) of each. They are trained at the same time, because small batches are
        slow, and none depends on the others.
    at_once: how many images, each with a patch, fit into memory with their gradients: patches of
        which the batches do not fit are trained one after the other. All together if None.

    Raises ValueError for no images, other than a label and an id each, pixels outside [0, 1], no
    steps, a negative step size, an empty batch, and a model that returns NaN or infinity.
    """
    if len(labels) != len(pixels) or len(ids) != len(pixels):
        raise ValueError(f"{len(pixels)} images have {len(labels)} labels and {len(ids)} ids")
    if len(pixels) == 0 or steps < 1 or step_size < 0 or batch < 1:
        raise ValueError(
            "a patch needs images, steps >= 1, step_size >= 0, batch >= 1; "
            f"got {len(pixels)}, {steps}, {step_size}, {batch}"
        )
    check_pixels(pixels)
    together = max(1, len(patches) if at_once is None else at_once // batch)
    parts = [patches[first : first + together] for first in range(0, len(patches), together)]
    images = logits, pixels, labels, ids
    return [patch for part in parts for patch in _train(*images, part, steps, step_size, batch)]


def _train(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    patches: Sequence[tuple[int, int]],
    steps: int,
    step_size: float,
    batch: int,
) -> list[Tensor]:
    """`train` of all patches at the same time."""
    size, n, device = pixels.shape[-1], len(pixels), pixels.device
    trained = [start(side, seed).to(pixels) for side, seed in patches]
    for step in range(steps):
        rows, where = [], []
        for length, seed in patches:
            used = range(step * batch, (step + 1) * batch)
            chosen = [int(_order(n, seed, k // n)[k % n]) for k in used]
            keys = [f"{ids[i]}, use {k // n}" for i, k in zip(chosen, used, strict=True)]
            rows += chosen
            where.append(places(size, length, keys, seed, "train"))
        here = [patch.requires_grad_(True) for patch in trained]
        each = [patch for patch in here for _ in range(batch)]
        shown = paste(pixels[rows], each, torch.cat(where))
        truth = labels[rows].to(device)
        loss = cross_entropy(scored(logits, shown, truth), truth, reduction="sum")
        slopes = torch.autograd.grad(loss, here)
        trained = [
            (patch.detach() + step_size * slope.sign()).clamp(0, 1)
            for patch, slope in zip(here, slopes, strict=True)
        ]
    return trained


def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.from_numpy(generator("patch order", seed, epoch).permutation(n))
