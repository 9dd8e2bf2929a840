"""Surfaces: textures in two tones of a hue, and the ground of a stimulus, noisy as photographs."""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.fft import irfft2

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


# --- tones ----------------------------------------------------------------------------------------

# How strong each cue is, in shares of the range from black to white. Chosen, as all constants of
# the stimuli, by the statistics and accuracies that the book's page of methods names.
CONTRAST = (0.14, 0.28)  # of a texture: how far each of its two tones is from their mean
SATURATION = (0.25, 0.55)  # of its hue
# Three levels of clutter: the SD of light and shade, and how many patches the ground has.
CLUTTER = ((0.06, 0), (0.09, 3), (0.12, 6))
SLOPE = 1.4  # the amplitude of that noise falls as frequency to minus this, as of photographs
PATCH = 0.40  # how far at most a patch is from the ground in luma
TINT = 0.06  # saturation of the light, at most; of a patch as well

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601


def chroma(hue: float) -> np.ndarray:
    """The direction of a hue in [0, 1) without any luma: float32 [3], red, green, blue."""
    colour = np.array(colorsys.hsv_to_rgb(hue % 1, 1, 1), np.float32)
    return colour - _LUMA @ colour


def natural_noise(noise: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Noise with the spectrum of photographs, see `SLOPE`: float32 [size, size], mean 0, SD 1.

    It wraps around.
    """
    falloff = _falloff(size)
    drawn = noise.standard_normal((2, *falloff.shape), dtype=np.float32)
    waves = (drawn[0] + np.complex64(1j) * drawn[1]) * falloff
    field = irfft2(waves, (size, size))
    return field / np.float32(np.sqrt(np.vdot(field, field) / field.size))


@cache
def _falloff(size: int) -> np.ndarray:
    down, across = np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size)
    frequency = np.hypot(down[:, None], across[None])
    frequency[0, 0] = np.inf
    return (1 / frequency**SLOPE).astype(np.float32)


def daylight(noise: np.random.Generator, clutter: int, size: int = SIZE) -> np.ndarray:
    """Light and shade of a level of clutter, and the light's tint: float32 [size, size, 3].

    To be added to whatever stands in it; its mean luma is 0.
    """
    rough, _ = CLUTTER[clutter]
    tint = np.float32(noise.uniform(0, TINT)) * chroma(noise.random())
    return np.float32(rough) * natural_noise(noise, size)[..., None] + tint


def textured(
    texture: str,
    hue: float,
    noise: np.random.Generator,
    size: int = SIZE,
    luma: float | None = None,
    strength: float = 1.0,
) -> np.ndarray:
    """A texture in two tones of one hue, in [0, 1): float32 [size, size, 3], about [0, 1].

    luma: its mean, drawn if None. strength: of texture and hue, as a share of `CONTRAST` and
    `SATURATION`.
    """
    axis = (np.arange(size, dtype=np.float32) - size / 2) * (SIZE / size)
    turn = np.radians(noise.uniform(-15, 15))
    stretch = noise.uniform(0.9, 1.1)
    du, dv = noise.uniform(-8, 8, 2)
    u = (np.cos(turn) * axis[None] + np.sin(turn) * axis[:, None]) * stretch + du
    v = (np.cos(turn) * axis[:, None] - np.sin(turn) * axis[None]) * stretch + dv
    value = TEXTURES[texture](u.astype(np.float32), v.astype(np.float32), noise)
    low, high = np.array([(0.3, 0.7), CONTRAST, SATURATION]).T
    drawn, contrast, saturation = noise.uniform(low, high)
    grey = np.float32(2 * strength * contrast) * (value - value.mean())
    grey += np.float32(drawn if luma is None else luma)
    return grey[..., None] + np.float32(strength * saturation) * chroma(hue)


def background(noise: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """A ground of any luma and clutter, in its light: float32 [size, size, 3], about [0, 1]."""
    luma, clutter = np.float32(noise.uniform(0.3, 0.7)), int(noise.integers(len(CLUTTER)))
    return luma + daylight(noise, clutter, size) + patches(noise, clutter, size)


def patches(noise: np.random.Generator, clutter: int, size: int = SIZE) -> np.ndarray:
    """What a level's patches add to a ground: ellipses, each on those before it.

    float32 [size, size, 3]; 0 where there is none.
    """
    _, count = CLUTTER[clutter]
    canvas = Image.new("RGB", (2 * size, 2 * size), (128, 128, 128))
    pen = ImageDraw.Draw(canvas)
    low, high = [-1, -1, 0, 0.15, 0.2, -PATCH, 0], [1, 1, np.pi, 0.7, 1, PATCH, 1]
    for x, y, turn, long, thin, tone, hue in noise.uniform(low, high, (count, 7)):
        axes = np.array([[np.cos(turn), np.sin(turn)], [-thin * np.sin(turn), thin * np.cos(turn)]])
        rim = (long * _CIRCLE @ axes + (x + 1, y + 1)) * size
        added = 128 + 127 * (tone + TINT * chroma(hue))
        pen.polygon(rim.ravel().tolist(), fill=tuple(added.astype(int).tolist()))
    return (np.asarray(canvas.reduce(2), dtype=np.float32) - 128) / 127


_CIRCLE = np.stack(
    [np.cos(np.arange(0, 2 * np.pi, 0.25)), np.sin(np.arange(0, 2 * np.pi, 0.25))], 1
)
