"""Adversarial perturbations of raw pixels in [0, 1].

All raise ValueError for pixels outside it or of another shape, for labels that are not one class of
the model's for each image, and where the model returns NaN or infinity: no image fools it then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from vitlab.conditions.condition import check_pixels
from vitlab.rng import generator


class Attacked(NamedTuple):
    """pixels: the attacked images, in [0, 1]; fooled: whether the attack met its goal, bool [B].

    DeepFool's goal is another decision than the first; FGSM's and PGD's one that is not the label.
    """

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

    Raises ValueError for steps, candidates or overshoot out of range.
    """
    if steps < 1 or candidates < 2 or overshoot < 0:
        raise ValueError(
            "deepfool needs steps >= 1, candidates >= 2, overshoot >= 0; "
            f"got {steps}, {candidates}, {overshoot}"
        )
    x0, x = check_pixels(pixels), pixels.clone()
    total = torch.zeros_like(pixels)
    with torch.no_grad():
        classes = scored(logits, x0).argsort(dim=1, descending=True)[:, :candidates]
    active = torch.arange(len(x0), device=x0.device)
    for _ in range(steps):
        here = x[active].requires_grad_(True)
        scores = scored(logits, here)
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
        fooled = scored(logits, x).argmax(1) != classes[:, 0]
    return Attacked(x, fooled)


def scored(
    logits: Callable[[Tensor], Tensor], pixels: Tensor, labels: Tensor | None = None
) -> Tensor:
    """The model's scores of pixels, float [B, classes], found to be numbers over the labels.

    Raises ValueError as the attacks do.
    """
    scores = logits(pixels)
    if scores.ndim != 2 or len(scores) != len(pixels):
        raise ValueError(f"{len(pixels)} images have scores {[*scores.shape]}, not one row each")
    if labels is not None:
        _check_labels(labels, len(pixels))
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
            ends = f"{int(labels.min())} to {int(labels.max())}"
            raise ValueError(f"labels go from {ends}, the model has {scores.shape[1]} classes")
    if not scores.detach().amax(1).isfinite().all():  # -inf, a class left out, may stand in a row
        raise ValueError("the model returned NaN or infinity")
    return scores


def _check_labels(labels: Tensor, count: int) -> None:
    if labels.dtype != torch.long or labels.shape != (count,):
        kind = f"{labels.dtype} {[*labels.shape]}"
        raise ValueError(f"{count} images need as many labels, torch.int64; got {kind}")


class Slope(NamedTuple):
    """The loss at each image.

    loss: cross-entropy, float [B]; right: whether the decision is the label, bool [B]; gradient: of
    the loss in the pixels, float [B, 3, h, w].
    """

    loss: Tensor
    right: Tensor
    gradient: Tensor


def slope(logits: Callable[[Tensor], Tensor], pixels: Tensor, labels: Tensor) -> Slope:
    """The cross-entropy at each image, and its gradient in the pixels: what attacks climb.

    pixels: float [B, 3, h, w] in [0, 1]; labels: long [B].
    """
    here = check_pixels(pixels).detach().clone().requires_grad_(True)
    scores = scored(logits, here, labels)
    loss = cross_entropy(scores, labels, reduction="none")
    # Of the sum, not the mean: an image's gradient must not depend on how many there are.
    gradient = torch.autograd.grad(loss.sum(), here)[0]
    return Slope(loss.detach(), scores.argmax(1) == labels, gradient)


def fgsm(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    radius: float,
    at: Slope | None = None,
) -> Attacked:
    """Fast gradient sign method: one step of length `radius` up the cross-entropy, per pixel.

    Goodfellow et al. 2015; what `pgd` does in one step of that size. Arguments and errors as there.
    at: `slope` of these images, if it is known already; one serves all radii.
    """
    _check(pixels, radius, 1, radius)
    at = at or slope(logits, pixels, labels)
    x = (pixels + radius * at.gradient.sign()).clamp(0, 1)
    with torch.no_grad():
        fooled = scored(logits, x, labels).argmax(1) != labels
    return Attacked(x, fooled)


def pgd(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    radius: float,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
    until_fooled: bool = False,
) -> Attacked:
    """Projected gradient descent in the L-infinity ball (Madry et al. 2018), untargeted.

    Each step adds `step_size` times the sign of the cross-entropy's gradient, then comes back to
    within `radius` of the image and to [0, 1]. An image's outcome does not depend on its batch.

    pixels: float [B, 3, h, w] in [0, 1]; labels: long [B]; radius, step_size: in units of pixels in
    [0, 1], e.g. 4 / 255.
    start: where to start, within the ball, e.g. from `random_start`; the images themselves if None.
    until_fooled: leave an image alone once its decision is not its label: faster, and counts an
        image that is wrong at any step. Without it all steps are taken, as in most libraries.

    Raises ValueError for a radius or step size outside 0..1, or less than one step.
    """
    _check(pixels, radius, steps, step_size)
    _check_labels(labels, len(pixels))
    x = (pixels if start is None else _start(start, pixels)).clone()
    low, high = _ball(pixels, radius)
    active = torch.arange(len(x), device=x.device)
    for _ in range(steps):
        here = x[active].requires_grad_(True)
        scores = scored(logits, here, labels[active])
        still = scores.argmax(1) == labels[active]
        if until_fooled and not still.any():
            break
        # The sum, not the mean: an image's gradient must not depend on how many there are.
        loss = cross_entropy(scores, labels[active], reduction="sum")
        moved = here.detach() + step_size * torch.autograd.grad(loss, here)[0].sign()
        if until_fooled:
            active, moved = active[still], moved[still]
        x[active] = torch.minimum(torch.maximum(moved, low[active]), high[active])
    with torch.no_grad():
        fooled = scored(logits, x, labels).argmax(1) != labels
    return Attacked(x, fooled)


class Path(NamedTuple):
    """An attack step by step; row 0 is the start, row k what step k led to.

    loss: cross-entropy, float [steps + 1, B]; right: whether the decision is the label, bool
    [steps + 1, B]; pixels: the images after the last step, in [0, 1].
    """

    loss: Tensor
    right: Tensor
    pixels: Tensor


def pgd_path(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    radius: float,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
) -> Path:
    """The loss and the decision at every step of `pgd`, which takes all its steps.

    Paul & Chen (2022) compare models by such losses. With ``until_fooled=True`` `pgd` follows the
    same path and leaves it at the first wrong decision: its `fooled` is ``~path.right.all(0)``.
    Arguments and errors as in `pgd`.
    """
    _check(pixels, radius, steps, step_size)
    x = pixels if start is None else _start(start, pixels)
    low, high = _ball(pixels, radius)
    losses, rights = [], []
    for _ in range(steps):
        at = slope(logits, x, labels)
        losses.append(at.loss)
        rights.append(at.right)
        x = torch.minimum(torch.maximum(x + step_size * at.gradient.sign(), low), high)
    with torch.no_grad():
        scores = scored(logits, x, labels)
    losses.append(cross_entropy(scores, labels, reduction="none"))
    rights.append(scores.argmax(1) == labels)
    return Path(torch.stack(losses), torch.stack(rights), x)


def _check(pixels: Tensor, radius: float, steps: int, step_size: float) -> None:
    check_pixels(pixels)
    if not (0 <= radius <= 1 and steps >= 1 and 0 <= step_size <= 1):
        raise ValueError(
            "an attack needs radius >= 0, steps >= 1, step_size >= 0, and neither length above 1 "
            f"(4 / 255 is 4 of 255 grey levels); got {radius}, {steps}, {step_size}"
        )


def _start(start: Tensor, pixels: Tensor) -> Tensor:
    if start.shape != pixels.shape:
        raise ValueError(f"the start is {[*start.shape]}, the images are {[*pixels.shape]}")
    return check_pixels(start)


def _ball(pixels: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest pixels within `radius` of the image and within [0, 1]."""
    return (pixels - radius).clamp_min(0), (pixels + radius).clamp_max(1)


def random_start(pixels: Tensor, ids: Sequence[str], radius: float, seed: int = 0) -> Tensor:
    """A point drawn uniformly from each image's L-infinity ball, clipped to [0, 1].

    ids: the images' ids; an image's point depends on its id, the seed and its shape alone.

    Raises ValueError for other than one id each and for pixels outside [0, 1].
    """
    if len(ids) != len(check_pixels(pixels)):
        raise ValueError(f"{len(pixels)} images have {len(ids)} ids")
    drawn = [
        generator("attack start", seed, image_id).uniform(-1, 1, tuple(pixels.shape[1:]))
        for image_id in ids
    ]
    return (pixels + radius * torch.from_numpy(np.stack(drawn)).to(pixels)).clamp(0, 1)
