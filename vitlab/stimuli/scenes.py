"""Rendered images of which everything is known: shape, texture, colour, pose, background, object mask.

A stimulus is a textured object on a cluttered grey background. In *natural* stimuli shape, texture and hue agree on
the category, as in photographs; the other variants take single cues away or set them against each
other (Geirhos et al. 2019). Nothing is stored: an image is a function of
``(split, index, seed, variant)``, so any batch, order or number of workers gives the same pixels.

>>> scene = describe("test", 7)
>>> image, mask = draw(scene)
>>> image.shape, str(image.dtype), mask.shape
((64, 64, 3), 'uint8', (64, 64))
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw

from vitlab.files import digest
from vitlab.rng import generator

SIZE = 64  # pixels; the ViT's 8 px patches make an 8 x 8 grid of it
_SUPERSAMPLE = (
    4  # outlines are drawn four times larger and averaged down, which smooths their edges
)

SPLITS = ("train", "validation", "test")
VARIANTS = {
    "natural": "shape, texture and hue agree on the category",
    "cue-conflict": "shape of one category, texture and hue of another (hue travels with texture)",
    "stylised": "shape of the category; texture and hue drawn at random (Stylized-ImageNet's part)",
    "silhouette": "black shape on white",
    "edges": "outline of the shape, black on white",
    "texture-only": "texture and hue of the category over the whole image, no object",
    "flat": "one flat colour of the category's hue on white, no texture",
    "sketch": "pencil strokes on paper: a shaky outline, hatched",
    "inverted": "a natural stimulus with inverted colours",
    "hard": "natural, but small, turned, pale, cluttered and partly covered, each to a random degree",
}
# What an artist leaves of an object: ImageNet-R's part (Hendrycks et al. 2021).
RENDITIONS = ("edges", "silhouette", "flat", "sketch", "inverted")
# The most that each nuisance of a hard stimulus does; how much of it is drawn per stimulus.
# Chosen on validation stimuli with mini/cnn-2 alone, which errs on about three in ten of them.
_HARD = {"smaller": 0.25, "turn": 70.0, "pale": 0.35, "clutter": 0.2, "cover": 0.25}

# --- shapes: closed outlines in a box of about [-1, 1] x [-1, 1], y downwards -------------------
# A shape is a list of outlines; the first is filled, each further one is cut out of it.


def _circle(radius: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def _polar(radius_of_angle: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False) - np.pi / 2
    radius = radius_of_angle(turn + np.pi / 2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _spikes(points: int, inner: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False) - np.pi / 2
    radius = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 17
    return np.stack([x, y], axis=1)


def _crescent() -> np.ndarray:
    outer = np.linspace(np.radians(50), np.radians(310), 40)
    inner = np.linspace(np.radians(285), np.radians(75), 40)
    rim = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    bite = np.stack([0.45 + 0.74 * np.cos(inner), 0.79 * np.sin(inner)], axis=1)
    return np.concatenate([rim, bite])


def _drop() -> np.ndarray:
    arc = np.linspace(np.radians(-25), np.radians(205), 40)
    bowl = np.stack([0.62 * np.cos(arc), 0.35 + 0.62 * np.sin(arc)], axis=1)
    return np.concatenate([bowl, [[0.0, -1.0]]])


def _points(text: str) -> np.ndarray:
    return np.array([[float(n) for n in pair.split(",")] for pair in text.split()])


SHAPES: dict[str, list[np.ndarray]] = {
    # the 16 categories
    "disc": [_circle(0.9)],
    "square": [_points("-.8,-.8 .8,-.8 .8,.8 -.8,.8")],
    "triangle": [_points("0,-.95 .95,.75 -.95,.75")],
    "star": [_spikes(5, 0.42)],
    "crescent": [_crescent()],
    "ring": [_circle(0.95), _circle(0.5)],
    "cross": [_points("-.3,-.95 .3,-.95 .3,-.3 .95,-.3 .95,.3 .3,.3 .3,.95 -.3,.95 -.3,.3 -.95,.3 -.95,-.3 -.3,-.3")],
    "heart": [_heart()],
    "trefoil": [_polar(lambda a: 0.62 + 0.38 * np.cos(3 * a))],
    "hourglass": [_points("-.8,-.9 .8,-.9 .15,0 .8,.9 -.8,.9 -.15,0")],
    "letter L": [_points("-.75,-.95 -.2,-.95 -.2,.4 .8,.4 .8,.95 -.75,.95")],
    "letter T": [_points("-.9,-.9 .9,-.9 .9,-.35 .28,-.35 .28,.95 -.28,.95 -.28,-.35 -.9,-.35")],
    "letter U": [_points("-.85,-.9 -.35,-.9 -.35,.4 .35,.4 .35,-.9 .85,-.9 .85,.9 -.85,.9")],
    "arrow": [_points("0,-1 .9,-.05 .35,-.05 .35,.95 -.35,.95 -.35,-.05 -.9,-.05")],
    "bar": [_points("-.35,-1 .35,-1 .35,1 -.35,1")],
    "bolt": [_points("-.1,-1 .6,-1 .15,-.25 .7,-.25 -.35,1 -.05,.1 -.6,.1")],
    # the 8 held-out shapes, for few-shot work
    "hexagon": [_spikes(3, 1.0)],
    "letter H": [_points("-.85,-.9 -.35,-.9 -.35,-.25 .35,-.25 .35,-.9 .85,-.9 .85,.9 .35,.9 .35,.25 -.35,.25 -.35,.9 -.85,.9")],
    "letter E": [_points("-.7,-.95 .75,-.95 .75,-.5 -.15,-.5 -.15,-.22 .6,-.22 .6,.22 -.15,.22 -.15,.5 .75,.5 .75,.95 -.7,.95")],
    "drop": [_drop()],
    "frame": [_points("-.9,-.9 .9,-.9 .9,.9 -.9,.9"), _points("-.45,-.45 .45,-.45 .45,.45 -.45,.45")],
    "chevron": [_points("-.9,-.8 0,-.1 .9,-.8 .9,0 0,.8 -.9,0")],
    "gear": [_polar(lambda a: 0.82 + 0.17 * np.sign(np.cos(8 * a)))],
    "half disc": [_polar(lambda a: np.where(np.cos(a) > 0, 0.95, 0.95 * 0.25 / np.maximum(np.abs(np.cos(a)), 0.25)))],
}  # fmt: skip

# --- textures: value in [0, 1] at pixel coordinates (u, v), already turned and shifted -----------


def _smooth_noise(noise: np.random.Generator, cells: int, size: int) -> np.ndarray:
    grid = noise.random((cells, cells), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))


def _wave(x, period):
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


# Each takes (u, v, noise generator); periods are in pixels of a 64 px image.
TEXTURES = {
    # the 16 categories
    "fine stripes": lambda u, v, n: _wave(u, 3.2),
    "broad stripes": lambda u, v, n: _square(u, 9.0),
    "level lines": lambda u, v, n: _wave(v, 4.6),
    "slanted lines": lambda u, v, n: _square(u + v, 7.0),
    "checks": lambda u, v, n: np.abs(_square(u, 8.0) - _square(v, 8.0)),
    "plaid": lambda u, v, n: 0.5 * _wave(u, 5.0) + 0.5 * _wave(v, 10.0),
    "grid": lambda u, v, n: np.maximum(np.mod(u, 6) < 1.6, np.mod(v, 6) < 1.6).astype(np.float32),
    "dots": lambda u, v, n: _hexagonal_dots(u, v, 6.0, 1.9),
    "large dots": lambda u, v, n: 1 - _hexagonal_dots(u, v, 11.0, 4.2),
    "bricks": lambda u, v, n: _bricks(u, v),
    "waves": lambda u, v, n: _wave(v + 2.5 * np.sin(2 * np.pi * u / 11), 6.0),
    "zigzag": lambda u, v, n: _square(v + np.abs(np.mod(u, 8) - 4), 5.6),
    "rings": lambda u, v, n: _wave(np.hypot(u, v), 5.4),
    "scales": lambda u, v, n: _scales(u, v),
    "blotches": lambda u, v, n: np.clip(4 * _smooth_noise(n, 14, u.shape[0]) - 1.5, 0, 1),
    "grain": lambda u, v, n: n.random(u.shape, dtype=np.float32),
    # the 8 held-out textures, for few-shot work
    "triangles": lambda u, v, n: (np.mod(u, 8) > np.mod(v, 8)).astype(np.float32),
    "dashes": lambda u, v, n: _square(u, 10.0) * _square(v, 4.4),
    "rays": lambda u, v, n: _wave(np.arctan2(v, u + 0.01), 2 * np.pi / 14),
    "diamonds": lambda u, v, n: _square(np.abs(np.mod(u, 10) - 5) + np.abs(np.mod(v, 10) - 5), 5.0),
    "clouds": lambda u, v, n: np.clip(2.4 * _smooth_noise(n, 6, u.shape[0]) - 0.7, 0, 1),
    "weave": lambda u, v, n: np.where(_square(u + v, 12) > 0, _wave(u - v, 4.0), _wave(u + v, 4.0)),
    "crosses": lambda u, v, n: (
        np.minimum(np.abs(np.mod(u, 8) - 4), np.abs(np.mod(v, 8) - 4))
        + (np.hypot(np.mod(u, 8) - 4, np.mod(v, 8) - 4) > 3.2) * 9 < 1
    ).astype(np.float32),
    "speckle": lambda u, v, n: (_smooth_noise(n, 32, u.shape[0]) > 0.72).astype(np.float32),
}  # fmt: skip

SHAPE_NAMES, TEXTURE_NAMES = tuple(SHAPES), tuple(TEXTURES)
CATEGORIES = SHAPE_NAMES[:16]
HELD_OUT = SHAPE_NAMES[16:]


@dataclass(frozen=True)
class Scene:
    """All there is to know of one stimulus. Angles in degrees, lengths in half image widths."""

    id: str
    variant: str
    label: int  # the category asked for: that of the shape, except in texture-only stimuli
    shape: str
    texture: str
    hue: float  # of the texture, on the circle [0, 1)
    angle: float
    scale: float
    x: float
    y: float
    seed: int
    key: tuple


def describe(
    split: str, index: int, seed: int = 0, variant: str = "natural", held_out: bool = False
) -> Scene:
    """Everything about stimulus `index` of `split`, without drawing it.

    Categories take turns: natural stimulus i shows category ``i % 16`` (``i % 8`` with `held_out`);
    cue-conflict stimulus i shows the (shape, texture) pair ``i % 240`` of unequal categories.

    Raises ValueError for an unknown split or variant, naming the known ones.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
    first, count = (16, 8) if held_out else (0, 16)
    # The same index of another variant shows the same object in the same pose: variants pair up.
    key = ("stimulus", seed, split, int(held_out), index)
    pose = generator(*key, "pose")
    cue = generator(*key, "cue", variant)
    if variant == "cue-conflict":
        label, offset = divmod(index % (count * (count - 1)), count - 1)
        texture = (label + 1 + offset) % count
    else:
        label = texture = index % count
    if variant == "stylised":
        texture = int(cue.integers(count))
    hue = (texture / count + 0.1 * pose.standard_normal()) % 1
    if variant == "stylised":
        hue = float(cue.random())
    scale = pose.uniform(0.66, 0.86)
    room = 0.95 - scale
    angle, x, y = pose.uniform(-15, 15), pose.uniform(-room, room), pose.uniform(-room, room)
    if variant == "hard":
        hard = generator(*key, "hard")
        scale *= 1 - _HARD["smaller"] * hard.random()
        angle += _HARD["turn"] * hard.uniform(-1, 1)
        x, y = hard.uniform(-1, 1, 2) * (0.95 - scale)
    return Scene(
        id=f"{'held-out/' if held_out else ''}{variant}/{split}/{seed}/{index:06d}",
        variant=variant,
        label=label,
        shape=SHAPE_NAMES[first + label],
        texture=TEXTURE_NAMES[first + texture],
        hue=float(hue),
        angle=float(angle),
        scale=float(scale),
        x=float(x),
        y=float(y),
        seed=seed,
        key=key,
    )


def _outline(scene: Scene, size: int) -> list[list[tuple[float, float]]]:
    turn = np.radians(scene.angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    placed = [scene.scale * part @ rotation + (scene.x, scene.y) for part in SHAPES[scene.shape]]
    return [[tuple(p) for p in (part + 1) * (size / 2)] for part in placed]


def draw_mask(scene: Scene, size: int = SIZE) -> np.ndarray:
    """Share of each pixel that the object covers: float32 [size, size] in [0, 1].

    Of a hard stimulus only what can be seen of the object.
    """
    whole = _whole_mask(scene, size)
    return whole * (1 - _cover(scene, size)) if scene.variant == "hard" else whole


def _whole_mask(scene: Scene, size: int) -> np.ndarray:
    canvas = Image.new("L", (size * _SUPERSAMPLE, size * _SUPERSAMPLE), 0)
    pen = ImageDraw.Draw(canvas)
    for part, fill in zip(_outline(scene, size * _SUPERSAMPLE), [255, 0], strict=False):
        pen.polygon(part, fill=fill)
    return np.asarray(canvas.reduce(_SUPERSAMPLE), dtype=np.float32) / 255


def draw_edges(scene: Scene, size: int = SIZE) -> np.ndarray:
    """Share of each pixel that the object's outline covers: float32 [size, size] in [0, 1]."""
    canvas = Image.new("L", (size * _SUPERSAMPLE, size * _SUPERSAMPLE), 0)
    pen = ImageDraw.Draw(canvas)
    for part in _outline(scene, size * _SUPERSAMPLE):
        pen.line([*part, part[0], part[1]], fill=255, width=size * _SUPERSAMPLE // 32)
    return np.asarray(canvas.reduce(_SUPERSAMPLE), dtype=np.float32) / 255


def _texture(scene: Scene, noise: np.random.Generator, size: int) -> np.ndarray:
    """The texture in its two tones of one hue: float32 [size, size, 3] in [0, 1]."""
    axis = (np.arange(size, dtype=np.float32) - size / 2) * (SIZE / size)
    turn = np.radians(noise.uniform(-15, 15))
    stretch = noise.uniform(0.9, 1.1)
    du, dv = noise.uniform(-8, 8, 2)
    u = (np.cos(turn) * axis[None] + np.sin(turn) * axis[:, None]) * stretch + du
    v = (np.cos(turn) * axis[:, None] - np.sin(turn) * axis[None]) * stretch + dv
    value = TEXTURES[scene.texture](u.astype(np.float32), v.astype(np.float32), noise)[..., None]
    light = colorsys.hsv_to_rgb(scene.hue, noise.uniform(0.55, 0.9), noise.uniform(0.7, 0.95))
    dark = colorsys.hsv_to_rgb(scene.hue, noise.uniform(0.7, 1.0), noise.uniform(0.15, 0.4))
    return value * np.array(light, np.float32) + (1 - value) * np.array(dark, np.float32)


def _background(noise: np.random.Generator, size: int) -> np.ndarray:
    """Grey, mottled, with two faint blurred bars of clutter: float32 [size, size, 3] in [0, 1]."""
    grey = noise.uniform(0.65, 0.95)
    tint = noise.uniform(-0.05, 0.05, 3).astype(np.float32)
    mottle = 0.25 * (_smooth_noise(noise, 5, size) - 0.5)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    for turn, offset, width in noise.uniform([0, -0.9, 6], [np.pi, 0.9, 12], (2, 3)):
        distance = np.cos(turn) * axis[None] + np.sin(turn) * axis[:, None] - offset
        mottle = mottle - 0.12 * np.exp(-((width * distance) ** 2)).astype(np.float32)
    return np.float32(grey) + mottle[..., None] + tint


def _cover(scene: Scene, size: int) -> np.ndarray:
    """What lies on the object of a hard stimulus: an edge at any angle, 1 beyond it, 0 before."""
    noise = generator(*scene.key, "cover")
    turn, share = noise.uniform(0, 2 * np.pi), _HARD["cover"] * noise.random()
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    along = np.cos(turn) * (axis[None] - scene.x) + np.sin(turn) * (axis[:, None] - scene.y)
    return (along > scene.scale * (1 - 2 * share)).astype(np.float32)


def _clutter(noise: np.random.Generator, size: int) -> np.ndarray:
    """Sharp grey bars, darker or lighter than the ground: float32 [size, size]."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    bars = np.zeros((size, size), np.float32)
    strength = _HARD["clutter"] * noise.random()
    for turn, offset, width, tone in noise.uniform(
        [0, -0.9, 0.03, -1], [np.pi, 0.9, 0.15, 1], (6, 4)
    ):
        distance = np.cos(turn) * axis[None] + np.sin(turn) * axis[:, None] - offset
        bars += np.float32(strength * tone) * (np.abs(distance) < width)
    return bars


def _hard(scene: Scene, noise: np.random.Generator, size: int) -> np.ndarray:
    """A hard stimulus before its grain: float32 [size, size, 3]."""
    background = _background(noise, size)
    texture = _texture(scene, noise, size)
    more = generator(*scene.key, "hard picture")
    background = background + _clutter(more, size)[..., None]
    faded = np.float32(_HARD["pale"] * more.random())
    texture = (1 - faded) * texture + faded * background
    mask = _whole_mask(scene, size)[..., None]
    cover = _cover(scene, size)[..., None]
    seen = mask * texture + (1 - mask) * background
    return (1 - cover) * seen + cover * np.float32(more.uniform(0.3, 0.8))


def _sketch(scene: Scene, size: int) -> np.ndarray:
    """Ink of a pencil sketch: three shaky outlines and hatching: float32 [size, size] in [0, 1]."""
    noise = generator(*scene.key, "sketch")
    large = size * _SUPERSAMPLE
    canvas = Image.new("L", (large, large), 0)
    pen = ImageDraw.Draw(canvas)
    for _ in range(3):
        for part in _outline(scene, large):
            shaky = np.array(part) + noise.normal(0, large / 90, (len(part), 2))
            points = [tuple(p) for p in shaky]
            pen.line([*points, points[0]], fill=200, width=large // 80)
    outline = np.asarray(canvas.reduce(_SUPERSAMPLE), dtype=np.float32) / 255
    axis = np.arange(size, dtype=np.float32) * (SIZE / size)
    turn = noise.uniform(0.5, 1.1)
    hatching = _wave(np.cos(turn) * axis[None] + np.sin(turn) * axis[:, None], 4.0) > 0.75
    return np.maximum(outline, 0.45 * hatching * _whole_mask(scene, size))


def _rendition(scene: Scene, size: int) -> np.ndarray:
    """A silhouette, edges, flat colour or sketch: float32 [size, size, 3] in [0, 1]."""
    if scene.variant == "flat":
        colour = np.array(colorsys.hsv_to_rgb(scene.hue, 0.75, 0.85), np.float32)
        mask = draw_mask(scene, size)[..., None]
        return mask * colour + (1 - mask)
    ink = {"silhouette": draw_mask, "edges": draw_edges, "sketch": _sketch}[scene.variant]
    return np.repeat(1 - ink(scene, size)[..., None], 3, axis=2)


def draw(scene: Scene, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """The picture and its object mask: uint8 [size, size, 3] and float32 [size, size] in [0, 1].

    The mask is the share of each pixel that the object covers; all ones for texture-only stimuli,
    what can be seen of the object for hard ones.
    """
    if scene.variant in ("silhouette", "edges", "flat", "sketch"):
        picture = _rendition(scene, size)
        return np.round(255 * picture).astype(np.uint8), draw_mask(scene, size)
    if scene.variant == "inverted":
        picture, mask = draw(replace(scene, variant="natural"), size)
        return 255 - picture, mask
    noise = generator(*scene.key, "picture")
    if scene.variant == "hard":
        picture = _hard(scene, noise, size)
        grain = noise.standard_normal((size, size, 3), dtype=np.float32)
        picture = np.clip(picture + np.float32(0.03) * grain, 0, 1)
        return np.round(255 * picture).astype(np.uint8), draw_mask(scene, size)
    background = _background(noise, size)
    picture = _texture(scene, noise, size)
    mask = np.ones((size, size), np.float32)
    if scene.variant != "texture-only":
        mask = draw_mask(scene, size)
        picture = mask[..., None] * picture + (1 - mask[..., None]) * background
    grain = noise.standard_normal((size, size, 3), dtype=np.float32)
    picture = np.clip(picture + np.float32(0.03) * grain, 0, 1)
    return np.round(255 * picture).astype(np.uint8), mask


def render(scenes: Iterable[Scene], size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and masks of many scenes: uint8 [n, 3, size, size] and float32 [n, size, size]."""
    pairs = [draw(scene, size) for scene in scenes]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in pairs])).permute(0, 3, 1, 2)
    return pictures.contiguous(), torch.from_numpy(np.stack([mask for _, mask in pairs]))


def fingerprint(scenes: Sequence[Scene]) -> str:
    """What the pictures of `scenes` depend on, from 16 of them: changes when the renderer does."""
    probes = [draw(scene)[0].tobytes() for scene in scenes[:: max(1, len(scenes) // 16)][:16]]
    return digest(*probes, *(scene.id for scene in scenes))


def table(scenes: Iterable[Scene]) -> pd.DataFrame:
    """The attributes of scenes as a table, one row each."""
    return pd.DataFrame([asdict(scene) for scene in scenes]).drop(columns="key")
