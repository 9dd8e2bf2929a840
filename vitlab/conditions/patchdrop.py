"""PatchDrop: blank cells of a grid laid over the image (Naseer et al. 2021, section 3.1).

A dropped cell is set to 0 in raw pixels, so it is black, not the mean colour. The number of cells
dropped at a level is ``floor(level * cells)``, as in the paper's released code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vitlab.conditions.condition import Batch, Condition, check_draws
from vitlab.keys import value
from vitlab.rng import generator

RELEASED_BATCH = 256  # images that share one mask in the paper's released evaluation


def drop(pixels: Tensor, dropped: Tensor, offset: int = 0, fill: float = 0.0) -> Tensor:
    """Blank the dropped cells.

    pixels: float [B, 3, h, w]; dropped: bool [B, rows, columns], a cell per h/rows x w/columns
    pixels; offset: shift the mask so many pixels right and down, leaving the first rows and columns
    visible; fill: grey value of a dropped cell, in [0, 1] (the paper's is 0).

    Raises ValueError for cells that do not divide the image, an offset that is negative or shifts
    the mask out of it, and a fill outside 0..1.
    """
    height, width = pixels.shape[-2:]
    rows, columns = dropped.shape[-2:]
    if height % rows or width % columns:
        raise ValueError(f"{rows} x {columns} cells do not divide {height} x {width} pixels")
    if not 0 <= offset < min(height, width) or not 0 <= fill <= 1:
        raise ValueError(
            f"offset is 0 to {min(height, width) - 1} pixels here, and fill 0 to 1; "
            f"got {offset} and {fill}"
        )
    visible = (~dropped).to(pixels.dtype)[:, None]
    visible = visible.repeat_interleave(height // rows, 2).repeat_interleave(width // columns, 3)
    if offset:
        shifted = torch.ones_like(visible)
        shifted[..., offset:, offset:] = visible[..., :-offset, :-offset]
        visible = shifted
    return pixels * visible if fill == 0 else pixels * visible + fill * (1 - visible)


def count(level: float, cells: int) -> int:
    """How many of `cells` are dropped at a level: floor(level * cells), without rounding error."""
    return int(np.floor(level * cells + 1e-9))


def random_cells(keys: Iterable[tuple], grid: tuple[int, int], level: float) -> Tensor:
    """Cells drawn uniformly without replacement: bool [len(keys), rows, columns].

    A key's cells at a lower level are a subset of its cells at a higher one.
    """
    cells = grid[0] * grid[1]
    turns = np.stack([_turns(cells, *key) for key in keys])
    return torch.from_numpy(turns < count(level, cells)).view(-1, *grid)


# A batch's levels come one after another, with its other images and draws between. Types count:
# True is another key than 1.
@lru_cache(maxsize=2048, typed=True)
def _turns(cells: int, *key: object) -> np.ndarray:
    """When each cell is dropped, from 0: int32 [cells], the order that all levels share."""
    turns = np.empty(cells, np.int32)
    turns[generator("patchdrop", *key, cells).permutation(cells)] = np.arange(cells)
    return turns


def check_maps(maps: Tensor, share: float = 0) -> None:
    """Raises ValueError for maps with negative values, NaN or infinity, a share outside 0..1."""
    if not ((maps >= 0) & (maps < math.inf)).all():
        raise ValueError("a map has no negative values nor NaN nor infinity")
    if not 0 <= share <= 1:
        raise ValueError(f"a share is 0 to 1, not per cent; got {share}")


def top_cells(saliency: Tensor, share: float) -> Tensor:
    """The smallest set of cells that holds a share of the saliency: bool, same shape.

    saliency: non-negative float [B, rows, columns]. As in the released code, cells are taken whose
    cumulated saliency in ascending order exceeds ``1 - share`` of the total.

    Raises ValueError for negative saliency, NaN, infinity, and a share outside 0..1.
    """
    check_maps(saliency, share)
    flat = saliency.flatten(1).double()
    flat = flat / flat.sum(1, keepdim=True).clamp_min(1e-12)
    ascending, order = flat.sort(dim=1, stable=True)
    chosen = ascending.cumsum(1) > 1 - share + 1e-9
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, chosen).view_as(saliency)


def object_share(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Share of each cell that the object covers: float [B, rows, columns] of masks [B, h, w]."""
    batch, height, width = masks.shape
    rows, columns = grid
    return masks.reshape(batch, rows, height // rows, columns, width // columns).mean((2, 4))


def random(
    levels: Sequence[float],
    grid: tuple[int, int],
    draws: int = 1,
    seed: int = 0,
    offset: int = 0,
    shared: bool = False,
    fill: float = 0.0,
    name: str = "random PatchDrop",
) -> list[Condition]:
    """Random PatchDrop at each level, `draws` times.

    shared: one mask for every 256 consecutive images, as the paper's released code does per batch,
        instead of one per image.
    fill: grey value of dropped cells; 0, black, is the paper's.

    Raises ValueError for a level or fill outside 0..1, a negative offset, and no draws; the
    conditions raise it for a grid that does not divide the image and an offset of a cell or more.
    """
    _check_levels(levels)
    check_draws(draws, seed)
    if offset < 0:
        raise ValueError(f"offset must not be negative, got {offset}")
    if not 0 <= fill <= 1:
        raise ValueError(f"fill {fill} is outside 0..1 (a grey value, black to white)")

    def condition(level: float, draw: int) -> Condition:
        def apply(batch: Batch) -> Tensor:
            if shared:
                places = batch.index.tolist()
                keys: list[tuple] = [(seed, draw, "batch", i // RELEASED_BATCH) for i in places]
            else:
                keys = [(seed, draw, i) for i in batch.ids]
            return drop(
                batch.pixels, random_cells(keys, grid, level).to(batch.pixels.device), offset, fill
            )

        key = f"seed {seed}, grid {grid}, offset {offset}, shared {shared}, fill {fill}"
        return Condition(name, level, apply, draw, lambda size: check_grid(grid, size, offset), key)

    return [condition(level, draw) for level in levels for draw in range(draws)]


def salient(
    levels: Sequence[float], saliency: Tensor, keep: bool = False, name: str = "salient PatchDrop"
) -> list[Condition]:
    """Drop the cells that hold the top share of a saliency map, or keep only them.

    levels: shares Q of the saliency's mass, not of the image's area.
    saliency: float [n images, rows, columns], in the image set's order.
    keep: drop the rest instead (the paper's non-salient PatchDrop).

    Raises ValueError for a level outside 0..1 and for a map with negative values, NaN or infinity.
    """
    _check_levels(levels)
    check_maps(saliency)
    grid = (int(saliency.shape[1]), int(saliency.shape[2]))

    def condition(level: float) -> Condition:
        def apply(batch: Batch) -> Tensor:
            chosen = top_cells(saliency[batch.index], level).to(batch.pixels.device)
            return drop(batch.pixels, ~chosen if keep else chosen)

        key = f"keep {keep}, map {value(saliency)}"
        return Condition(name, level, apply, 0, lambda size: check_grid(grid, size), key)

    return [condition(level) for level in levels]


def _check_levels(levels: Sequence[float]) -> None:
    for level in levels:
        if not 0 <= level <= 1:
            raise ValueError(f"level {level} is outside 0..1 (a share of the cells, not per cent)")


def check_grid(grid: tuple[int, int], size: int, offset: int = 0) -> None:
    """Raises ValueError if a grid does not divide a size x size image, with the sides that do.

    And if it is shifted by an offset of a cell or more.
    """
    if min(grid) < 1 or size % grid[0] or size % grid[1]:
        fitting = ", ".join(str(d) for d in range(2, size + 1) if size % d == 0)
        raise ValueError(
            f"a {grid[0]} x {grid[1]} grid does not divide the {size} px image; "
            f"sides that do: {fitting}"
        )
    if offset >= size // max(grid):
        raise ValueError(
            f"offset {offset} is not below the side of a cell, {size // max(grid)} px for a "
            f"{grid[0]} x {grid[1]} grid at {size} px"
        )
