"""Attacks on pixels, Fourier phase or Fourier magnitude (Kim & Lee 2022), at a price for quality.

An image's unknowns (an added pixel, an added phase, a factor of the magnitude, one for each place)
follow Adam down ``weight * MSE(attacked, image) - cross-entropy``. A spectrum stays that of a real
image, and a mask of frequencies, a band, can confine the attack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from vitlab.attacks.gradient import scored
from vitlab.conditions.condition import check_pixels
from vitlab.files import nearest

MODES = ("pixel", "phase", "mag")


def radius(size: int) -> Tensor:
    """Distance of each frequency from 0, 1 at half the sampling rate: float [size, size].

    As `torch.fft.fft2` orders them: [0, 0] is frequency 0; corners of the spectrum reach sqrt(2).
    """
    axis = torch.fft.fftfreq(size) * 2
    return torch.hypot(axis[:, None], axis[None])


def band(size: int, cut: float, low: bool) -> Tensor:
    """Which frequencies are in the low band, radius <= cut, or in the high one: bool [size, size].

    cut: in units of half the sampling rate; the paper's helper has 0.4. Raises ValueError outside
    0..sqrt(2).
    """
    if not 0 <= cut <= 2**0.5:
        raise ValueError(f"a band is cut at a radius from 0 to 1.41, e.g. 0.4; got {cut}")
    inside = radius(size) <= cut
    return inside if low else ~inside


def mirrored(spectrum: Tensor) -> Tensor:
    """What stands at each frequency's conjugate: [..., h, w], entry (u, v) is that of (-u, -v)."""
    return spectrum.flip(-2, -1).roll((1, 1), (-2, -1))


def edited(pixels: Tensor, mode: str, by: Tensor, where: Tensor | float = 1.0) -> Tensor:
    """Images with their pixels, phases or magnitudes edited, clipped to [0, 1].

    pixels: float [B, 3, h, w]. by: of their shape; what is added to pixels or phases (radians) or,
    plus 1, what magnitudes are multiplied with. Conjugate frequencies of a real image have equal
    magnitudes and opposite phases; where `by` would break that, the mean of the two counts.
    where: bool [h, w], the band; the rest of the spectrum stays. Pixels have no band.
    """
    if mode == "pixel":
        return (pixels + by).clamp(0, 1)
    half = pixels.shape[-1] // 2 + 1  # the other half is the mirror image
    spectrum = torch.fft.rfft2(pixels)
    if mode == "phase":
        turn = 0.5 * where * (by - mirrored(by))
        changed = spectrum * torch.exp(1j * turn[..., :half])
    else:
        factor = 1 + 0.5 * where * (by + mirrored(by))
        changed = spectrum * factor[..., :half].clamp_min(0)
    return torch.fft.irfft2(changed, s=pixels.shape[-2:]).clamp(0, 1)


def first_step(pixels: Tensor, mode: str, decibels: float, where: Tensor | float = 1.0) -> Tensor:
    """The step that, taken by all unknowns at once, leaves an image at some PSNR: [B, 1, 1, 1].

    By Parseval's theorem, to first order and before clipping. With it attacks on parts of the
    spectrum that hold much or little energy go through the same qualities in as many steps.
    """
    change = torch.full_like(pixels[:, :1, :1, :1], 10 ** (-decibels / 20))
    if mode == "pixel":
        return change
    size = torch.fft.fft2(pixels, norm="forward").abs() * where
    if mode == "phase":  # those of frequencies that are their own conjugates stay
        own = torch.arange(pixels.shape[-1], device=pixels.device) * 2 % pixels.shape[-1] == 0
        size = size.masked_fill(own[:, None] & own[None], 0)
    power = size.square().sum((-2, -1), keepdim=True).mean(1, keepdim=True)
    return change / power.sqrt().clamp_min(1e-6)


def psnr(shown: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of pixels in [0, 1], decibels: [B, ...] -> [B]; inf if equal."""
    return -10 * (shown - clean).square().flatten(1).mean(1).log10()


class Path(NamedTuple):
    """An attack step by step; row 0 is the image, row k what step k led to.

    right: whether the decision is the label, bool [steps + 1, B]; psnr: quality in decibels, float
    [steps + 1, B], infinite where nothing has changed; pixels: the last of them, [B, 3, h, w].

    The paper's scores: fooled if ``~right.all(0)``, at the quality ``psnr[-1]``.
    """

    right: Tensor
    psnr: Tensor
    pixels: Tensor

    def right_at(self, decibels: float) -> Tensor:
        """Whether nothing of at least this quality was decided wrongly: bool [B]."""
        return (self.right | (self.psnr < decibels)).all(0)

    def reached(self, decibels: float) -> Tensor:
        """Whether it was fooled or the attack went below this quality: bool [B]."""
        return (self.psnr < decibels).any(0) | ~self.right.all(0)


def attack(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    mode: str,
    weight: float = 5e4,
    steps: int = 1000,
    step: Tensor | float = 5e-3,
    where: Tensor | float = 1.0,
    decay: float = 5e-6,
    until_fooled: bool = False,
    lowest: float = -torch.inf,
) -> Path:
    """Adam on an image's pixels, phases or magnitudes; defaults are those of the paper's code.

    Losses are summed over images and Adam works unknown by unknown, so an image's outcome does not
    depend on its batch.

    pixels: float [B, 3, h, w] in [0, 1], square for a band; labels: long [B]; mode: of `MODES`.
    weight: of the mean squared error, the paper's lambda. step: Adam's learning rate, a number or
    one per image [B, 1, 1, 1], as `first_step` gives it. where: the band, see `edited`. decay:
    weight decay, of what is added to pixels and phases and of the factor less 1.
    until_fooled: leave an image as it is once its decision is not its label; its later rows repeat.
    lowest: leave it once its quality is below this, decibels, too.

    Raises ValueError as attacks on gradients do, for an unknown mode, for a band of pixels, and for
    less than one step.
    """
    check_pixels(pixels)
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}{nearest(mode, MODES)}; have {', '.join(MODES)}")
    if mode == "pixel" and isinstance(where, Tensor):
        raise ValueError("a band confines attacks on phase or magnitude, not on pixels")
    if steps < 1 or weight < 0:
        raise ValueError(f"an attack needs steps >= 1 and weight >= 0, got {steps} and {weight}")
    where = where.to(pixels.device) if isinstance(where, Tensor) else where
    step = torch.as_tensor(step).to(pixels).expand(len(pixels), 1, 1, 1)
    by, mean, square = (torch.zeros_like(pixels) for _ in range(3))
    shown, active = pixels.clone(), torch.arange(len(pixels), device=pixels.device)
    right = torch.ones(steps + 1, len(pixels), dtype=torch.bool, device=pixels.device)
    quality = torch.full(right.shape, torch.inf, device=pixels.device)
    for k in range(steps + 1):
        if not len(active):
            break
        free = by[active].requires_grad_(k < steps)
        clean, truth = pixels[active], labels[active]
        x = edited(clean, mode, free, where)
        scores = scored(logits, x, truth)
        shown[active] = x.detach()
        right[k:, active] = scores.argmax(1) == truth
        quality[k:, active] = psnr(x.detach(), clean) if k else torch.inf  # but for rounding
        if k == steps:
            break
        loss = weight * (x - clean).square().flatten(1).mean(1).sum()
        loss = loss - cross_entropy(scores, truth, reduction="sum")
        slope = torch.autograd.grad(loss, free)[0] + decay * free.detach()
        mean[active] = 0.9 * mean[active] + 0.1 * slope
        square[active] = 0.999 * square[active] + 0.001 * slope.square()
        size = (square[active] / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8
        by[active] -= step[active] * mean[active] / (1 - 0.9 ** (k + 1)) / size
        done = quality[k, active] < lowest
        active = active[~(done | ~right[k, active]) if until_fooled else ~done]
    return Path(right, quality, shown)


def sweep(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    mode: str,
    weights: Sequence[float],
    **how: Any,
) -> Path:
    """`attack` with a weight of the squared error after the other, the largest first, until fooled.

    Each begins at the image again; an image that was fooled is not attacked with a smaller weight.
    The paths stand one behind the other: right and psnr [weights * (steps + 1), B]. how: further
    arguments of `attack`; step and steps, ... are the same for all.

    Raises ValueError for no weights, and as `attack` does.
    """
    if not len(weights):
        raise ValueError("a sweep needs at least one weight, e.g. 5e4")
    step = torch.as_tensor(how.pop("step", 5e-3)).to(pixels).expand(len(pixels), 1, 1, 1)
    paths, shown = [], pixels.clone()
    left = torch.arange(len(pixels), device=pixels.device)
    for weight in sorted(weights, reverse=True):
        some = logits, pixels[left], labels[left], mode, weight
        path = attack(*some, step=step[left], until_fooled=True, **how)
        right, quality = (x.new_zeros(len(x), len(pixels)) for x in (path.right, path.psnr))
        right[:], quality[:] = True, torch.inf
        right[:, left], quality[:, left], shown[left] = path
        paths.append((right, quality))
        left = left[path.right.all(0)]
    right, quality = (torch.cat(rows) for rows in zip(*paths, strict=True))
    return Path(right, quality, shown)
