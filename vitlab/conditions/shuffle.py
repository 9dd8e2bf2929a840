"""Patch shuffling: permute the cells of a grid laid over the image (Naseer et al. 2021, 3.4).

The content of each cell is kept, its place is lost. With cells of a ViT's patch size, its patches
are the same as before, in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitlab.conditions.condition import Batch, Condition, check_draws
from vitlab.conditions.patchdrop import RELEASED_BATCH, check_grid
from vitlab.rng import generator


def shuffle(pixels: Tensor, permutations: Tensor, grid: tuple[int, int]) -> Tensor:
    """Permute the cells of each image.

    pixels: float [B, 3, h, w]; permutations: long [B, rows * columns], for each place of the grid,
    row by row, the cell that is shown there; grid: (rows, columns), which divide h and w.
    """
    batch, channels, height, width = pixels.shape
    rows, columns = grid
    h, w = height // rows, width // columns
    cells = pixels.view(batch, channels, rows, h, columns, w).permute(0, 2, 4, 1, 3, 5)
    cells = cells.reshape(batch, rows * columns, channels, h, w)
    shown = cells[torch.arange(batch, device=pixels.device)[:, None], permutations]
    shown = shown.view(batch, rows, columns, channels, h, w).permute(0, 3, 1, 4, 2, 5)
    return shown.reshape(pixels.shape)


def random(
    grids: Sequence[tuple[int, int]],
    draws: int = 1,
    seed: int = 0,
    shared: bool = False,
    name: str = "shuffle",
) -> list[Condition]:
    """Uniformly random permutations of each grid's cells, `draws` times.

    grids: (rows, columns); a condition's level is its number of cells. One by one changes nothing.
    shared: one permutation for every 256 consecutive images, as the paper's released code does per
        batch, instead of one per image.

    Raises ValueError for a side below 1 and no draws; the conditions raise it for a grid that does
    not divide the image.
    """
    check_draws(draws, seed)
    for grid in grids:
        if min(grid) < 1:
            raise ValueError(f"a grid needs at least one row and column, got {grid}")

    def condition(grid: tuple[int, int], draw: int) -> Condition:
        cells = grid[0] * grid[1]

        def apply(batch: Batch) -> Tensor:
            if shared:
                places = batch.index.tolist()
                keys: list[tuple] = [("batch", i // RELEASED_BATCH) for i in places]
            else:
                keys = [(i,) for i in batch.ids]
            permutations = np.stack(
                [generator("shuffle", seed, draw, *key, *grid).permutation(cells) for key in keys]
            )
            return shuffle(
                batch.pixels, torch.from_numpy(permutations).to(batch.pixels.device), grid
            )

        key = f"seed {seed}, grid {grid}, shared {shared}"
        return Condition(name, cells, apply, draw, lambda size: check_grid(grid, size), key)

    return [condition(grid, draw) for grid in grids for draw in range(draws)]
