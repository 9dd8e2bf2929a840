"""Rendered images of which everything is known: shape, texture, colour, pose, background, mask.

A stimulus is a textured object, darker or brighter than its ground, which is as rough as those of
photographs. In *natural* stimuli shape, texture and hue agree on the category, as in photographs;
the other variants take single cues away or set them against each other (Geirhos et al. 2019). Nothing is stored: an image is a function of
``(split, index, seed, variant)``, so any batch, order or number of workers gives the same pixels.

>>> scene = describe("test", 7)
>>> image, mask = draw(scene)
>>> image.shape, str(image.dtype), mask.shape
((64, 64, 3), 'uint8', (64, 64))
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw

from vitlab.files import digest
from vitlab.rng import generator
from vitlab.stimuli.shapes import SHAPES
from vitlab.stimuli.textures import CLUTTER, SIZE, TEXTURES, daylight, patches, textured, wave

# Outlines are drawn four times larger and averaged down, which smooths their edges.
_SUPERSAMPLE = 4

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
# The viewpoint: how an object may lie in the picture. Like the tones below and in `textures` chosen
# by image statistics and clean accuracy alone (book/methods.md says which), by no finding.
SCALE = (0.6, 0.9)  # half its box, of half the picture's side
TURN = 20.0  # degrees, either way
CUT = 0.15  # the share of its box's side, before it is turned, that the frame may cut off
# Tones: luma in [0, 1].
MIDDLE, MIDDLE_SPREAD = 0.48, 0.08  # between object and ground: mean and SD, at most two SDs away
APART = (0.25, 0.75)  # object and ground, at full strength
PALE = 1.7  # strength is 1 - u ** PALE, u uniform: the more, the fewer are hardly to be seen
HUE_SPREAD = 0.025  # SD around the hue of the category, of the circle; categories are 1/16 apart
GRAIN = 0.015  # SD of what each pixel has of its own

# What an artist leaves of an object: ImageNet-R's part (Hendrycks et al. 2021).
RENDITIONS = ("edges", "silhouette", "flat", "sketch", "inverted")
# The most that each nuisance of a hard stimulus does; how much of it is drawn per stimulus.
# Chosen on validation stimuli with mini/cnn-2 alone, which errs on about three in ten of them.
_HARD = {"smaller": 0.35, "turn": 90.0, "pale": 0.5, "clutter": 0.3, "cover": 0.35}

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
    luma: float  # of the object, its mean; of the ground below
    ground: float
    strength: float  # of texture, hue and distance to the ground, a share in (0, 1]
    clutter: int  # of the ground: 0, 1 or 2
    seed: int
    key: tuple


def describe(
    split: str, index: int, seed: int = 0, variant: str = "natural", held_out: bool = False
) -> Scene:
    """Everything about stimulus `index` of `split`, without drawing it.

    Categories take turns: natural stimulus i shows category ``i % 16`` (``i % 8`` with `held_out`);
    cue-conflict stimulus i shows the (shape, texture) pair ``i % 240`` of unequal categories.
    Within a category, objects brighter and darker than their ground take turns.

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
    hue = (texture / count + HUE_SPREAD * pose.standard_normal()) % 1
    if variant == "stylised":
        hue = float(cue.random())
    scale, angle = pose.uniform(*SCALE), pose.uniform(-TURN, TURN)
    room = 1 - (1 - 2 * CUT) * scale
    x, y = pose.uniform(-room, room, 2)
    middle = MIDDLE + MIDDLE_SPREAD * np.clip(pose.standard_normal(), -2, 2)
    # Halves of a category take turns: -1 is darker than the ground, 1 is brighter.
    strength, clutter = 1 - pose.random() ** PALE, pose.integers(len(CLUTTER))
    apart = (-1) ** (index + index // 16) * strength * pose.uniform(*APART)
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
        luma=float(middle + apart / 2),
        ground=float(middle - apart / 2),
        strength=float(strength),
        clutter=int(clutter),
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

    What the frame cuts off is not in it, nor what lies under a hard stimulus's cover.
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


def _surfaces(scene: Scene, noise: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The ground and the object's surface, each over the whole picture: float32 [size, size, 3]."""
    light = daylight(noise, scene.clutter, size)
    surface = textured(scene.texture, scene.hue, noise, size, scene.luma, scene.strength)
    ground = np.float32(scene.ground) + patches(noise, scene.clutter, size)
    return ground + light, surface + light


def _hard(scene: Scene, noise: np.random.Generator, size: int) -> np.ndarray:
    """A hard stimulus before its grain: float32 [size, size, 3]."""
    ground, texture = _surfaces(scene, noise, size)
    more = generator(*scene.key, "hard picture")
    ground = ground + _clutter(more, size)[..., None]
    faded = np.float32(_HARD["pale"] * more.random())
    texture = (1 - faded) * texture + faded * ground
    mask = _whole_mask(scene, size)[..., None]
    cover = _cover(scene, size)[..., None]
    seen = mask * texture + (1 - mask) * ground
    return (1 - cover) * seen + cover * np.float32(more.uniform(0.3, 0.8))


def _grained(picture: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """A picture with noise in every pixel, in 8 bits: float32 [h, w, 3] to uint8."""
    grain = noise.standard_normal(picture.shape, dtype=np.float32)
    grain *= np.float32(GRAIN)
    grain += picture
    return np.round(255 * np.clip(grain, 0, 1)).astype(np.uint8)


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
    hatching = wave(np.cos(turn) * axis[None] + np.sin(turn) * axis[:, None], 4.0) > 0.75
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
    what can be seen of the object for hard ones. At another `size` than 64 outlines scale with the
    picture, and so do textures; what is noise is drawn anew for its pixels.
    """
    if scene.variant in ("silhouette", "edges", "flat", "sketch"):
        picture = _rendition(scene, size)
        return np.round(255 * picture).astype(np.uint8), draw_mask(scene, size)
    if scene.variant == "inverted":
        picture, mask = draw(replace(scene, variant="natural"), size)
        return 255 - picture, mask
    noise = generator(*scene.key, "picture")
    if scene.variant == "hard":
        return _grained(_hard(scene, noise, size), noise), draw_mask(scene, size)
    ground, picture = _surfaces(scene, noise, size)
    mask = np.ones((size, size), np.float32)
    if scene.variant != "texture-only":
        mask = draw_mask(scene, size)
        picture = mask[..., None] * picture + (1 - mask[..., None]) * ground
    return _grained(picture, noise), mask


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
