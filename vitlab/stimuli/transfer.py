"""Seven families of rendered images that no model here was trained on, for transfer.

Each stands in, in kind, for one of the seven data sets of Naseer et al. 2021, section 3.6: eight
classes, 64 px, and what tells the classes apart is what tells them apart there (one proportion,
parts and markings, texture, glyph and plate, outline of a species, layout of a whole scene). None
of the classes is one of the stimuli's 16 shapes or textures. An image is a function of
``(family, split, index, seed)``.

>>> picture, label = draw("signs", "train", 3)
>>> picture.shape, str(picture.dtype), FAMILIES["signs"].classes[label]
((64, 64, 3), 'uint8', 'drop on blue')
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from vitlab.files import nearest
from vitlab.rng import generator
from vitlab.stimuli.scenes import CATEGORIES, TEXTURE_NAMES
from vitlab.stimuli.shapes import SHAPES, circle, polar, spikes
from vitlab.stimuli.textures import SIZE, background, smooth_noise, textured

SPLITS = ("train", "test")
_SUPERSAMPLE = 4


class Family(NamedTuple):
    """A family: the data set it stands for, what its classes differ in, their names, its painter.

    paint: (label, random numbers) -> float32 [64, 64, 3], about [0, 1]. tail: images per class and
    round in training, where classes are not equally frequent.
    """

    stands_for: str
    what: str
    classes: tuple[str, ...]
    paint: Callable[[int, np.random.Generator], np.ndarray]
    tail: tuple[int, ...] = ()


def draw(family: str, split: str, index: int, seed: int = 0) -> tuple[np.ndarray, int]:
    """Image `index` of a family's split, and its class: uint8 [64, 64, 3] and 0..7.

    Classes take turns, except in the training split of a family with a `tail`.

    Raises ValueError for an unknown family or split.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}{nearest(family, list(FAMILIES))}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    kind = FAMILIES[family]
    label = index % len(kind.classes)
    if kind.tail and split == "train":
        label = _turns(kind.tail)[index % sum(kind.tail)]
    noise = generator("family", family, seed, split, index)
    picture = kind.paint(label, noise)
    picture = picture + np.float32(0.03) * noise.standard_normal(picture.shape, dtype=np.float32)
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8), label


def _turns(tail: tuple[int, ...]) -> list[int]:
    """The classes of one round, each as often as `tail` says, spread over the round."""
    places = [((k + 0.5) / count, c) for c, count in enumerate(tail) for k in range(count)]
    return [c for _, c in sorted(places)]


# --- drawing -----------------------------------------------------------------------------------


def _cover(*outlines: np.ndarray) -> np.ndarray:
    """Share of each pixel inside any of the outlines, [-1, 1], y downwards: float32 [64, 64, 1]."""
    side = SIZE * _SUPERSAMPLE
    canvas = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(canvas)
    for outline in outlines:
        pen.polygon([tuple(p) for p in (outline + 1) * (side / 2)], fill=255)
    return np.asarray(canvas.reduce(_SUPERSAMPLE), dtype=np.float32)[..., None] / 255


def _over(picture: np.ndarray, cover: np.ndarray, paint: np.ndarray) -> np.ndarray:
    return cover * paint + (1 - cover) * picture


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    return circle(1.0) * (across, down) + (x, y)


def _placing(
    noise: np.random.Generator,
    turn: float = 15,
    scale: tuple[float, float] = (0.68, 0.86),
    mirror: bool = False,
    squeeze: float = 1.0,
) -> Callable[[np.ndarray], np.ndarray]:
    """A random pose, one for all parts of an object, which stays inside the picture."""
    angle, size = np.radians(noise.uniform(-turn, turn)), noise.uniform(*scale)
    shift = noise.uniform(-1, 1, 2) * (0.95 - size)
    side = -1.0 if mirror and noise.random() < 0.5 else 1.0
    narrow = noise.uniform(squeeze, 1)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return lambda points: size * (points * (side * narrow, 1)) @ rotation + shift


def _mottle(noise: np.random.Generator, strength: float = 0.25) -> np.ndarray:
    return np.float32(strength) * (smooth_noise(noise, 9, SIZE)[..., None] - 0.5)


# --- the families ------------------------------------------------------------------------------

NOTCHES = tuple(round(0.3 + 0.08 * i, 2) for i in range(8))


def _star(label: int, noise: np.random.Generator) -> np.ndarray:
    place = _placing(noise, turn=180 / 7)
    texture = TEXTURE_NAMES[noise.integers(len(TEXTURE_NAMES))]
    paint = textured(texture, noise.random(), noise)
    star = _cover(place(spikes(7, NOTCHES[label])))
    return _over(background(noise), star, paint)


_BIRDS = list(product(("short", "long"), ("red", "yellow"), ("plain", "barred")))


def _bird(label: int, noise: np.random.Generator) -> np.ndarray:
    bill, crown, wing = _BIRDS[label]
    place = _placing(noise, mirror=True)
    plumage = _colour(noise.uniform(0.05, 0.12), noise.uniform(0.3, 0.6), noise.uniform(0.45, 0.7))
    dark = plumage * np.float32(0.45)
    tip = 0.75 if bill == "short" else 0.98
    tail = np.array([[-0.45, -0.05], [-1.0, -0.3], [-0.95, 0.15], [-0.4, 0.3]])
    bars = [_box(x, -0.05, x + 0.06, 0.3) for x in np.arange(-0.38, 0.2, 0.13)]
    cap = circle(0.29)
    cap = cap[cap[:, 1] <= 0.01] + (0.42, -0.4)
    picture = background(noise)
    picture = _over(picture, _cover(place(tail)), dark)
    body = _ellipse(-0.02, 0.14, 0.6, 0.42), _ellipse(0.42, -0.4, 0.29, 0.29)
    picture = _over(picture, _cover(*map(place, body)), plumage + _mottle(noise, 0.15))
    picture = _over(picture, _cover(place(_ellipse(-0.1, 0.12, 0.42, 0.22))), 0.75 * plumage)
    if wing == "barred":
        picture = _over(picture, _cover(*map(place, bars)), dark)
    hue = (0.0 if crown == "red" else 0.14) + noise.uniform(-0.02, 0.02)
    picture = _over(picture, _cover(place(cap)), _colour(hue, 0.85, 0.85))
    beak = np.array([[0.66, -0.5], [tip, -0.38], [0.66, -0.3]])
    return _over(picture, _cover(place(beak)), _colour(0.1, 0.5, 0.3))


_HELD_OUT_TEXTURES = TEXTURE_NAMES[len(CATEGORIES) :]


def _surface(label: int, noise: np.random.Generator) -> np.ndarray:
    return textured(_HELD_OUT_TEXTURES[label], noise.random(), noise)


_SIGNS = list(product(("blue", "white"), ("letter H", "letter E", "chevron", "drop")))


def _sign(label: int, noise: np.random.Generator) -> np.ndarray:
    plate, glyph = _SIGNS[label]
    place = _placing(noise, turn=10, squeeze=0.8)
    octagon = spikes(4, 1.0) @ np.array([[0.924, 0.383], [-0.383, 0.924]])
    blue, red = _colour(0.6, 0.85, 0.7), _colour(0.0, 0.85, 0.75)
    white, black = _colour(0, 0, 0.95), _colour(0, 0, 0.12)
    picture = background(noise)
    picture = _over(picture, _cover(place(octagon)), red if plate == "white" else blue)
    if plate == "white":
        picture = _over(picture, _cover(place(0.78 * octagon)), white)
    inside = [place(0.5 * part) for part in SHAPES[glyph]]
    picture = _over(picture, _cover(*inside), black if plate == "white" else white)
    return picture * np.float32(noise.uniform(0.5, 1.0))  # the light of the day


_MUSHROOMS = list(product((0.25, 0.45, 0.65, 0.85), (0.12, 0.26)))


def _mushroom(label: int, noise: np.random.Generator) -> np.ndarray:
    height, width = _MUSHROOMS[label]
    place = _placing(noise, mirror=True)
    turn = np.linspace(0, np.pi, 40)
    cap = np.stack([0.9 * np.cos(turn), -2 * height * np.sin(turn) + 0.05], 1) * (1, 0.55)
    gills = _ellipse(0, 0.05, 0.86, 0.12)
    stem = np.array([[-width, 0], [width, 0], [1.3 * width, 0.95], [-1.3 * width, 0.95]])
    hue = noise.uniform(0.03, 0.12)
    brown = _colour(hue, noise.uniform(0.4, 0.8), noise.uniform(0.35, 0.7))
    pale = _colour(hue, 0.25, noise.uniform(0.6, 0.85))
    picture = background(noise) * _colour(0.28, 0.3, 0.7)
    picture = _over(picture, _cover(place(stem)), pale + _mottle(noise))
    picture = _over(picture, _cover(place(gills)), 0.6 * pale)
    return _over(picture, _cover(place(cap)), brown + _mottle(noise))


_SCENES = ("sea", "hills", "skyline", "forest", "road", "corridor", "stairs", "window")


def _scene(label: int, noise: np.random.Generator) -> np.ndarray:
    kind = _SCENES[label]
    far = _colour(noise.random(), noise.uniform(0.1, 0.5), noise.uniform(0.65, 0.95))
    near = _colour(noise.random(), noise.uniform(0.2, 0.7), noise.uniform(0.25, 0.5))
    other = _colour(noise.random(), noise.uniform(0.1, 0.6), noise.uniform(0.4, 0.7))
    sky = far + _mottle(noise, 0.2)
    horizon, x = noise.uniform(-0.25, 0.25), noise.uniform(-0.3, 0.3)
    land = _over(sky, _cover(_box(-1, horizon, 1, 1)), near + _mottle(noise, 0.15))
    if kind == "sea":
        rows = horizon + (1 - horizon) * np.linspace(0.1, 1, 6) ** 1.6
        crests = [_box(-1, y, 1, y + 0.05) for y in rows]
        return _over(land, _cover(*crests), other)
    if kind == "hills":
        picture, across = sky, np.linspace(-1, 1, 40)
        for depth, shade in ((-0.15, 0.8), (0.15, 0.65), (0.45, 0.45)):
            wave = np.sin(noise.uniform(3, 6) * across + noise.uniform(0, 2 * np.pi))
            ridge = np.stack([across, horizon + depth + 0.2 * wave], 1)
            outline = np.concatenate([ridge, [[1, 1.1], [-1, 1.1]]])
            picture = _over(picture, _cover(outline), np.float32(shade) * (near + other) * 0.8)
        return picture
    if kind == "skyline":
        edges = np.concatenate([[-1], np.sort(noise.uniform(-0.9, 0.9, 6)), [1]])
        tops = horizon - noise.uniform(0.1, 0.7, 7)
        houses = [_box(a, t, b, horizon) for a, b, t in zip(edges, edges[1:], tops, strict=False)]
        return _over(land, _cover(*houses), other)
    if kind == "forest":
        trunks = noise.uniform(-1, 1, 8)
        widths = noise.uniform(0.04, 0.1, 8)
        stems = [_box(t - w, -1, t + w, 1) for t, w in zip(trunks, widths, strict=True)]
        return _over(land, _cover(*stems), other * np.float32(0.6))
    if kind == "road":
        road = np.array([[x - 0.04, horizon], [x + 0.04, horizon], [x + 0.8, 1], [x - 0.8, 1]])
        line = np.array([[x - 0.01, horizon], [x + 0.01, horizon], [x + 0.08, 1], [x - 0.08, 1]])
        return _over(_over(land, _cover(road), other), _cover(line), far)
    if kind == "corridor":
        end = _box(x - 0.25, horizon - 0.25, x + 0.25, horizon + 0.25)
        corners = _box(-1.1, -1.1, 1.1, 1.1)
        picture = other + _mottle(noise, 0.15)
        ceiling = np.array([corners[0], corners[1], end[1], end[0]])
        floor = np.array([corners[3], corners[2], end[2], end[3]])
        picture = _over(picture, _cover(ceiling), far)
        return _over(_over(picture, _cover(floor), near), _cover(end), 0.5 * near)
    if kind == "stairs":
        count, picture = noise.integers(5, 8), sky
        for step in range(count):
            top = horizon + (1 - horizon) * step / count
            half = 0.35 + 0.65 * step / count
            stair = x * (1 - step / count) + np.array([-half, half])
            paint = near if step % 2 else other
            picture = _over(picture, _cover(_box(stair[0], top, stair[1], 1)), paint)
        return picture
    panes = [
        _box(x + a - 0.26, horizon + b - 0.26, x + a + 0.26, horizon + b + 0.26)
        for a, b in product((-0.31, 0.31), repeat=2)
    ]
    wall = near + _mottle(noise, 0.15)
    frame = _box(x - 0.65, horizon - 0.65, x + 0.65, horizon + 0.65)
    return _over(_over(wall, _cover(frame), other), _cover(*panes), sky)


_LEAVES = list(product((4, 5, 6, 7), (0.1, 0.22)))


def _leaf(label: int, noise: np.random.Generator) -> np.ndarray:
    lobes, depth = _LEAVES[label]
    place = _placing(noise, turn=30, mirror=True)
    blade = polar(
        lambda a: 0.76 * (1 + depth * np.cos(lobes * a) + 0.03 * np.cos(24 * a)) * (1 - depth / 2)
    )
    stalk = _box(-0.03, -0.6, 0.03, 1.0)
    green = _colour(noise.uniform(0.2, 0.38), noise.uniform(0.45, 0.8), noise.uniform(0.35, 0.7))
    picture = _over(background(noise), _cover(place(stalk)), 0.6 * green)
    picture = _over(picture, _cover(place(blade * (0.85, 1))), green + _mottle(noise))
    vein = _box(-0.02, -0.6, 0.02, 0.6)
    return _over(picture, _cover(place(vein)), 0.65 * green)


FAMILIES: dict[str, Family] = {
    "stars": Family(
        "FGVC-Aircraft",
        "seven-pointed stars with any surface; the classes differ in the depth of the notches",
        tuple(f"notch {notch:g}" for notch in NOTCHES),
        _star,
    ),
    "birds": Family(
        "CUB-200",
        "one body; the classes differ in bill, crown and wing",
        tuple(f"{bill} bill, {crown} crown, {wing} wing" for bill, crown, wing in _BIRDS),
        _bird,
    ),
    "textures": Family(
        "DTD",
        "the stimuli's eight held-out textures over the whole image, in any hue",
        _HELD_OUT_TEXTURES,
        _surface,
    ),
    "signs": Family(
        "GTSRB",
        "octagonal plates in any light; the classes are a glyph and the plate's colours",
        tuple(f"{glyph} on {plate}" for plate, glyph in _SIGNS),
        _sign,
    ),
    "mushrooms": Family(
        "FGVCx Fungi",
        "brown mushrooms; the classes differ in the cap's height and the stem's width",
        tuple(f"cap {height:g}, stem {width:g}" for height, width in _MUSHROOMS),
        _mushroom,
    ),
    "scenes": Family(
        "Places365",
        "no object; the classes are layouts of the whole image, in any colours",
        _SCENES,
        _scene,
    ),
    "leaves": Family(
        "iNaturalist",
        "leaves with a number and a depth of lobes; classes are unequally frequent in training",
        tuple(f"{lobes} lobes, depth {depth:g}" for lobes, depth in _LEAVES),
        _leaf,
        (24, 17, 12, 9, 7, 5, 3, 3),
    ),
}
