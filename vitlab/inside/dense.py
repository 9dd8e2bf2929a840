"""Classes for places of an image: a linear head on a frozen network's maps, as a segmenter."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vitlab.inside.tokens import prepared
from vitlab.models.model import Model

RIDGE = 1e-3  # on the head's weights, beside the mean cross entropy


class Head(NamedTuple):
    """weight: float [d, classes]; bias: float [classes]; mean, spread: of the features, [d]."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    spread: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Logits [..., classes] of features [..., d]."""
        return (features - self.mean) / self.spread @ self.weight + self.bias


@torch.inference_mode()
def maps(model: Model, pixels: Tensor, side: int) -> Tensor:
    """A frozen network's features by place: float [B, side, side, d].

    Of a ViT the last block's patch tokens, after the norm. Of a CNN, whose last map is coarse, all
    maps from `side` x `side` down, enlarged to it (hypercolumns).

    pixels: [B, 3, size, size] in [0, 1]. Raises ValueError where no map is of that size.
    """
    net: Any = model.net
    found = net.forward_intermediates(prepared(model, pixels), norm=True, intermediates_only=True)
    usable = [one.float() for one in found if one.shape[-1] <= side]
    if not usable or max(one.shape[-1] for one in usable) != side:
        sides = ", ".join(str(one.shape[-1]) for one in found)
        raise ValueError(f"{model.name} has no map of {side} x {side} places; sides: {sides}")
    if len({one.shape[-1] for one in usable}) == 1:
        usable = usable[-1:]
    size = (side, side)
    alike = [F.interpolate(one, size, mode="bilinear", align_corners=False) for one in usable]
    return torch.cat(alike, 1).permute(0, 2, 3, 1).cpu()


def fit(features: Tensor, labels: Tensor, classes: int, ridge: float = RIDGE) -> Head:
    """The softmax regression of labels, long [n], on standardised features, float [n, d].

    It minimises the mean cross entropy plus `ridge` times the sum of squared weights, which has one
    minimum; found by L-BFGS. Raises ValueError for labels outside 0..classes - 1.
    """
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels are 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
    x = (features - mean) / spread
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        found = F.cross_entropy(x @ weight + bias, labels) + ridge * weight.square().sum()
        found.backward()
        return found

    solver.step(loss)
    return Head(weight.detach(), bias.detach(), mean, spread)


def enlarged(logits: Tensor, size: int) -> Tensor:
    """Logits by place, [B, side, side, classes], at every pixel: [B, size, size, classes]."""
    by_class = logits.permute(0, 3, 1, 2)
    large = F.interpolate(by_class, (size, size), mode="bilinear", align_corners=False)
    return large.permute(0, 2, 3, 1)
