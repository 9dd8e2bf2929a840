"""A simple cue above a complex one: a drawn 0 or 1 over a picture (Pinto et al. 2022, figure 1).

The canvas is square, each cue fills a half of it. In the paper the digit is MNIST's; this one is a
stroke of random place, size, slant and width, of which every pixel is known.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from vitlab.rng import generator

SIZE = 64  # pixels, of the canvas
_SUPERSAMPLE = 4  # strokes are drawn larger and averaged down, which smooths their edges


def digit(which: int, *key: object) -> np.ndarray:
    """Share of each pixel of the upper half that a digit's stroke covers.

    Returns float32 [32, 64] in [0, 1].

    which: 0 or 1. key: of its random numbers (see `vitlab.rng.generator`); both digits of a key
        have the same pose. Raises ValueError for another digit.
    """
    if which not in (0, 1):
        raise ValueError(f"a digit is 0 or 1, got {which!r}")
    pose = generator("digit", *key)
    tall, width = pose.uniform(9, 11), pose.uniform(2.0, 3.5)  # half its height, its stroke
    x, y = SIZE / 2 + pose.uniform(-12, 12), SIZE / 4 + pose.uniform(-2, 2)
    slant, narrow = pose.uniform(-0.25, 0.25), pose.uniform(0.45, 0.75)
    if which:
        points = np.array([(0.0, -1.0), (0.0, 1.0)])
    else:
        turn = np.linspace(0, 2 * np.pi, 49)
        points = np.stack([narrow * np.sin(turn), -np.cos(turn)], 1)
    points = tall * np.stack([points[:, 0] - slant * points[:, 1], points[:, 1]], 1) + (x, y)
    canvas = Image.new("L", (SIZE * _SUPERSAMPLE, SIZE // 2 * _SUPERSAMPLE), 0)
    path = [tuple(p) for p in points * _SUPERSAMPLE]
    ImageDraw.Draw(canvas).line(path, fill=255, width=round(width * _SUPERSAMPLE), joint="curve")
    return np.asarray(canvas.reduce(_SUPERSAMPLE), dtype=np.float32) / 255


def written(picture: np.ndarray) -> np.ndarray:
    """A digit of MNIST, uint8 [28, 28], in the middle of the upper half: as `digit` returns."""
    strokes = np.zeros((SIZE // 2, SIZE), np.float32)
    strokes[2:30, 18:46] = picture / np.float32(255)
    return strokes


def stacked(strokes: np.ndarray, picture: Image.Image) -> Image.Image:
    """A digit, white on black, above a picture that is stretched to the lower half.

    strokes: float [h, w] in [0, 1], of `digit`. Returns an RGB picture of w x 2h pixels.
    """
    height, width = strokes.shape
    canvas = Image.new("RGB", (width, 2 * height))
    canvas.paste(Image.fromarray(np.round(255 * strokes).astype(np.uint8)).convert("RGB"), (0, 0))
    half = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    canvas.paste(half, (0, height))
    return canvas
