"""Learning rates over a training, and the random streams that a seed stands for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vitlab.rng import generator


def cosine(step: int, steps: int, warm_up: float) -> float:
    """The share of the peak learning rate at a step: linear rise, then half a cosine to zero."""
    rising = max(1, int(warm_up * steps))
    fall = 0.5 * (1 + math.cos(math.pi * max(0, step - rising) / max(1, steps - rising)))
    return min((step + 1) / rising, fall)


def cosine_from_zero(step: int, steps: int, warm_up: float) -> float:
    """As `cosine`, but the first step has a rate of 0, and the warm-up may end between two."""
    fall = 0.5 * (1 + math.cos(math.pi * max(0, step / steps - warm_up) / (1 - warm_up)))
    return min(step / (warm_up * steps), fall)


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "cosine": cosine,
    "cosine from zero": cosine_from_zero,
}


class Streams(NamedTuple):
    """weights: the seed of a model -> that of torch when its weights are drawn.

    order: (seed, epoch, number of images, the epoch's generator) -> their order, long [n].
    """

    weights: Callable[[int], int]
    order: Callable[[int, int, int, torch.Generator], Tensor]


# "keyed": by what a draw is for (see `vitlab.rng`). "sequential": weights by the seed itself, the
# order of an epoch by its generator, from which the augmentations then draw, batch after batch.
STREAMS = {
    "keyed": Streams(
        lambda seed: int(generator("weights", seed).integers(2**31)),
        lambda seed, epoch, n, _: torch.from_numpy(generator("order", seed, epoch).permutation(n)),
    ),
    "sequential": Streams(
        lambda seed: seed,
        lambda seed, epoch, n, rng: torch.randperm(n, generator=rng),
    ),
}


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The generator of an epoch, on the CPU: one stream from which its batches draw in turn."""
    return torch.Generator().manual_seed(seed * 1000 + epoch)
