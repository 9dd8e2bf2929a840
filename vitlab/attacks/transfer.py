"""Attacks on one model whose images are then tried on others (Naseer et al. 2022).

What is climbed is the cross-entropy summed over a network's heads: one for the usual attack, one
per block for a self-ensemble (see `vitlab.inside.refinement`). As in the paper's released code no
attack starts at random, and all steps are taken.

pixels: float [B, 3, h, w] in [0, 1]; labels: long [B]. radius: of the L-infinity ball, in units of
pixels in [0, 1], e.g. 16 / 255. heads: pixels -> scores of one or more heads, each [B, classes].
All attacks return the attacked images, in the ball and in [0, 1]; an image's outcome does not
depend on its batch. All raise ValueError as `vitlab.attacks.gradient` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from vitlab.attacks.gradient import scored
from vitlab.conditions.condition import check_pixels
from vitlab.rng import generator

Heads = Callable[[Tensor], Sequence[Tensor]]


def fgsm(heads: Heads, pixels: Tensor, labels: Tensor, radius: float) -> Tensor:
    """Fast gradient sign method (Goodfellow et al. 2015): one step of `radius`."""
    return climb(heads, pixels, labels, radius, 1, radius)


def pgd(heads: Heads, pixels: Tensor, labels: Tensor, radius: float, steps: int = 10) -> Tensor:
    """Projected gradient descent (Madry et al. 2018) from the image, in steps of `radius` / 8.

    The released step is 2/255 for a radius of 16/255.
    """
    return climb(heads, pixels, labels, radius, steps, radius / 8)


def mim(heads: Heads, pixels: Tensor, labels: Tensor, radius: float, steps: int = 10) -> Tensor:
    """Momentum iterative method (Dong et al. 2018): decay 1, steps of `radius` / `steps`."""
    return climb(heads, pixels, labels, radius, steps, radius / steps, momentum=1.0)


def dim(
    heads: Heads,
    pixels: Tensor,
    labels: Tensor,
    radius: float,
    ids: Sequence[str],
    steps: int = 10,
    seed: int = 0,
) -> Tensor:
    """Diverse inputs (Xie et al. 2019): `mim`, where each step sees images `resized_and_padded`."""
    view = partial(resized_and_padded, ids=ids, seed=seed)
    size = radius / steps
    return climb(heads, pixels, labels, radius, steps, size, momentum=1.0, view=view)


def loss(heads: Heads, pixels: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each image, summed over heads: float [B]."""
    total = torch.zeros(len(pixels), device=pixels.device)
    for given in heads(pixels):
        answers = scored(lambda _: given, pixels, labels)  # noqa: B023, it is asked at once
        total = total + cross_entropy(answers, labels, reduction="none")
    return total


def climb(
    heads: Heads,
    pixels: Tensor,
    labels: Tensor,
    radius: float,
    steps: int,
    step_size: float,
    momentum: float = 0.0,
    view: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Steps up the loss, each `step_size` times the sign of a running sum of gradients.

    Each image's gradient is divided by its mean absolute value before it is added to `momentum`
    times the sum so far. view: what the network is shown at a step, (pixels, step=k) -> pixels.
    """
    if not (0 <= radius <= 1 and steps >= 1 and 0 <= step_size <= 1):
        raise ValueError(
            "an attack needs a radius and steps' size in 0..1 (16 / 255 is 16 of 255 grey levels) "
            f"and steps >= 1; got {radius}, {step_size}, {steps}"
        )
    low, high = (check_pixels(pixels) - radius).clamp_min(0), (pixels + radius).clamp_max(1)
    x, total = pixels.detach(), torch.zeros_like(pixels)
    for step in range(steps):
        here = x.clone().requires_grad_(True)
        seen = here if view is None else view(here, step=step)
        # Of the sum, not the mean: an image's gradient must not depend on how many there are.
        slope = torch.autograd.grad(loss(heads, seen, labels).sum(), here)[0]
        size = slope.abs().mean((1, 2, 3), keepdim=True)
        total = momentum * total + slope / size.clamp_min(torch.finfo(size.dtype).tiny)
        x = torch.minimum(torch.maximum(x + step_size * total.sign(), low), high)
    return x


def resized_and_padded(pixels: Tensor, ids: Sequence[str], step: int = 0, seed: int = 0) -> Tensor:
    """Each image a little larger, somewhere on a black square, and that at the image's own size.

    On 224 px as released: resized to a side drawn from 224 to 256, padded with zeros to 256 at a
    place drawn uniformly, and resized back, always by the nearest pixel; other sizes in proportion.
    What is drawn depends on an image's id, the step and the seed alone. Differentiable.

    pixels: float [B, 3, size, size]; ids: the images' ids.

    Raises ValueError for images that are not square, and for other than an id each.
    """
    size = pixels.shape[-1]
    if pixels.shape[-2] != size or len(ids) != len(pixels):
        raise ValueError(f"square images and an id each: got {[*pixels.shape]} and {len(ids)} ids")
    largest = round(size * 256 / 224)
    shown = torch.arange(size) * largest // size  # of the padded square, the pixels that are kept
    rows: list[Tensor] = []
    columns: list[Tensor] = []
    for image_id in ids:
        draw = generator("resize and pad", seed, step, image_id)
        side = int(draw.integers(size, largest + 1))
        starts = draw.integers(largest - side + 1, size=2)
        for places, start in zip((rows, columns), starts, strict=True):
            at = shown - int(start)
            inside = (at >= 0) & (at < side)
            places.append(torch.where(inside, at * size // side, -1))
    row, column = (torch.stack(places).to(pixels.device) for places in (rows, columns))
    batch = torch.arange(len(ids), device=pixels.device)[:, None, None]
    # [B, size, size, 3]: indices apart from each other come first.
    found = pixels[batch, :, row.clamp_min(0)[:, :, None], column.clamp_min(0)[:, None]]
    inside = (row >= 0)[:, :, None] & (column >= 0)[:, None]
    return (found * inside[..., None]).permute(0, 3, 1, 2)
