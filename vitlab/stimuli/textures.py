"""Surfaces: textures in two tones of a hue, and the mottled grey background of a stimulus."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image

SIZE = 64  # pixels; the ViT's 8 px patches make an 8 x 8 grid of it


def smooth_noise(noise: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """A coarse grid of random values, enlarged smoothly: float32 [size, size], about [0, 1]."""
    grid = noise.random((cells, cells), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))


def wave(x: np.ndarray, period: float) -> np.ndarray:
    """A sine grating: values in [0, 1]."""
    return 0.5 + 0.5 * np.sin(2 * np.pi * x / period)


def _square(x, period):
    return (np.mod(x, period) < period / 2).astype(np.float32)


def _bricks(u, v):
    row = np.floor(v / 5)
    return ((np.mod(v, 5) > 1.2) & (np.mod(u + 4.5 * np.mod(row, 2), 9) > 1.4)).astype(np.float32)


def _hexagonal_dots(u, v, pitch, radius):
    row = np.round(v / (0.87 * pitch))
    du = np.mod(u + 0.5 * pitch * np.mod(row, 2) + pitch / 2, pitch) - pitch / 2
    dv = v - row * 0.87 * pitch
    return (du**2 + dv**2 < radius**2).astype(np.float32)


def _scales(u, v):
    row = np.floor(v / 4)
    du = np.mod(u + 4 * np.mod(row, 2), 8) - 4
    return np.clip(np.hypot(du, np.mod(v, 4)) / 4.6, 0, 1) ** 2


# Each takes pixel coordinates (u, v), already turned and shifted, and a noise generator, and gives
# values in [0, 1]. Periods are in pixels of an image of `SIZE`.
TEXTURES = {
    # the 16 categories
    "fine stripes": lambda u, v, n: wave(u, 3.2),
    "broad stripes": lambda u, v, n: _square(u, 9.0),
    "level lines": lambda u, v, n: wave(v, 4.6),
    "slanted lines": lambda u, v, n: _square(u + v, 7.0),
    "checks": lambda u, v, n: np.abs(_square(u, 8.0) - _square(v, 8.0)),
    "plaid": lambda u, v, n: 0.5 * wave(u, 5.0) + 0.5 * wave(v, 10.0),
    "grid": lambda u, v, n: np.maximum(np.mod(u, 6) < 1.6, np.mod(v, 6) < 1.6).astype(np.float32),
    "dots": lambda u, v, n: _hexagonal_dots(u, v, 6.0, 1.9),
    "large dots": lambda u, v, n: 1 - _hexagonal_dots(u, v, 11.0, 4.2),
    "bricks": lambda u, v, n: _bricks(u, v),
    "waves": lambda u, v, n: wave(v + 2.5 * np.sin(2 * np.pi * u / 11), 6.0),
    "zigzag": lambda u, v, n: _square(v + np.abs(np.mod(u, 8) - 4), 5.6),
    "rings": lambda u, v, n: wave(np.hypot(u, v), 5.4),
    "scales": lambda u, v, n: _scales(u, v),
    "blotches": lambda u, v, n: np.clip(4 * smooth_noise(n, 14, u.shape[0]) - 1.5, 0, 1),
    "grain": lambda u, v, n: n.random(u.shape, dtype=np.float32),
    # the 8 held-out textures, for few-shot work
    "triangles": lambda u, v, n: (np.mod(u, 8) > np.mod(v, 8)).astype(np.float32),
    "dashes": lambda u, v, n: _square(u, 10.0) * _square(v, 4.4),
    "rays": lambda u, v, n: wave(np.arctan2(v, u + 0.01), 2 * np.pi / 14),
    "diamonds": lambda u, v, n: _square(np.abs(np.mod(u, 10) - 5) + np.abs(np.mod(v, 10) - 5), 5.0),
    "clouds": lambda u, v, n: np.clip(2.4 * smooth_noise(n, 6, u.shape[0]) - 0.7, 0, 1),
    "weave": lambda u, v, n: np.where(_square(u + v, 12) > 0, wave(u - v, 4.0), wave(u + v, 4.0)),
    "crosses": lambda u, v, n: (
        np.minimum(np.abs(np.mod(u, 8) - 4), np.abs(np.mod(v, 8) - 4))
        + (np.hypot(np.mod(u, 8) - 4, np.mod(v, 8) - 4) > 3.2) * 9 < 1
    ).astype(np.float32),
    "speckle": lambda u, v, n: (smooth_noise(n, 32, u.shape[0]) > 0.72).astype(np.float32),
}  # fmt: skip


def textured(texture: str, hue: float, noise: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """A texture in two tones of one hue, in [0, 1): float32 [size, size, 3] in [0, 1]."""
    axis = (np.arange(size, dtype=np.float32) - size / 2) * (SIZE / size)
    turn = np.radians(noise.uniform(-15, 15))
    stretch = noise.uniform(0.9, 1.1)
    du, dv = noise.uniform(-8, 8, 2)
    u = (np.cos(turn) * axis[None] + np.sin(turn) * axis[:, None]) * stretch + du
    v = (np.cos(turn) * axis[:, None] - np.sin(turn) * axis[None]) * stretch + dv
    value = TEXTURES[texture](u.astype(np.float32), v.astype(np.float32), noise)[..., None]
    light = colorsys.hsv_to_rgb(hue, noise.uniform(0.55, 0.9), noise.uniform(0.7, 0.95))
    dark = colorsys.hsv_to_rgb(hue, noise.uniform(0.7, 1.0), noise.uniform(0.15, 0.4))
    return value * np.array(light, np.float32) + (1 - value) * np.array(dark, np.float32)


def background(noise: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Grey, mottled, with two faint blurred bars of clutter: float32 [size, size, 3] in [0, 1]."""
    grey = noise.uniform(0.65, 0.95)
    tint = noise.uniform(-0.05, 0.05, 3).astype(np.float32)
    mottle = 0.25 * (smooth_noise(noise, 5, size) - 0.5)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    for turn, offset, width in noise.uniform([0, -0.9, 6], [np.pi, 0.9, 12], (2, 3)):
        distance = np.cos(turn) * axis[None] + np.sin(turn) * axis[:, None] - offset
        mottle = mottle - 0.12 * np.exp(-((width * distance) ** 2)).astype(np.float32)
    return np.float32(grey) + mottle[..., None] + tint
