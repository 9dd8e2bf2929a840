"""The ten perturbation sequences of ImageNet-P (Hendrycks & Dietterich 2019), at difficulty 1.

A sequence is an image under a perturbation that changes a little from frame to frame. Ranges and
strengths are those of the released code (github.com/hendrycks/robustness, ``ImageNet-P/create_p``);
noise and snow have weaker settings for 64 px there, used here up to that size; images of 32 px and
less get CIFAR-10-P's (``make_cifar_p.py``). Where it differs:

- The released frames are stored as video. Here they are rounded to 8 bits and not compressed.
- At 224 px the released code moves, turns and tilts an image of 256 px and crops it after that, so
  a little of the photograph comes in from outside. Here, as in the released code for 64 px, the
  image a model sees is moved itself, and what comes in is black.
- Translation and motion blur have 31 frames at every size (there translation has 41 at 224 px and
  16 at 32, motion blur 21 at 32).
- Motion blur has one setting above 32 px, that of 224: the code for 64 px blurs before it shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as geometry

from vitlab.conditions.condition import Batch
from vitlab.files import nearest
from vitlab.rng import generator

FRAMES = 31
# These begin with the image as it is. Noise is drawn anew in every frame, so a frame is compared
# with the first one; frames of all other sequences with the one before.
NOISES = ("gaussian_noise", "shot_noise")
SMALL, TINY = 64, 32  # pixels, up to which the weaker settings hold, and those of CIFAR-10-P
_LUMA = (0.299, 0.587, 0.114)


def sequence(
    batch: Batch, name: str, frames: int = FRAMES, seed: int = 0, start: int | None = None
) -> Tensor:
    """The frames of each image under a perturbation: float [B, frames, 3, h, w], in 256ths.

    frames, start: how many consecutive ones of the 31, from which on. If None, from the image
        itself where the sequence begins there (noise, zoom blur), else those in the middle.
    Random choices depend on name, seed and image id alone.

    Raises ValueError for an unknown name and for frames that the sequence does not have.
    """
    if name not in _MADE:
        raise ValueError(f"unknown perturbation {name!r}{nearest(name, NAMES)}")
    if start is None:
        start = 0 if name in (*NOISES, "zoom_blur") else max(0, (FRAMES - frames) // 2)
    if frames < 2 or start < 0 or start + frames > FRAMES:
        raise ValueError(
            f"a sequence has 2 to {FRAMES} frames, 0 to {FRAMES - 1}; got {frames} from {start} on"
        )
    shown = _MADE[name](batch, range(start, start + frames), seed)
    return (shown.clamp(0, 1) * 255).round() / 255


def _random(
    batch: Batch, name: str, seed: int, draw: Callable[[np.random.Generator, int], np.ndarray]
) -> Tensor:
    """What `draw` takes from each image's own random numbers, stacked on the batch's device."""
    drawn = [draw(generator("sequence", name, seed, i), k) for k, i in enumerate(batch.ids)]
    return torch.from_numpy(np.stack(drawn)).to(batch.pixels)


def _by_size(batch: Batch, tiny: Any, small: Any, large: Any) -> Any:
    """The setting of a perturbation for images of a size."""
    side = batch.pixels.shape[-1]
    return tiny if side <= TINY else small if side <= SMALL else large


def _noisy(batch: Batch, places: Sequence[int], noisy: Tensor) -> Tensor:
    """Frame 0 is the image, frame i the i-th of the noisy ones."""
    frames = torch.cat([batch.pixels[:, None], noisy], 1)
    return frames[:, list(places)]


def _gaussian_noise(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    scale = _by_size(batch, 0.02, 0.025, 0.03)
    shape = (places[-1], *batch.pixels.shape[1:])
    normal = _random(batch, "gaussian_noise", seed, lambda rng, _: rng.standard_normal(shape, "f4"))
    return _noisy(batch, places, batch.pixels[:, None] + scale * normal)


def _shot_noise(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    photons = _by_size(batch, 700, 500, 300)
    light = batch.pixels.cpu().double().clamp(0, 1).numpy() * photons
    shape = (places[-1], *batch.pixels.shape[1:])
    counts = _random(batch, "shot_noise", seed, lambda rng, k: rng.poisson(light[k], shape))
    return _noisy(batch, places, counts / photons)


def motion_blur(pixels: Tensor, radius: int, sigma: float, angle: float) -> Tensor:
    """Half a Gaussian along a line, as ImageMagick blurs motion: float [B, c, h, w] to the same.

    The line starts at each pixel and is 2 * radius + 1 whole pixels long; angle: in degrees. Beyond
    the border the outermost pixels go on.
    """
    falling = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights = falling / falling.sum()
    turn, reach = math.radians(angle), 2 * radius
    height, width = pixels.shape[-2:]
    wide = F.pad(pixels, (reach, reach, reach, reach), mode="replicate")
    blurred = torch.zeros_like(pixels)
    for i, weight in enumerate(weights.tolist()):
        # Rounded first, or a tie (at 30 and 60 degrees) would go either way with the machine.
        y = reach + math.ceil(round(i * math.sin(turn), 9) - 0.5)
        x = reach + math.ceil(round(i * math.cos(turn), 9) - 0.5)
        blurred += weight * wide[..., y : y + height, x : x + width]
    return blurred


def _motion_blur(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    radius, sigma, step = _by_size(batch, (6, 1.8, 9), (10, 3, 4), (10, 3, 4))
    blurred = [motion_blur(batch.pixels, radius, sigma, step * (i - 30)) for i in places]
    return torch.stack(blurred, 1)


def _affine(
    pixels: Tensor, angle: float = 0, shift: int = 0, scale: float = 1, exact: bool = False
) -> Tensor:
    """Turn (degrees, clockwise), move right (whole pixels) or scale about the centre, on black."""
    kind = geometry.InterpolationMode.NEAREST if exact else geometry.InterpolationMode.BILINEAR
    return geometry.affine(pixels, angle, [shift, 0], scale, [0.0], kind, fill=[0.0])


def _zoom_blur(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    zoomed = [_affine(batch.pixels, scale=1 + 0.004 * i) for i in range(places[-1] + 1)]
    means = [batch.pixels]  # frame i is the mean of the zooms 0 to i
    for i, picture in enumerate(zoomed[1:], 1):
        means.append((means[-1] * i + picture) / (i + 1))
    return torch.stack([means[i] for i in places], 1)


def _brightness(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    value = batch.pixels.amax(1, keepdim=True)  # of HSV; hue and saturation are kept
    step = _by_size(batch, 0.015, 0.02, 0.02)
    frames = []
    for i in places:
        lit = (value + (i - 15) * step).clamp(0, 1)
        scaled = batch.pixels * lit / value.clamp_min(1e-6)
        frames.append(torch.where(value > 0, scaled, lit))
    return torch.stack(frames, 1)


def _translate(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    return torch.stack([_affine(batch.pixels, shift=i - 15, exact=True) for i in places], 1)


def _rotate(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    return torch.stack([_affine(batch.pixels, angle=i - 15) for i in places], 1)


def _scale(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    start, step = _by_size(batch, (0.7, 0.02), (0.4, 0.025), (0.4, 0.025))
    return torch.stack([_affine(batch.pixels, scale=start + step * i) for i in places], 1)


def _tilt(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    height, width = batch.pixels.shape[-2:]
    corners = [[0, 0], [width, 0], [width, height], [0, height]]
    degrees = _by_size(batch, 0.75, 1, 1)
    frames = []
    for i in places:
        tilted = [_tilted(x, y, degrees * (i - 15), width, height) for x, y in corners]
        frames.append(geometry.perspective(batch.pixels, corners, tilted, fill=[0.0]))
    return torch.stack(frames, 1)


def _tilted(x: float, y: float, degrees: float, width: int, height: int) -> list[float]:
    """Where a point of the image is seen once its plane was turned about both of its axes.

    The camera stands a diagonal away from the plane, and its focal length is a diagonal too.
    """
    turn, focal = math.radians(degrees), math.hypot(width, height)
    cos, sin = math.cos(turn), math.sin(turn)
    # The released matrices begin with depth 1, not 0: the plane is one pixel behind its axes.
    right, down, depth = x - width / 2, y - height / 2, 1.0
    right, depth = right * cos - depth * sin, right * sin + depth * cos
    down, depth = down * cos - depth * sin, down * sin + depth * cos
    seen = focal / (depth + focal)
    return [seen * right + width / 2, seen * down + height / 2]


def _snow(batch: Batch, places: Sequence[int], seed: int) -> Tensor:
    settings = (0.3, 2, 10, 2), (0.28, 2, 10, 2.5), (0.3, 3, 14, 4)
    scale, zoom, radius, sigma = _by_size(batch, *settings)
    height, width = batch.pixels.shape[-2:]
    shape = (1, height, width)
    flakes = 0.05 + scale * _random(batch, "snow", seed, lambda rng, _: rng.normal(size=shape))
    # Only the middle of the noise is shown, larger.
    rows, columns = math.ceil(height / zoom), math.ceil(width / zoom)
    top, left = (height - rows) // 2, (width - columns) // 2
    flakes = flakes[..., top : top + rows, left : left + columns]
    large = [rows * zoom, columns * zoom]
    flakes = F.interpolate(flakes, large, mode="bilinear", align_corners=True)
    top, left = (large[0] - height) // 2, (large[1] - width) // 2
    flakes = flakes[..., top : top + height, left : left + width]
    flakes = torch.where(flakes < 0.5, 0, flakes).clamp(0, 1)
    grey = (batch.pixels * batch.pixels.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    pale = 0.85 * batch.pixels + 0.15 * torch.maximum(batch.pixels, 1.5 * grey + 0.5)
    frames = []
    for i in places:
        falling = motion_blur(flakes, radius, sigma, 4 * i - 150)
        frames.append(pale + falling + falling.rot90(2, (-2, -1)))
    return torch.stack(frames, 1)


_MADE: dict[str, Callable[[Batch, Sequence[int], int], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "brightness": _brightness,
    "translate": _translate,
    "rotate": _rotate,
    "tilt": _tilt,
    "scale": _scale,
}
NAMES = tuple(_MADE)
