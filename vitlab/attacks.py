"""Adversarial perturbations in raw pixels, [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Attacked(NamedTuple):
    """pixels: the attacked images, in [0, 1]; fooled: whether the decision changed, bool [B]."""

    pixels: Tensor
    fooled: Tensor


def deepfool(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    steps: int = 50,
    candidates: int = 10,
    overshoot: float = 0.02,
) -> Attacked:
    """L2 DeepFool: walk to the nearest linearised decision boundary until the decision changes.

    Moosavi-Dezfooli et al. 2016, with the details of foolbox's L2DeepFoolAttack, which Paul & Chen
    (2022) used: boundaries to the `candidates` best classes at the start, pixels clipped to
    [0, 1] after every step, an image is left alone once its class differs from its first one.

    pixels: float [B, 3, h, w] in [0, 1]. An image's outcome does not depend on its batch.

    Raises ValueError for steps, candidates or overshoot that make no sense.
    """
    if steps < 1 or candidates < 2 or overshoot < 0:
        raise ValueError(
            "deepfool needs steps >= 1, candidates >= 2, overshoot >= 0; "
            f"got {steps}, {candidates}, {overshoot}"
        )
    x0, x = pixels, pixels.clone()
    total = torch.zeros_like(pixels)
    with torch.no_grad():
        classes = logits(x0).argsort(dim=1, descending=True)[:, :candidates]
    active = torch.arange(len(x0), device=x0.device)
    for _ in range(steps):
        here = x[active].requires_grad_(True)
        scores = logits(here)
        ours = scores.gather(1, classes[active])
        still = scores.argmax(1) == classes[active, 0]
        if not still.any():
            break
        slopes = [
            torch.autograd.grad((ours[:, k] - ours[:, 0]).sum(), here, retain_graph=True)[0]
            for k in range(1, classes.shape[1])
        ]
        slope = torch.stack(slopes, 1)
        norm = slope.flatten(2).norm(dim=2) + 1e-8
        distance = (ours[:, 1:] - ours[:, :1]).detach().abs() / norm
        nearest = torch.arange(len(active), device=x0.device), distance.argmin(1)
        length = (distance[nearest] + 1e-4) / norm[nearest]  # 1e-4: never a step of zero
        step = length.view(-1, 1, 1, 1) * slope[nearest]
        active = active[still]
        total[active] += step[still]
        x[active] = (x0[active] + (1 + overshoot) * total[active]).clamp(0, 1)
    with torch.no_grad():
        fooled = logits(x).argmax(1) != classes[:, 0]
    return Attacked(x, fooled)
