"""One cell of a grid over the image, replaced by another picture's, by noise or by an attack.

Gu et al. 2022 divide an image into a grid of equal cells and change one of them at a time: by a
corruption, of which only the cell is kept, ``torch.where(inside, corrupted, pixels)``, or by an
adversarial patch, which takes the cell's whole content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from vitlab.attacks.gradient import scored
from vitlab.conditions.condition import check_pixels
from vitlab.rng import generator


def drawn(ids: Sequence[str], grid: int, count: int, seed: int = 0) -> Tensor:
    """Some cells of a grid x grid for each image, no cell twice: long [B, count], row by row.

    An image's cells depend on its id, the grid and the seed alone; fewer are the first of more.

    Raises ValueError for more cells than there are, or none.
    """
    if not 1 <= count <= grid**2:
        raise ValueError(f"a grid of {grid} x {grid} has {grid**2} cells, {count} were asked for")
    orders = [generator("cells", seed, grid, name).permutation(grid**2)[:count] for name in ids]
    return torch.from_numpy(np.array(orders, int).reshape(-1, count))


def inside(cells: Tensor, grid: int, size: int) -> Tensor:
    """The pixels of each cell: bool [..., 1, size, size] for cells, long [...].

    >>> inside(torch.tensor(3), 2, 2)[0].int().tolist()
    [[0, 0], [0, 1]]

    Raises ValueError for a grid that does not divide the size, and for a cell outside it.
    """
    if grid < 1 or size % grid:
        raise ValueError(f"a grid of {grid} x {grid} cells does not divide {size} pixels")
    if cells.numel() and not 0 <= int(cells.min()) <= int(cells.max()) < grid**2:
        ends = f"{int(cells.min())} to {int(cells.max())}"
        raise ValueError(f"cells go from {ends}, a grid of {grid} x {grid} has {grid**2}")
    along = torch.arange(size, device=cells.device) // (size // grid)
    return (along[:, None] * grid + along == cells[..., None, None])[..., None, :, :]


def noise(ids: Sequence[str], size: int, seed: int = 0) -> Tensor:
    """A picture of uniform noise for each image, the patch before the attack: [B, 3, size, size].

    In [0, 1]; an image's noise depends on its id, the size and the seed alone.
    """
    shape = 3, size, size
    made = [generator("cell noise", seed, name).random(shape, np.float32) for name in ids]
    return torch.from_numpy(np.array(made, np.float32).reshape(-1, *shape))


class Replaced(NamedTuple):
    """Images with one cell replaced: float [B, cells, 3, h, w] in [0, 1].

    step: the first step after which the decision was not the label, long [B, cells]: 0 if the start
    was enough, steps + 1 if none did it.
    """

    pixels: Tensor
    step: Tensor


def attack(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    where: Tensor,
    start: Tensor,
    steps: int,
    step_size: float = 2 / 255,
    at_once: int = 64,
) -> Replaced:
    """The adversarial patch of Gu et al. 2022, one for each image and cell (as released).

    The cell's content starts as that of `start`. A step adds `step_size` times the sign of the
    cross-entropy's gradient, clipped to [0, 1], the only bound. A pair of image and cell is left
    alone from the first step on after which the decision is not the label. Pairs do not depend on
    each other.

    pixels, start: float [B, 3, h, w] in [0, 1]; labels: long [B]; where: bool [B, cells, 1, h, w],
    of `inside`. at_once: how many pairs fit into memory with their gradients.

    Raises ValueError for shapes that do not agree, a negative number of steps, a step size outside
    0..1, pixels outside [0, 1], labels and a model's answers as `gradient` does.
    """
    images, cells = where.shape[:2]
    if where.dtype != torch.bool or where.ndim != 5 or where.shape[3:] != pixels.shape[2:]:
        raise ValueError(f"masks are {where.dtype} {[*where.shape]}, pixels {[*pixels.shape]}")
    if not images == len(check_pixels(pixels)) == len(labels) or start.shape != pixels.shape:
        raise ValueError(
            f"{len(pixels)} images need as many labels, masks and starts of their shape; "
            f"got {len(labels)}, {images}, {[*start.shape]}"
        )
    if steps < 0 or not 0 <= step_size <= 1 or at_once < 1:
        raise ValueError(
            "an attack needs steps >= 0, a step size in 0..1, at_once >= 1; "
            f"got {steps}, {step_size}, {at_once}"
        )
    x = torch.where(where, check_pixels(start)[:, None], pixels[:, None]).flatten(0, 1)
    truth, mask = labels.repeat_interleave(cells), where.flatten(0, 1)
    step = torch.full_like(truth, steps + 1)
    for part in torch.arange(len(x), device=x.device).split(at_once):
        _climb(logits, x, truth, mask, step, part, step_size, steps)
    return Replaced(x.unflatten(0, (images, cells)), step.unflatten(0, (images, cells)))


def _climb(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    mask: Tensor,
    step: Tensor,
    active: Tensor,
    step_size: float,
    steps: int,
) -> None:
    """`attack` of the active pairs, written into x and step."""
    for k in range(steps + 1):
        here = x[active].requires_grad_(k < steps)
        scores = scored(logits, here, labels[active])
        still = scores.argmax(1) == labels[active]
        step[active[~still]] = k
        if k == steps or not still.any():
            return
        # The sum, not the mean: a pair's gradient must not depend on how many there are.
        loss = cross_entropy(scores, labels[active], reduction="sum")
        slope = torch.autograd.grad(loss, here)[0][still]
        active = active[still]
        moved = (x[active] + step_size * slope.sign()).clamp(0, 1)
        x[active] = torch.where(mask[active], moved, x[active])
