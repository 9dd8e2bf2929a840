"""One square hole somewhere in the image (Paul & Chen 2022, masking; Cutout of Albumentations).

The hole's side is ``int(sqrt(factor * size * size))`` and its pixels are set to 0 in raw pixels, so
it is black. Where a hole lies depends on the image alone: one image's holes of all factors share
their place as far as they fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitlab.conditions.condition import Batch, Condition, check_draws
from vitlab.rng import generator


def side(factor: float, size: int) -> int:
    """Side of the hole that covers a share of a size x size image, rounded down as published.

    >>> [side(factor, 224) for factor in (0.05, 0.1, 0.2, 0.5)]
    [50, 70, 100, 158]
    """
    return int(np.sqrt(factor * size * size))


def holes(
    ids: Sequence[str],
    factor: float,
    size: int,
    draw: int = 0,
    seed: int = 0,
    as_released: bool = False,
) -> Tensor:
    """Each image's hole: long [B, 4], its first row, first column, and those after its last.

    The hole lies anywhere inside the image. as_released: its centre does instead, as in
    Albumentations' Cutout that the paper's notebooks call: what reaches over the last row or column
    is lost, and a corner above the first row or column is moved to it (versions 0.5 to 1.0).
    """
    length = side(factor, size)
    places = np.stack([generator("cutout", seed, draw, image_id).random(2) for image_id in ids])
    if as_released:
        first = (places * (size + 1)).astype(int) - length // 2
        first = first.clip(0, size)
    else:
        first = (places * (size - length + 1)).astype(int)
    return torch.from_numpy(np.concatenate([first, (first + length).clip(0, size)], 1))


def share(found: Tensor, size: int) -> Tensor:
    """Share of a size x size image that each of the `holes` covers: float [B]."""
    top, left, bottom, right = found.unbind(1)
    return (bottom - top) * (right - left) / size**2


def cut(pixels: Tensor, found: Tensor) -> Tensor:
    """Blacken each image's hole. pixels: float [B, 3, h, w]; found: long [B, 4] of `holes`."""
    top, left, bottom, right = found.to(pixels.device)[:, :, None].unbind(1)
    row, column = (torch.arange(n, device=pixels.device) for n in pixels.shape[-2:])
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return pixels.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)


def random(
    factors: Sequence[float],
    draws: int = 1,
    seed: int = 0,
    as_released: bool = False,
    name: str = "hole",
) -> list[Condition]:
    """One black hole per image and factor, `draws` times; all models see the same ones.

    factors: shares of the image, the conditions' levels. as_released: see `holes`.

    Raises ValueError for a factor outside 0..1 and no draws.
    """
    check_draws(draws, seed)
    for factor in factors:
        if not 0 <= factor <= 1:
            raise ValueError(f"factor {factor} is outside 0..1 (a share of the image)")

    def condition(factor: float, draw: int) -> Condition:
        def apply(batch: Batch) -> Tensor:
            size = batch.pixels.shape[-1]
            return cut(batch.pixels, holes(batch.ids, factor, size, draw, seed, as_released))

        return Condition(name, factor, apply, draw, key=f"seed {seed}, as released {as_released}")

    return [condition(factor, draw) for factor in factors for draw in range(draws)]
